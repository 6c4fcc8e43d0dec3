"""What runs in a Slurm job: a small process that looks after the workers of its packs.

A worker that is killed is started again in the same job. When Slurm announces the end of the job's
time, or that it makes room for another, the worker leaves checkpoints and the job asks to be queued
again. A job whose runs did not all end well ends in failure, so that Slurm shows it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import submitit

from lom_exp import handover, slurm
from lom_exp.errors import LomExpError
from lom_exp.launcher.attempts import Attempts
from lom_exp.runs import RunFolder
from lom_exp.sweeps import SweepFolder

_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class RunsFailed(LomExpError):
    """Runs of a job did not come to an end; their folders say why."""


@dataclass
class PackJob:
    """The packs of one job, in files of a sweep's folder; called by submitit in the job."""

    sweep: str  # its folder
    packs: list[str]
    retries: int
    since: float  # when the command was given, Unix seconds

    def __call__(self) -> None:
        """Have the packs trained; raises RunsFailed where one of their runs did not end well."""
        sweep = SweepFolder(Path(self.sweep))
        attempts = [Attempts(sweep, pack, self.retries, self.since) for pack in self.packs]
        failed: list[Path] = []
        with _Worker(str(submitit.JobEnvironment().paths.stdout)) as worker:
            for pack in attempts:
                # A job that is started again passes over the packs that it has brought to an end.
                code, again = handover.DONE, bool(pack.unfinished()) and not pack.has_failed()
                while again and not worker.stopping:
                    pack.started(worker.job)
                    code = worker.train(sweep.path / "packs" / f"{pack.pack}.json")
                    again = pack.again(worker.job, code)
                if again:
                    _requeue(worker.job)
                    return
                if code != handover.ELSEWHERE:
                    failed += pack.unfinished()
        if failed:
            raise RunsFailed(
                f"{len(failed)} runs did not finish:\n"
                + "\n".join(f"  {path.name}: {_last_line(path)}" for path in failed)
            )


def _requeue(job: str) -> None:
    """Have this job queued again, unless it is being cancelled or is on its way back already."""
    state = slurm.state_of(job)
    if state is not None and state.state == "RUNNING":
        slurm.requeue(job)


def _last_line(run: Path) -> str:
    error = str(RunFolder(run).position.get("error") or "it has not begun")
    return error.strip().splitlines()[-1]


class _Worker:
    """The worker of the moment; in its context the signals of Slurm are passed on to it."""

    def __init__(self, log: str) -> None:
        self.stopping = False
        self.job, _ = slurm.this_job() or ("", 0)
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = os.environ | {
            handover.LOG_VARIABLE: log,
            handover.PARENT_VARIABLE: str(os.getpid()),
        }

    def __enter__(self) -> _Worker:
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        return self

    def __exit__(self, *exception: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR2)

    def train(self, path: Path) -> int:
        """Train one pack in a process of its own; returns its exit code, or minus its signal."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lom_exp.worker", str(path)], env=self._environment
        )
        if self.stopping:  # the signal came as it was being started
            self._process.send_signal(signal.SIGUSR2)
        code = self._process.wait()
        early = (-signal.SIGUSR2, -signal.SIGTERM)  # before it could listen to signals
        return handover.INTERRUPTED if self.stopping and code in early else code
