"""Carries out sweeps: what is not finished is packed, handed out, and looked after to its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from lom_exp import cores, datasets, experiment, packfiles, packs, plan, slurm, tracking
from lom_exp.code_version import ROOT
from lom_exp.datasets import EnvConfig
from lom_exp.errors import DataError, LomExpError
from lom_exp.handover import TRACKING_VARIABLE
from lom_exp.launcher import cluster, local, snapshot
from lom_exp.launcher.cluster import ClusterConfig, SlurmQueue
from lom_exp.launcher.live import LiveTable
from lom_exp.launcher.local import LocalQueue, Slot
from lom_exp.launcher.status import Survey, Surveyor
from lom_exp.leases import Owner, holder
from lom_exp.packfiles import Pack
from lom_exp.runs import FINAL, RunFolder
from lom_exp.runspec import ExecutionConfig, LaunchConfig, RunSpec, Sweep, TrackingConfig
from lom_exp.sweeps import SweepFolder
from lom_exp.training import Run

GPU_PACK_SIZE = 32  # runs; a pack that turns out too large for the memory is split
_SECONDS_TO_STOP = 60.0  # of a launcher that is told to
_FIRST_PAUSE = 0.1  # seconds between two looks at a sweep; the pauses grow


@dataclass(frozen=True)
class Settings:
    """How a sweep is carried out: all that `retry` has to know besides its packs."""

    execution: ExecutionConfig
    launch: LaunchConfig
    cluster: ClusterConfig | None  # None for workers on this machine
    workers: int | None = None  # on this machine at once; None is one per GPU, or per core

    def plain(self) -> dict[str, Any]:
        """As JSON has it, without a password."""
        plain = asdict(self)
        uri = plain["execution"]["tracking"]["uri"]
        plain["execution"]["tracking"]["uri"] = uri and tracking.redact(uri)
        return plain

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Settings:
        """From what `plain` gives."""
        execution = {**plain["execution"]}
        execution["tracking"] = TrackingConfig(**execution["tracking"])
        return cls(
            ExecutionConfig(**execution),
            LaunchConfig(**plain["launch"]),
            ClusterConfig(**plain["cluster"]) if plain["cluster"] else None,
            plain["workers"],
        )


def carry_out(specs: Sequence[RunSpec], settings: Settings, sweep: Sweep) -> Survey:
    """Have the runs of a sweep trained that are not finished; how the sweep then stands.

    With `wait` set it returns when all have come to an end, which need not be a good one. Raises
    ConfigError, DataError and the like before anything is started; KeyboardInterrupt where a user
    has stopped the waiting.
    """
    if settings.cluster:
        slurm.require()
    results = Path(settings.execution.results).absolute()
    settings = replace(settings, execution=replace(settings.execution, results=str(results)))
    runs = experiment.prepare(specs, results)
    folder = SweepFolder(results / "sweeps" / sweep.name)
    with folder.alone():
        command, overrides = ([tracking.redact(word) for word in words] for words in sweep[1:3])
        names = [run.folder.path.name for run in runs]
        folder.describe(command, overrides, names, settings.plain())
        if settings.launch.wait or settings.cluster:
            return _hand_out(folder, runs, settings)
    return _leave_to_another_process(folder)


def go_on(folder: SweepFolder) -> Survey:
    """What `carry_out` does, for the runs of a sweep as they were handed out last.

    Raises LomExpError where that is not known.
    """
    described = folder.described()
    plain = described.get("launch")
    newest = {  # the pack of each run
        run: pack
        for submission in folder.ledger().submissions
        for pack, names in submission.runs.items()
        for run in names
    }
    unknown = [name for name in described["runs"] if name not in newest]
    if plain is None or unknown:
        raise LomExpError(
            f"{folder.name} was never handed out as a whole; give its command again: "
            + " ".join(described["command"])
        )
    settings = Settings.of(plain)
    if settings.cluster:
        slurm.require()
    # Workers on this machine would end with this process; jobs on a cluster go on.
    settings = replace(settings, launch=replace(settings.launch, wait=settings.cluster is None))
    runs: dict[str, Run] = {}
    for pack in dict.fromkeys(newest.values()):
        read = packfiles.read(folder.path / "packs" / f"{pack}.json")
        for name, spec in zip(read.names, read.specs, strict=True):
            path = folder.results / "runs" / name
            runs[name] = Run(spec, RunFolder(path), spec.id(read.data), read.data)
    with folder.alone():
        return _hand_out(folder, [runs[name] for name in described["runs"]], settings)


def require_finished(survey: Survey) -> None:
    """Raise an error where runs have come to an end that is none of theirs; they were named."""
    left = len(survey.rows) - survey.count(*FINAL)
    if left:
        raise LomExpError(f"{left} of {len(survey.rows)} runs did not finish (see above)")


def forecast(name: str, specs: Sequence[RunSpec], settings: Settings) -> str:
    """What `carry_out` would do, in words; downloads and writes nothing."""
    results = Path(settings.execution.results).absolute()
    absent: set[str] = set()

    def identify(env: EnvConfig) -> str:
        with contextlib.suppress(DataError):  # of a path that is another machine's
            found = datasets.identify_if_present(env)
            if found is not None:
                return found
        absent.add(env.name)
        return "absent"

    runs = experiment.prepare(specs, results, identify)
    todo = [run for run in runs if run.folder.status not in FINAL]
    divided = _divide(runs, todo, settings, _slots(settings))
    jobs = len(divided)
    device = settings.execution.device
    if settings.cluster:
        jobs = min(jobs, settings.cluster.max_jobs or jobs)
        device = "cpu" if device == "cpu" else "cuda"
    return plan.describe(
        name,
        [run.spec for run in runs],
        [[run.spec for run in members] for members, _ in divided],
        jobs=jobs,
        absent=absent,
        pack_size=settings.launch.pack_size,
        execution=settings.execution,
        device=torch.device(device) if settings.cluster else experiment.resolve_device(device),
    )


def cancel(folder: SweepFolder) -> str:
    """Stop what is at work on a sweep; returns what was done, in words.

    Raises LomExpError where that is out of reach: workers on another machine.
    """
    done = []
    has_jobs = any(s.scheduler == SlurmQueue.scheduler for s in folder.ledger().submissions)
    if has_jobs:
        slurm.require()
    launcher = holder(folder.path)
    elsewhere = launcher is not None and launcher.owner.host != Owner.of_this_process().host
    if launcher is not None and not elsewhere:
        os.kill(launcher.owner.pid, signal.SIGTERM)
        checkpoints = "" if has_jobs else "; its workers leave checkpoints"
        done.append(f"process {launcher.owner.pid} was told to stop{checkpoints}")
    if has_jobs:
        # A launcher here may be submitting; one elsewhere learns of it from the sweep's folder.
        with contextlib.nullcontext() if elsewhere else folder.alone(_SECONDS_TO_STOP):
            count = len(cluster.cancel(folder))
        done.append(f"{count} job{'s' * (count != 1)} cancelled")
    elif launcher is not None and elsewhere:
        raise LomExpError(
            f"{folder.name} is looked after by process {launcher.owner.pid} on "
            f"{launcher.owner.host}; give the command there"
        )
    return "; ".join(done) or "nothing is at work on it"


def _hand_out(folder: SweepFolder, runs: Sequence[Run], settings: Settings) -> Survey:
    """Pack what is not finished, give it to a queue and, if asked to, wait."""
    launch, execution = settings.launch, settings.execution
    code = snapshot.take(folder.results)
    slots = _slots(settings)
    queue: SlurmQueue | LocalQueue
    if settings.cluster:
        queue = SlurmQueue(folder, code, settings.cluster, launch.retries)
    else:
        queue = LocalQueue(folder, code, slots, launch.retries)
    todo = [
        run
        for run in runs
        if run.folder.path.name not in queue.runs and run.folder.status not in FINAL
    ]
    divided = [
        Pack(
            sweep=folder.name,
            names=tuple(run.folder.path.name for run in members),
            data=members[0].data,
            specs=tuple(_without_secrets(run.spec) for run in members),
            execution=replace(
                execution,
                threads=threads,
                tracking=replace(execution.tracking, uri=None, enabled=_workers_track(settings)),
            ),
        )
        for members, threads in _divide(runs, todo, settings, slots)
    ]
    with ThreadPoolExecutor() as pool:  # most of the time goes by until the disk has them
        list(pool.map(partial(packfiles.write, folder.path / "packs"), divided))
    uri = execution.tracking.uri
    # A `retry` knows it without its password, and leaves the variable to the user.
    if uri and _workers_track(settings) and "://***@" not in uri:
        os.environ[TRACKING_VARIABLE] = uri  # which sbatch hands on to the jobs
    if divided:
        queue.put({pack.id: list(pack.names) for pack in divided})
    surveyor = Surveyor(folder)
    if not launch.wait:
        return surveyor.look()._replace(launcher=False)  # as soon as this one ends
    with _mirror(folder, runs, settings):
        survey = _watch(queue, surveyor)
    _report(folder, settings)
    return survey


def _slots(settings: Settings) -> list[Slot]:
    if settings.cluster:
        return [Slot(gpu="of the job")]
    execution = settings.execution
    return local.slots(execution.device, execution.threads, settings.workers)


def _divide(
    runs: Sequence[Run], todo: Sequence[Run], settings: Settings, slots: Sequence[Slot]
) -> list[tuple[list[Run], int]]:
    """The packs of what is to be done of a sweep's runs, and the threads of each."""
    spread = max(1, -(-len(runs) // len(slots)))  # no GPU, and no core, is to be idle
    # On cores alone the runs of a pack are trained one after the other, however many they are.
    size = settings.launch.pack_size or (min(GPU_PACK_SIZE, spread) if slots[0].gpu else spread)
    if settings.execution.threads:
        threads = settings.execution.threads
    elif settings.cluster:
        threads = settings.cluster.cpus
    else:
        # By all runs, so that a command that is given again gives the same threads.
        threads = max(1, len(cores.available()) // min(len(slots), len(_packed(runs, size, 1))))
    return _packed(todo, size, threads)


def _packed(runs: Sequence[Run], size: int, threads: int) -> list[tuple[list[Run], int]]:
    """Packs of at most `size` runs that may train together, and the threads of each.

    A run that has begun on a CPU goes on with the threads it had: with others it would not come to
    the same bits.
    """
    shares = []
    for run in runs:
        record = run.folder.record
        shares.append(int(record["threads"]) if record.get("device") == "cpu" else threads)
    keys = [
        (experiment.pack_key(run.spec, run.data), share)
        for run, share in zip(runs, shares, strict=True)
    ]
    groups = packs.group(zip(runs, shares, strict=True), keys)
    for group in groups:  # runs of one seed may have critics and mixtures in common
        group.sort(key=lambda pair: pair[0].spec.seed)
    parts = [part for group in groups for part in packs.split(group, size)]
    return [([run for run, _ in part], part[0][1]) for part in parts]


def _watch(queue: SlurmQueue | LocalQueue, surveyor: Surveyor) -> Survey:
    """Show how the sweep fares until nothing is left to do."""
    pause = _FIRST_PAUSE
    with LiveTable() as table, _signals_as_ctrl_c():
        try:
            while True:
                began = time.monotonic()
                survey = surveyor.look(queue.poll())
                table.update(survey)
                if not queue.busy:
                    return survey
                # A large sweep takes long to look at, and a scheduler must not be asked too often.
                pause = min(pause * 1.5, queue.longest_pause)
                time.sleep(max(pause, 5 * (time.monotonic() - began)))
        except KeyboardInterrupt:
            table.update(surveyor.look(queue.stop()))
            raise


@contextlib.contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """A terminal that is closed, and `kill`, are taken as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_to_another_process(folder: SweepFolder) -> Survey:
    """Start the same command again, in a process that outlives this terminal and waits."""
    words = sys.argv[1:]
    # After the last override, not at the end: Hydra takes none that a flag parts from the others.
    overrides = [i for i, word in enumerate(words, 1) if "=" in word and not word.startswith("-")]
    words.insert(max(overrides, default=0), "wait=true")
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    with (folder.path / "launcher.log").open("ab") as output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Surveyor(folder).look({})._replace(launcher=True)


def _workers_track(settings: Settings) -> bool:
    """Whether workers tell MLflow of their runs themselves: those of a cluster tell a server.

    A file of sqlite on a shared file system is written by one process alone.
    """
    tracked = settings.execution.tracking
    is_server = tracked.uri is not None and not tracked.uri.startswith("sqlite")
    return bool(settings.cluster) and tracked.enabled and is_server


@contextlib.contextmanager
def _mirror(folder: SweepFolder, runs: Sequence[Run], settings: Settings) -> Iterator[None]:
    """Tell MLflow of the runs, where their workers do not."""
    tracked = settings.execution.tracking
    if not tracked.enabled or _workers_track(settings):
        yield
        return
    uri = tracked.uri or tracking.default_uri(folder.results)
    names = [run.folder.path.name for run in runs]
    with tracking.Mirror(folder.results, folder.name, names, uri, tracked.experiment):
        yield


def _report(folder: SweepFolder, settings: Settings) -> None:
    """Draw what the sweep has come to, and give MLflow a copy."""
    from analysis import sweep  # its plots take long to load

    tracked = settings.execution.tracking
    if sweep.report(folder.path) and tracked.enabled:
        uri = tracked.uri or tracking.default_uri(folder.results)
        tracking.log_sweep_artifacts(folder.results, folder.name, uri, tracked.experiment)


def _without_secrets(spec: RunSpec) -> RunSpec:
    uri = spec.resolved["tracking"]["uri"]
    node = {**spec.resolved["tracking"], "uri": uri and tracking.redact(uri)}
    return replace(spec, resolved={**spec.resolved, "tracking": node})
