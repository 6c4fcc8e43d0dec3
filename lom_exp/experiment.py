"""Train, evaluate and record runs: the one place that knows everything below it."""

import importlib.metadata
import json
import logging
import platform
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from filelock import FileLock

from lom_exp import checkpoints, datasets, packs, tracking
from lom_exp.datasets import Dataset
from lom_exp.errors import ConfigError, LomExpError
from lom_exp.runs import FINAL, RunFolder, read_json, write_atomically
from lom_exp.runspec import ExecutionConfig, RunSpec, Sweep
from lom_exp.trainer import static_part
from lom_exp.training import Interrupted, PackTraining, Run

log = logging.getLogger(__name__)
_RECORDED_PACKAGES = ("lom-exp", "torch", "numpy", "h5py", "gymnasium", "mujoco", "hydra-core")


class Result(NamedTuple):
    """How a run ended: its folder and the status written there, with the error if it failed."""

    folder: Path
    status: str
    error: str | None


class StopSignal:
    """Set by Ctrl-C or SIGTERM in its context, so that training can stop after the update it is in.

    A second Ctrl-C is a KeyboardInterrupt at once.
    """

    def __init__(self) -> None:
        self._set = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._set:
            raise KeyboardInterrupt
        self._set = True
        log.warning("stopping after this update; checkpoints will be written")

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
    """Train the runs that are not finished yet, those that may train together side by side.

    One run's failure stops nothing but itself: it is written to its folder and returned.
    Raises Interrupted when asked to stop, DataError where the data of a run cannot be had.
    """
    device = resolve_device(execution.device)
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    results = Path(execution.results)
    fingerprints = {
        env: datasets.identify(env) for env in dict.fromkeys(spec.env for spec in specs)
    }
    runs: dict[str, Run] = {}  # by name: what is asked for twice is done once
    for spec in specs:
        data = fingerprints[spec.env]
        name = spec.name(data)
        runs[name] = Run(spec, RunFolder(results / "runs" / name), spec.id(data))
    names = list(runs)
    _describe_sweep(results / "sweeps" / sweep.name, sweep, names)
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignal())
        if execution.tracking.enabled:
            uri = execution.tracking.uri or tracking.default_uri(results)
            stack.enter_context(
                tracking.Mirror(results, sweep.name, names, uri, execution.tracking.experiment)
            )
        todo = [run for run in runs.values() if run.folder.status not in FINAL]
        log.info("%d runs, %d of them to be trained", len(runs), len(todo))
        keys = [pack_key(run.spec, fingerprints[run.spec.env]) for run in todo]
        for pack in packs.group(todo, keys):
            _run_pack(pack, execution, device, stop)
    return [Result(run.folder.path, run.folder.status, run.error) for run in runs.values()]


def pack_key(spec: RunSpec, data: str) -> list[Any]:
    """Runs with equal keys differ in seed and float hyperparameters only."""
    static, _ = static_part(spec.config)
    return [
        spec.algorithm,
        asdict(static),
        spec.updates,
        asdict(spec.env),
        asdict(spec.preprocessing),
        asdict(spec.evaluation),
        spec.dtype,
        data,
    ]


def _describe_sweep(folder: Path, sweep: Sweep, names: Sequence[str]) -> None:
    """Write what was asked for, and the names of the folders where it is to be found."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write results to {folder}: {error.strerror}; give a folder you may write to "
            "as results="
        ) from error
    path = folder / "sweep.json"
    with FileLock(folder / ".lock"):
        others = (read_json(path) or {}).get("runs", []) if sweep.is_part else []
        content = {
            "name": sweep.name,
            "command": [tracking.redact(word) for word in sweep.command],
            "overrides": [tracking.redact(word) for word in sweep.overrides],
            "runs": list(dict.fromkeys([*others, *names])),
            "time": time.time(),
        }
        write_atomically(path, json.dumps(content, indent=2).encode())


def _run_pack(
    pack: Sequence[Run], execution: ExecutionConfig, device: torch.device, stop: StopSignal
) -> None:
    """Train the runs of one pack; whatever goes wrong is written into their folders."""
    with ExitStack() as stack:
        free = [run for run in pack if _lock(run, stack)]
        try:
            if free:
                stack.enter_context(_default_dtype(pack[0].spec.dtype))
                _train_pack(free, execution, device, stop)
        except Interrupted:
            raise
        except Exception as error:
            known = isinstance(error, LomExpError | OSError)
            message = str(error) if known else traceback.format_exc()
            log.error("%s: %s", ", ".join(run.folder.path.name for run in free), message)
            for run in free:
                run.error = message
                _try_to_write_failure(run, message)


def _lock(run: Run, stack: ExitStack) -> bool:
    """Take a run's folder for as long as the stack lasts, unless another process has it."""
    try:
        stack.enter_context(run.folder)
    except (LomExpError, OSError) as error:
        run.error = str(error)
        log.error("%s", error)
        return False
    return True


def _train_pack(
    pack: Sequence[Run], execution: ExecutionConfig, device: torch.device, stop: StopSignal
) -> None:
    spec = pack[0].spec
    data = datasets.load(spec.env, spec.preprocessing, device)
    for run in pack:
        config = _without_credentials(run.spec.resolved)
        run.folder.describe(config, _record(run, data, execution, device))
    available = [checkpoints.steps(run.folder.checkpoints, run.id) for run in pack]
    for step, members in packs.meet(available):
        PackTraining([pack[i] for i in members], data, execution, device, stop).run(step)


def _without_credentials(config: dict[str, Any]) -> dict[str, Any]:
    uri = config["tracking"]["uri"]
    return {**config, "tracking": {**config["tracking"], "uri": uri and tracking.redact(uri)}}


def _try_to_write_failure(run: Run, message: str) -> None:
    if run.folder.status in FINAL:
        return
    position = read_json(run.folder.path / "status.json") or {}
    position = {key: position[key] for key in ("phase", "update", "step") if key in position}
    try:
        run.folder.write_status("failed", position, message)
    except OSError as error:  # a full or read-only disk is often what went wrong
        log.error("cannot write %s/status.json: %s", run.folder.path, error)


@contextmanager
def _default_dtype(name: str) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _record(
    run: Run, data: Dataset, execution: ExecutionConfig, device: torch.device
) -> dict[str, Any]:
    """What a number from this run stands on: its settings' sources, its data, code and machine."""
    spec = run.spec
    commit, dirty = _git_state()
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
        "compiled": execution.compile,
    }


def _git_state() -> tuple[str | None, bool | None]:
    """The commit of this code and whether it was changed since; None outside a git checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", str(folder)))
    except (OSError, subprocess.CalledProcessError):
        return None, None
