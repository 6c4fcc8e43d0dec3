"""Where each run of a sweep stands: its own status file and its job's state, made one.

A run's file says what the run last knew of itself; whether anything still works on it only its job
can tell. Nothing here writes, so it may be asked from any machine that sees the folders.
"""

import json
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

from lom_exp import leases, slurm
from lom_exp.errors import LomExpError
from lom_exp.runs import FINAL
from lom_exp.slurm import JobState
from lom_exp.sweeps import Event, Ledger, Submission, SweepFolder

STATES = (
    "finished",
    "running",
    "queued",  # it begins, or goes on, when the scheduler lets it
    "waiting",  # not submitted yet
    "interrupted",  # it left a checkpoint, and no job will go on with it
    "cancelled",
    "diverged",
    "failed",
    "lost",  # its job ended without a word from it
)
ACTIVE = ("running", "queued")
MISSING = ("interrupted", "cancelled", "failed", "lost")  # what the same command would do again
PROBLEMS = ("failed", "lost", "diverged")
_GONE = "GONE"  # a job that its scheduler knows no more, a process that has ended
_PENDING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING")
_BATCH = 200  # status files that a thread reads in one go
_SILENCE = 600.0  # seconds after which a launcher on another machine counts as gone
_CLOCK_ERROR = 60.0  # seconds by which a process may seem to have begun after it wrote
_REASONS = {
    "NODE_FAIL": "its node failed",
    "OUT_OF_MEMORY": "it needed more memory than it had asked for; ask for more",
    "TIMEOUT": "it reached its time limit; ask for more time",
    "DEADLINE": "it could not end before its deadline",
    "PREEMPTED": "it was preempted and not requeued",
    "COMPLETED": "this run was not done, though",
    "CANCELLED": "it was cancelled, but not by this launcher",
}


class Row(NamedTuple):
    """One run, as a person or a script wants to see it."""

    name: str
    state: str  # one of STATES
    phase: str | None = None
    update: int | None = None  # of the phase
    step: int = 0  # updates done, of all phases
    total: int | None = None  # updates of the whole run; None before it has begun
    score: float | None = None  # mean normalized score of the last evaluation
    updates_per_second: float | None = None
    seconds_left: float | None = None  # at this rate
    node: str | None = None
    job: str | None = None
    reason: str | None = None  # why it is queued
    error: str | None = None  # whole; the last line says the most
    age: float | None = None  # seconds since the run last wrote its status
    log: str | None = None


class Survey(NamedTuple):
    """A sweep at one moment."""

    sweep: SweepFolder
    rows: list[Row]
    seconds: float | None  # since the first submission, until the end where there is one
    unasked: str | None = None  # why Slurm was not asked though it should have been
    refused: str | None = None  # what the scheduler said to the last submission, if it took none
    launcher: bool = False  # whether one is at work, which submits what waits

    def count(self, *states: str) -> int:
        """How many runs are in one of these states."""
        return sum(row.state in states for row in self.rows)


class Surveyor:
    """Looks at a sweep as often as it is asked to; what cannot change is read once."""

    def __init__(self, sweep: SweepFolder) -> None:
        self.sweep = sweep
        self._final: dict[str, dict[str, Any]] = {}

    def look(
        self, states: Mapping[str, JobState] | None = None, runs: Sequence[str] | None = None
    ) -> Survey:
        """The rows of all runs, or of some, in the sweep's order.

        `states` are those of the sweep's Slurm jobs, from a caller who has asked; without them
        Slurm is asked here. Raises SweepError where the sweep's files cannot be read.
        """
        described = self.sweep.described()
        ledger = self.sweep.ledger()
        names: Sequence[str] = described["runs"] if runs is None else runs
        assignments = _assignments(ledger)
        ahead = (run for name in names if name in assignments for run in assignments[name].ahead)
        statuses = self._statuses(dict.fromkeys([*names, *ahead]))
        unasked = None
        if states is None:
            open_runs = [name for name in names if name not in self._final]
            ids = {assignments[name].job for name in open_runs if name in assignments}
            ids |= {statuses[name].get("job") for name in open_runs}
            states, unasked = self._ask({id for id in ids if id and not _is_process(id)})
        jobs = _Jobs(self.sweep, ledger.cancelled, statuses, states)
        now = time.time()
        rows = [_row(name, statuses[name], assignments.get(name), jobs, now) for name in names]
        for i, row in enumerate(rows):
            if row.state == "lost":  # unless it ended well after its file was read
                status = _read_status(self.sweep.results / "runs", row.name)
                rows[i] = _row(row.name, status, assignments.get(row.name), jobs, now)
        begun = min([described.get("time", now), *(s.time for s in ledger.submissions)])
        if any(row.state in ACTIVE for row in rows):
            end = now
        else:
            end = max((status.get("time", begun) for status in statuses.values()), default=begun)
        refused = ledger.submissions[-1].refused if ledger.submissions else None
        at_work = _is_held(self.sweep.path)
        # A sweep of runs that others had finished before took no time of its own.
        seconds = end - begun if end > begun else None
        return Survey(self.sweep, rows, seconds, unasked, refused, at_work)

    def _statuses(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """What the runs' status files say; empty for a run that has none."""
        unknown = [name for name in names if name not in self._final]
        batches = [unknown[i : i + _BATCH] for i in range(0, len(unknown), _BATCH)]
        runs = self.sweep.results / "runs"
        with ThreadPoolExecutor() as pool:  # a file system over a network answers many at a time
            read = pool.map(lambda batch: [_read_status(runs, name) for name in batch], batches)
            found = dict(zip(unknown, (status for batch in read for status in batch), strict=True))
        self._final |= {name: s for name, s in found.items() if s.get("status") in FINAL}
        return found | self._final

    def _ask(self, jobs: Collection[str]) -> tuple[dict[str, JobState] | None, str | None]:
        """Slurm's states of jobs; None, and why, where it cannot tell."""
        if not jobs:
            return {}, None
        if self.sweep.path.stat().st_uid != os.getuid():
            return None, "it tells each user of their own jobs only, and these are another's"
        try:
            return slurm.states(jobs), None
        except LomExpError as error:
            return None, str(error)


def row_of_folder(run: Path) -> Row:
    """A run by its own word alone."""
    return _told(run.name, _read_status(run.parent, run.name), time.time())


def _read_status(runs: Path, name: str) -> dict[str, Any]:
    # Not read_json: of ten thousand files, pathlib takes longer than the disk.
    try:
        with open(f"{runs}/{name}/status.json", "rb") as file:
            content = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class _Assignment(NamedTuple):
    """The newest submission of a run that was not refused."""

    submission: Submission
    pack: str
    job: str | None
    ahead: list[str]  # runs that the job trains before those of this pack


def _assignments(ledger: Ledger) -> dict[str, _Assignment]:
    found: dict[str, _Assignment] = {}
    for submission in ledger.submissions:
        if submission.refused is not None:
            continue
        for job, packs in submission.assignments():
            ahead: list[str] = []
            for pack in packs:
                assignment = _Assignment(submission, pack, job, list(ahead))
                found |= dict.fromkeys(submission.runs[pack], assignment)
                ahead += submission.runs[pack]
    return found


def _is_process(job: str) -> bool:
    return job.startswith("pid ")


def _is_held(folder: Path) -> bool:
    """Whether a process that may still live has the lease of a folder."""
    held = leases.holder(folder)
    if held is None or held.silence > _SILENCE:
        return False
    return held.owner.host != socket.gethostname() or _is_alive(held.owner.pid, held.since)


class _Jobs:
    """What is known of the jobs behind the runs."""

    def __init__(
        self,
        sweep: SweepFolder,
        cancelled: set[str],
        statuses: Mapping[str, Mapping[str, Any]],
        states: Mapping[str, JobState] | None,
    ) -> None:
        self.cancelled = cancelled
        self._statuses, self._states = statuses, states
        self._events = cache(sweep.events)
        self._host = socket.gethostname()

    def of_run(
        self, status: Mapping[str, Any], assignment: _Assignment | None
    ) -> tuple[str | None, JobState | None]:
        """The job that a run depends on, and its state, None where nobody here can tell.

        That is the newest one, or the one that the run last wrote of if that alone goes on.
        """
        found: dict[str, JobState | None] = {}
        if assignment and assignment.submission.scheduler == "slurm" and assignment.job:
            found[assignment.job] = self._state(assignment.job)
        elif assignment and (start := self._last_start(assignment)):
            found[start.job] = self._state(start.job, start.host, start.time)
        if status.get("job") and status["job"] not in found:
            found[status["job"]] = self._state(
                status["job"], status.get("host", ""), status["time"]
            )
        going_on = {job: state for job, state in found.items() if state and not _is_over(state)}
        return next(iter((going_on or found).items()), (None, None))

    def _last_start(self, assignment: _Assignment) -> Event | None:
        """When a local worker was last started on a pack; before that, the pack waits."""
        starts = [e for e in self._events(assignment.pack) if e.event == "started"]
        return starts[-1] if starts and starts[-1].time >= assignment.submission.time else None

    def _state(self, job: str, host: str = "", by: float = inf) -> JobState | None:
        """The state of a Slurm job, or of a process on a host that had started by a time."""
        if not _is_process(job):
            return None if self._states is None else self._states.get(job, JobState(_GONE, "", ""))
        if host != self._host:
            return None
        alive = _is_alive(int(job.split()[1]), by)
        return JobState("RUNNING" if alive else _GONE, host, "")

    def is_behind(self, assignment: _Assignment) -> bool:
        """Whether the job is still busy with runs that it trains earlier."""
        ahead = (self._statuses.get(run, {}).get("status") for run in assignment.ahead)
        return any(said not in (*FINAL, "failed") for said in ahead)

    def was_stopped(self, job: str, pack: str) -> bool:
        """Whether a worker on this machine ended because it was asked to."""
        seen = [event.event for event in self._events(pack) if event.job == job]
        return _is_process(job) and seen[-1:] == ["interrupted"]

    def why_over(self, job: str, state: JobState, pack: str | None) -> str:
        """How a job ended, in one line."""
        events = self._events(pack) if pack else []
        seen = [event.reason for event in events if event.job == job and event.reason]
        if _is_process(job):
            words = seen[-1] if seen else "killed, or the machine was switched off"
            return f"its process ({job} on {state.node}) is gone: {words}"
        words = _REASONS.get(state.state) or (seen[-1] if seen else state.reason)
        on = f" on {state.node}" if state.node else ""
        ended = "is over" if state.state == _GONE else f"ended {state.state}"
        return f"job {job}{on} {ended}" + f": {words}" * bool(words)


def _is_over(state: JobState) -> bool:
    return state.state == _GONE or slurm.is_over(state.state)


def _is_alive(pid: int, by: float) -> bool:
    """Whether a process lives; one that began after `by` was only given the same number."""
    if not Path("/proc/self/stat").exists():  # not Linux
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        # After the program's name, which may hold spaces: state, ..., start in ticks since boot.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return False
    start = time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0] not in "ZX" and start <= by + _CLOCK_ERROR


def _told(name: str, status: Mapping[str, Any], now: float) -> Row:
    """A run's row as its status file has it."""
    said, step = status.get("status", "waiting"), status.get("step", 0)
    total, rate = status.get("total"), status.get("updates_per_second")
    is_running = said == "running"
    return Row(
        name,
        said,
        status.get("phase"),
        status.get("update"),
        step,
        step if said == "finished" else total,
        status.get("score"),
        updates_per_second=rate if is_running else None,
        seconds_left=(total - step) / rate if is_running and total and rate else None,
        node=status.get("host"),
        job=status.get("job"),
        error=status.get("error"),
        age=max(now - status["time"], 0.0) if "time" in status else None,
        log=status.get("log"),
    )


def _row(
    name: str,
    status: Mapping[str, Any],
    assignment: _Assignment | None,
    jobs: _Jobs,
    now: float,
) -> Row:
    """One run's row. What the run itself said at its end counts more than what its job says."""
    row, said = _told(name, status, now), status.get("status")
    if said in FINAL:
        return row
    job, state = jobs.of_run(status, assignment)
    # Whether what the run said is about an earlier job than the one that goes on with it now.
    is_old = assignment is not None and (
        job != row.job and status.get("time", 0.0) < assignment.submission.time
    )
    goes_on = state is not None and not _is_over(state)
    if said in ("failed", "lost") and not (goes_on and is_old):
        return row
    if state is None:  # there is no job, or nobody here can tell
        return row._replace(state=said or ("queued" if job else "waiting"), job=job)
    idle = row._replace(job=job, updates_per_second=None, seconds_left=None, error=None)
    if not goes_on:
        idle = idle._replace(node=state.node or row.node)
        if job in jobs.cancelled or (state.state == "CANCELLED" and not said):
            return idle._replace(state="cancelled")
        if assignment and jobs.was_stopped(str(job), assignment.pack):
            return idle._replace(state="interrupted" if said else "waiting")
        why = jobs.why_over(str(job), state, assignment.pack if assignment else None)
        if said == "interrupted" and not is_old:
            return idle._replace(error=None if state.state == _GONE else why)
        return idle._replace(state="lost", error=why if said else f"{why}, before the run began")
    idle = idle._replace(state="queued", node=None)
    if state.state in _PENDING:
        return idle._replace(reason=state.reason or None)
    if assignment and (not said or is_old) and jobs.is_behind(assignment):
        return idle._replace(reason="behind other runs of its job")
    return row._replace(state="running", job=job, node=state.node or row.node, error=None)
