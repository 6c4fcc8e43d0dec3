"""What follows when a worker ends: the one rule, for workers on this machine and in Slurm jobs.

What happened to a pack is written to the sweep's folder, so that its losses count together wherever
they happened.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from pathlib import Path

from lom_exp import handover
from lom_exp.errors import LomExpError
from lom_exp.files import read_json
from lom_exp.leases import holder
from lom_exp.runs import FINAL, RunFolder
from lom_exp.sweeps import Event, SweepFolder

_IDLE = "stopped before it got any further"
_MAX_IDLE_STOPS = 10  # in a row; after that the time limit is too short for any progress
log = logging.getLogger(__name__)


class Attempts:
    """The attempts at one pack by one command: those since a time, in Unix seconds.

    `job` is who makes them: the id of a Slurm job or "pid 4711".
    """

    def __init__(self, sweep: SweepFolder, pack: str, retries: int, since: float) -> None:
        self.sweep, self.pack, self.retries, self.since = sweep, pack, retries, since
        self._began = 0
        path = sweep.path / "packs" / f"{pack}.json"
        content = read_json(path)
        if content is None:
            raise LomExpError(f"{path} cannot be read; give the sweep's command again")
        runs = Path(content["execution"]["results"]) / "runs"
        self.folders = [runs / run["name"] for run in content["runs"]]

    def unfinished(self) -> list[Path]:
        """Folders of runs that are neither finished nor diverged."""
        return [path for path in self.folders if RunFolder(path).status not in FINAL]

    def abandoned(self) -> list[Path]:
        """Folders of runs that have come to no end at all, good or bad."""
        return [path for path in self.unfinished() if not self._has_ended(path)]

    def _has_ended(self, run: Path) -> bool:
        said = RunFolder(run).position
        return said.get("status") in ("failed", "lost") and said["time"] >= self.since

    def has_failed(self) -> bool:
        """Whether a worker has come to its end with runs that raised; those are not tried again."""
        return any(event.event == "failed" for event in self._events())

    def is_interrupted(self) -> bool:
        """Whether the pack's last worker was asked to stop, and left checkpoints."""
        return [event.event for event in self._events()][-1:] == ["interrupted"]

    def position(self) -> int:
        """Updates that the pack's runs have done, all together."""
        return sum(int(RunFolder(path).position.get("step", 0)) for path in self.folders)

    def _events(self) -> list[Event]:
        return [event for event in self.sweep.events(self.pack) if event.time >= self.since]

    def started(self, job: str) -> None:
        """Note that a worker was started."""
        self._began = self.position()
        self.sweep.note_event(self.pack, "started", job)

    def again(self, job: str, code: int) -> bool:
        """Whether to start a worker again after one ended; where not, its runs say why.

        `code` is its exit code, or minus the number of the signal that killed it.
        """
        if code == handover.ELSEWHERE:
            for path in self.unfinished():
                log.warning("%s is left to %s", path.name, holder(path) or "the next command")
        if code in (handover.DONE, handover.ELSEWHERE) or not self.unfinished():
            self.sweep.note_event(self.pack, "ended", job)
            return False
        if code == handover.FAILED:
            silent = "it could not begin; its output says why" if self.abandoned() else None
            self.sweep.note_event(self.pack, "failed", job, silent)
            return False
        if code == handover.INTERRUPTED:
            idle = self.position() <= self._began
            self.sweep.note_event(self.pack, "interrupted", job, _IDLE if idle else None)
            stops = [e.reason for e in self._events() if e.event == "interrupted"]
            if stops[-_MAX_IDLE_STOPS:] != [_IDLE] * _MAX_IDLE_STOPS:
                return True
            mark_lost(self.abandoned(), f"{_IDLE} {_MAX_IDLE_STOPS} times in a row")
            return False
        return self.lost(job, _explain(code))

    def lost(self, job: str, reason: str) -> bool:
        """Note that a worker was lost; returns whether a retry is left.

        Where none is left, the runs that it leaves without an end are marked as lost.
        """
        self.sweep.note_event(self.pack, "lost", job, reason)
        times = sum(event.event == "lost" for event in self._events())
        if times <= self.retries:
            log.warning("pack %s was lost (%s); attempt %d follows", self.pack, reason, times + 1)
            return True
        log.error("pack %s was lost (%s), for the last time", self.pack, reason)
        mark_lost(self.abandoned(), f"lost {times} times, at last: {reason}")
        return False


def mark_lost(folders: Sequence[Path], message: str) -> None:
    """Write so, and why, to the folders of runs that no process is at work on."""
    for path in folders:
        try:
            with RunFolder(path) as folder:
                before = folder.position
                if before.get("status") in FINAL:
                    continue
                kept = ("phase", "update", "step", "total", "score", "updates_per_second")
                folder.write_status("lost", {k: before[k] for k in kept if k in before}, message)
        except (LomExpError, OSError) as error:
            log.error("cannot mark %s as lost: %s", path, error)


def _explain(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed (SIGKILL): by the system where memory ran out, or by hand"
    if code == handover.DEVICE_LOST:
        return "its GPU failed; its output says how"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"the worker ended with code {code}"
