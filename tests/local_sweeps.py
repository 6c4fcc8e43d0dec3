"""Sweeps of small runs that real processes train on this machine, and what becomes of them."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from lom_exp import configuration, experiment
from lom_exp.leases import holder
from lom_exp.runspec import Sweep
from lom_exp.sweeps import Event, SweepFolder

ROOT = Path(__file__).parent.parent
PATIENCE = 120.0  # seconds; processes take long to start on a busy machine
BASE = (
    *("algo=bc", "env=hopper-medium", "network=toy", "algo.batch_size=32"),
    *("updates.policy=200", "evaluation.every=100", "evaluation.episodes=1"),
    *("evaluation.final_episodes=2", "log_every=5", "checkpoint_every=1e-9"),
    *("device=cpu", "tracking.enabled=false"),
)
Found = TypeVar("Found")


def eventually(look: Callable[[], Found]) -> Found:
    """What `look` finds, as soon as it finds anything."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.01)
    pytest.fail("it did not happen in time")


class Lab:
    """A folder of results, the commands that fill it, and the processes they start."""

    def __init__(self, data: Path, results: Path, env: dict[str, str] | None = None) -> None:
        self.data, self.results = data, results
        self.env = env  # of the commands; None is that of the tests

    def arguments(self, *more: str) -> list[str]:
        """Of a command line of launch.py."""
        return [*BASE, f"env.path={self.data}", f"results={self.results}", *more]

    def start(self, *more: str, root: Path = ROOT) -> subprocess.Popen[str]:
        """Launch a sweep from a process of its own, with the code in a folder."""
        return subprocess.Popen(
            [sys.executable, str(root / "launch.py"), *self.arguments(*more)],
            cwd=root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A test that is itself run in the background of a shell would have it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def sweep(self, name: str) -> SweepFolder:
        return SweepFolder(self.results / "sweeps" / name)

    def run(self, name: str) -> Path:
        return self.results / "runs" / name

    def train_here(self, overrides: Sequence[Sequence[str]]) -> list[experiment.Result]:
        """Train runs in this process, undisturbed."""
        specs = [configuration.compose(self.arguments(*each)) for each in overrides]
        execution, _ = configuration.execution_config(specs)
        return experiment.run(specs, execution, Sweep("undisturbed", [], []))

    def workers(self) -> list[int]:
        """Ids of all workers that were started here and have not ended."""
        paths = self.results.glob("sweeps/*/packs/*.events.jsonl")
        events = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        pids = [int(event["job"].split()[1]) for event in events if event["event"] == "started"]
        return [pid for pid in pids if is_alive(pid)]

    def clear(self) -> None:
        """End what a test has left at work."""
        launchers = [holder(path) for path in self.results.glob("sweeps/*")]
        pids = [launcher.owner.pid for launcher in launchers if launcher]
        for pid in [*pids, *self.workers()]:  # a launcher would start its workers again
            if pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def state_of(process: Path) -> str:
    """Of a process or thread in /proc, in its letter: R, S, D, T, Z; X where it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return state_of(Path(f"/proc/{pid}")) not in "ZX"


def is_told_to_stop(pid: int, number: signal.Signals = signal.SIGTERM) -> bool:
    """Whether a signal waits for a frozen process to go on."""
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    [pending] = [field.split()[1] for field in fields if field.startswith("ShdPnd")]
    return bool(int(pending, 16) >> (number - 1) & 1)


@contextmanager
def frozen(pid: int) -> Iterator[int]:
    """A process that stands still meanwhile, so that it cannot end too early."""
    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: all(state_of(t) in "TX" for t in Path(f"/proc/{pid}/task").iterdir()))
        yield pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def status(run: Path) -> dict[str, object]:
    """What a run last wrote of itself, empty before it has begun."""
    path = run / "status.json"
    content: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
    return content


def steps(run: Path) -> list[int]:
    """The updates at which a run has checkpoints, in order."""
    return sorted(int(path.stem) for path in (run / "checkpoints").glob("*.pt"))


def worker_at_work(run: Path, other_than: int = 0) -> int:
    """The process that trains a run, once it has written a checkpoint."""

    def look() -> int:
        said, before = status(run), steps(run)
        pid = int(str(said.get("job", "pid 0")).split()[1])
        is_new = said.get("status") == "running" and pid != other_than and is_alive(pid)
        if not is_new or not before:
            return 0
        return pid if eventually(lambda: steps(run) != before or not is_alive(pid)) else 0

    return eventually(look)


def events(sweep: SweepFolder, run: str) -> list[Event]:
    """What happened to the packs that a run was in, in order."""
    packs = [
        pack for s in sweep.ledger().submissions for pack, names in s.runs.items() if run in names
    ]
    found = [event for pack in dict.fromkeys(packs) for event in sweep.events(pack)]
    return sorted(found, key=lambda event: event.time)
