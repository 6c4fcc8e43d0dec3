"""Cases in processes of their own, several starting at a time and one timed at a time.

Compiling takes most of a case's time, and other cores can do it meanwhile; while a case is timed
the others wait. A case that fails is kept with its error, and the next ones go on. When the time
that is left would not do for another wave, the cases that remain are left out and named.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.cases import Case
from benchmarks.worker import MARK

ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
_MOST_SECONDS = threading.TIMEOUT_MAX  # a timer cannot wait for ever


class CaseFailed(Exception):
    """The case's process ended without its results."""


class OutOfTime(CaseFailed):
    """It was killed at the deadline."""


def say(text: str) -> None:
    """Progress, with the time."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


class Process(Protocol):
    """A case that has been started."""

    def ready(self) -> None:
        """Wait until it can be timed; raises CaseFailed."""

    def results(self) -> list[Result]:
        """Time it; raises CaseFailed."""


@dataclass
class Outcome:
    """What came of the cases."""

    results: list[Result] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # case and error
    left_out: list[str] = field(default_factory=list)  # for want of time

    def without(self, case: Case, error: CaseFailed) -> None:
        """Name a case that has no results."""
        if isinstance(error, OutOfTime):
            self.left_out.append(str(case))
        else:
            self.failed[str(case)] = str(error)


def run(
    cases: Sequence[Case],
    *,
    parallel: int,
    deadline: float,
    keep: Callable[[Result], None] = lambda result: None,
    report: Callable[[str], None] = lambda text: None,
    start: Callable[[Case, float], Process] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Time the cases in their order until the deadline, `parallel` of them starting at once.

    Each result is given to `keep` as it comes, and what happens is told to `report`.

    `deadline` is a time of the clock. A wave is started if one as long as the longest so far would
    end before it; what is not done by then is killed and left out.
    """
    start = start or WorkerProcess
    outcome, longest = Outcome(), 0.0
    for first in range(0, len(cases), parallel):
        wave, began = cases[first : first + parallel], clock()
        if began + longest > deadline:
            outcome.left_out += [str(case) for case in cases[first:]]
            report(f"out of time; left out: {len(cases) - first} cases")
            break
        started = [(case, start(case, deadline - began)) for case in wave]
        ready = []
        for case, process in started:
            try:
                process.ready()
                ready.append((case, process))
            except CaseFailed as error:
                outcome.without(case, error)
                report(f"{case}: {error}")
        for case, process in ready:
            try:
                for result in process.results():
                    outcome.results.append(result)
                    keep(result)
                report(f"{case}: done")
            except CaseFailed as error:
                outcome.without(case, error)
                report(f"{case}: {error}")
        longest = max(longest, clock() - began)
    return outcome


class WorkerProcess:
    """benchmarks.worker with a case, killed after so many seconds."""

    def __init__(self, case: Case, seconds: float) -> None:
        # A file, as a pipe that nobody reads would fill and block the process.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", "benchmarks.worker"]
        self._process = subprocess.Popen(
            [*command, json.dumps(asdict(case)), repr(time.time())],
            cwd=ROOT,
            env={**os.environ, **_threads(case)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # so that what it has started can be killed with it
        )
        self._late = False
        self._timer = threading.Timer(min(max(seconds, 0), _MOST_SECONDS), self._kill)
        self._timer.daemon = True
        self._timer.start()

    def _kill(self) -> None:
        self._late = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def ready(self) -> None:
        self._until("ready")

    def results(self) -> list[Result]:
        assert self._process.stdin
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except OSError:
            self._end()
        results = self._until("done")
        self._timer.cancel()
        self._process.communicate()
        return results

    def _until(self, last: str) -> list[Result]:
        """Messages up to one that has the key `last`."""
        assert self._process.stdout
        messages: list[Result] = []
        for line in self._process.stdout:
            if line.startswith(MARK):
                message = json.loads(line.removeprefix(MARK))
                if last in message:
                    return messages
                messages.append(message)
        return self._end()

    def _end(self) -> Any:
        """Raise CaseFailed with the last line of the process's errors."""
        self._timer.cancel()
        code = self._process.wait()
        if self._late:
            raise OutOfTime("killed: out of time")
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        raise CaseFailed(lines[-1][:500] if lines else f"it ended with code {code}")


def _threads(case: Case) -> dict[str, str]:
    """Threads of the process: the compiler's children, too, would else be one a core each."""
    compiling = {
        "TORCHINDUCTOR_COMPILE_THREADS": os.environ.get("TORCHINDUCTOR_COMPILE_THREADS", "1")
    }
    return compiling | ({"OMP_NUM_THREADS": str(case.threads)} if case.threads else {})
