"""Train, evaluate and record runs: the one place that knows everything below it."""

import gc
import importlib.metadata
import logging
import platform
import signal
import threading
import traceback
from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from lom_exp import checkpoints, datasets, packs, tracking
from lom_exp.code_version import code_version
from lom_exp.datasets import Dataset, EnvConfig
from lom_exp.errors import ConfigError, DataError, LomExpError, SimulationError
from lom_exp.leases import Heartbeat, LeaseHeld
from lom_exp.precision import default_dtype, tf32
from lom_exp.runs import FINAL, RunFolder
from lom_exp.runspec import ExecutionConfig, RunSpec, Sweep
from lom_exp.sweeps import SweepFolder
from lom_exp.trainer import static_part
from lom_exp.training import Interrupted, PackTraining, Run

log = logging.getLogger(__name__)
_LESS = "Less is needed with pack_size=N, narrower networks, smaller batches or fewer components"
_PATIENCE = 60.0  # seconds for other processes to describe their part of a sweep
_RECORDED_PACKAGES = ("lom-exp", "torch", "numpy", "h5py", "gymnasium", "mujoco", "hydra-core")


class Result(NamedTuple):
    """How a run ended: its folder and the status written there, with the error if it failed."""

    folder: Path
    status: str
    error: str | None


class StopSignal:
    """Set by Ctrl-C, SIGTERM or SIGUSR2 in its context; training then stops where it can go on.

    Slurm sends SIGUSR2 ahead of a time limit and before it preempts. A second Ctrl-C is a
    KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self._set = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._set and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self._set:
            log.warning("%s: stopping; checkpoints will be written", signal.Signals(number).name)
        self._set = True

    def __call__(self) -> bool:
        return self._set


def resolve_device(name: str) -> torch.device:
    """The device of a name such as auto, cpu, cuda or cuda:1.

    Raises ConfigError for a CUDA device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"device={name} is not there: torch {torch.__version__} sees {count} CUDA devices; "
            "use device=cpu, or device=auto for the GPU where there is one"
        )
    return device


def run(specs: Sequence[RunSpec], execution: ExecutionConfig, sweep: Sweep) -> list[Result]:
    """Train, in this process, the runs that are not finished yet.

    One run's failure stops nothing but itself: it is written to its folder and returned.
    Raises Interrupted when asked to stop, DataError where the data of a run cannot be had.
    """
    resolve_device(execution.device)
    results = Path(execution.results)
    runs = prepare(specs, results)
    names = [run.folder.path.name for run in runs]
    folder = SweepFolder(results / "sweeps" / sweep.name)
    command, overrides = ([tracking.redact(word) for word in words] for words in sweep[1:3])
    with folder.alone(_PATIENCE):
        if sweep.is_part:
            folder.describe_part(command, overrides, names)
        else:
            folder.describe(command, overrides, names, launch=None)
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        if execution.tracking.enabled:
            uri = execution.tracking.uri or tracking.default_uri(results)
            stack.enter_context(
                tracking.Mirror(results, sweep.name, names, uri, execution.tracking.experiment)
            )
        return train(runs, execution, stop)


def prepare(
    specs: Sequence[RunSpec],
    results: Path,
    identify: Callable[[EnvConfig], str] = datasets.identify,
) -> list[Run]:
    """The runs of specs, each once; raises DataError where the data of one cannot be had.

    `identify` gives a dataset's fingerprint.
    """
    fingerprints = {env: identify(env) for env in dict.fromkeys(spec.env for spec in specs)}
    runs: dict[str, Run] = {}  # by name: what is asked for twice is done once
    for spec in specs:
        data = fingerprints[spec.env]
        name = spec.name(data)
        if name not in runs:
            id = name.rpartition("_")[2]  # spec.id, which the name has just worked out
            runs[name] = Run(spec, RunFolder(results / "runs" / name), id, data)
    return list(runs.values())


def train(
    runs: Sequence[Run], execution: ExecutionConfig, should_stop: Callable[[], bool]
) -> list[Result]:
    """Train the runs that are not finished yet, those that may train together side by side.

    Whatever goes wrong is written to the folders of the runs that it stops. Raises Interrupted when
    asked to stop.
    """
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    todo = [run for run in runs if run.folder.status not in FINAL]
    log.info("%d runs, %d of them to be trained", len(runs), len(todo))
    for pack in packs.group(todo, [pack_key(run.spec, run.data) for run in todo]):
        _train_pack(pack, execution, should_stop)
    return [Result(run.folder.path, run.folder.status, run.error) for run in runs]


def pack_key(spec: RunSpec, data: str) -> Hashable:
    """Runs with equal keys differ in seeds and in float and padded hyperparameters only."""
    static, _ = static_part(spec.config)
    return (
        spec.algorithm,
        static,
        tuple(spec.updates.items()),
        spec.env,
        spec.preprocessing,
        spec.evaluation,
        spec.dtype,
        data,
    )


def _train_pack(
    pack: Sequence[Run], execution: ExecutionConfig, should_stop: Callable[[], bool]
) -> None:
    """Train the runs of a pack that no other process is at work on."""
    with ExitStack() as stack:
        free = [run for run in pack if _lock(run, stack)]
        if not free:
            return
        stack.enter_context(Heartbeat([run.folder.lease for run in free]))
        stack.enter_context(default_dtype(pack[0].spec.dtype))
        stack.enter_context(tf32(execution.tf32))
        try:
            device = resolve_device(execution.device)
            data = _load(free, device)
            for run in free:
                config = _without_credentials(run.spec.resolved)
                run.folder.describe(config, _record(run, data, execution, device))
            waiting = [free]
            while waiting:
                waiting[:1] = _train_or_split(waiting[0], data, execution, device, should_stop)
        except (LomExpError, OSError) as error:  # of the data or the device, which all share
            _fail(free, str(error))


def _lock(run: Run, stack: ExitStack) -> bool:
    """Take a run's folder for as long as the stack lasts.

    Returns whether there is something left to train: another process may have it, or may have
    brought the run to its end while this one waited.
    """
    try:
        stack.enter_context(run.folder)
    except (LomExpError, OSError) as error:
        run.error, run.elsewhere = str(error), isinstance(error, LeaseHeld)
        log.error("%s", error)
        return False
    return run.folder.status not in FINAL


def _load(pack: Sequence[Run], device: torch.device) -> Dataset:
    """The data of a pack; raises DataError where they are not those its runs are named by."""
    spec = pack[0].spec
    fingerprint = datasets.identify(spec.env)
    if fingerprint != pack[0].data:
        raise DataError(
            f"the data of {spec.env.name} are not those of {pack[0].folder.path.name} any more: "
            f"their fingerprint was {pack[0].data} and is {fingerprint}. Bring the file back, or "
            "give the command again for runs on the new one"
        )
    return datasets.load(spec.env, spec.preprocessing, device)


def _train_or_split(
    pack: list[Run],
    data: Dataset,
    execution: ExecutionConfig,
    device: torch.device,
    should_stop: Callable[[], bool],
) -> list[list[Run]]:
    """Train runs together; what stops several of them is sought in each half, which is returned.

    So a run that raises fails alone and the others go on from their last checkpoints; and a pack
    that is too large for the memory becomes two that may fit.
    """
    try:
        available = [checkpoints.steps(run.folder.checkpoints, run.id) for run in pack]
        for step, members in packs.meet(available):
            PackTraining([pack[i] for i in members], data, execution, device, should_stop).run(step)
        return []
    except Interrupted:
        raise
    except torch.AcceleratorError:  # the process cannot use the device any more; another one may
        raise
    except SimulationError:  # of the environment, which all share
        raise
    except Exception as error:
        known = isinstance(error, LomExpError | OSError | torch.OutOfMemoryError)
        message = str(error) if known else traceback.format_exc()
        if isinstance(error, torch.OutOfMemoryError):
            message = f"{_count(pack)} not fit into the memory of {device}: {message}. {_LESS}"
    # The exception is gone here, and with it the memory that its frames held.
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    rest = [run for run in pack if run.folder.status not in FINAL and not run.elsewhere]
    if len(rest) > 1:
        half = len(rest) // 2
        log.warning(
            "a pack of %d runs was stopped; it goes on in two halves: %s", len(rest), message
        )
        return [rest[:half], rest[half:]]
    _fail(rest, message)
    return []


def _count(pack: Sequence[Run]) -> str:
    return "a single run does" if len(pack) == 1 else f"{len(pack)} runs together do"


def _fail(runs: Sequence[Run], message: str) -> None:
    """Write an error to the folders of the runs it stopped, where they can be written."""
    for run in runs:
        if run.folder.status in FINAL or run.elsewhere:
            continue
        run.error = message
        log.error("%s failed: %s", run.folder.path.name, message)
        position = run.folder.position
        kept = ("phase", "update", "step", "total", "score", "updates_per_second")
        try:
            run.folder.write_status(
                "failed", {key: position[key] for key in kept if key in position}, message
            )
        except (LomExpError, OSError) as error:  # a full disk is often what went wrong
            log.error("cannot write %s/status.json: %s", run.folder.path, error)


def _without_credentials(config: dict[str, Any]) -> dict[str, Any]:
    uri = config["tracking"]["uri"]
    return {**config, "tracking": {**config["tracking"], "uri": uri and tracking.redact(uri)}}


def _record(
    run: Run, data: Dataset, execution: ExecutionConfig, device: torch.device
) -> dict[str, Any]:
    """What a number from this run stands on: its settings' sources, its data, code and machine."""
    spec = run.spec
    commit, dirty = code_version()
    return {
        "id": run.id,
        "name": run.folder.path.name,
        "label": spec.label,
        "algorithm": spec.algorithm,
        "env": spec.env.name,
        "M": spec.M,
        "beta": spec.beta,
        "seed": spec.seed,
        "sources": spec.sources,
        "dataset": data.record,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        },
        "git_commit": commit,
        "git_dirty": dirty,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "vectorized": execution.vectorizes(device),
        "compiled": execution.compiles(device),
        "tf32": execution.tf32 and device.type == "cuda",
    }
