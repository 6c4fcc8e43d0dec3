"""Asks and tells Slurm through its commands: states of jobs, limits, cancel, requeue.

A job is known by the id that users see: "123", or "123_4" for a task of an array.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from lom_exp.errors import ConfigError, LomExpError

COMMANDS = ("sbatch", "squeue", "scontrol", "scancel")  # sacct may be missing
# Of all others, known or to come, a job may yet run: it waits, runs, comes to an end or is
# requeued, also COMPLETING, REQUEUED and, after an administrator's release, REQUEUE_HOLD.
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
PATIENCE = 15.0  # seconds for which a command is given again to a scheduler that is too busy
SECONDS_TO_ANSWER = 120.0  # for any one command; Slurm's own limit is MessageTimeout, 10 s
ACCOUNTING_PAUSE = 600.0  # seconds for which a sacct that failed is not asked again
ACCOUNTING_DAYS = 30  # how far back jobs are looked for by name
CANCEL_AT_ONCE = 500  # ids in one command line

_BUSY = re.compile(
    r"unable to contact|timed out|temporarily|zero bytes|communication|connection|standby"
    r"|rate limit|authentic|munge",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"Invalid job array specification|temporarily unable to accept job|job queue full"
    r"|Job creation temporarily disabled|Resource temporarily unavailable"
)
_POLICY = re.compile(r"\b(?:Assoc|QOS|MaxSubmit)\w+")
_GONE = re.compile(r"Invalid job id|already completing or completed", re.IGNORECASE)
# What users set so that squeue, sacct, scontrol and scancel show them, or ask them, what they like.
_HABITS = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_")
_no_accounting_until = float("-inf")  # on the monotonic clock


class SlurmError(LomExpError):
    """What Slurm refused or did not answer, in its own words."""


class JobState(NamedTuple):
    """What the scheduler says of a job."""

    state: str  # PENDING, RUNNING, COMPLETED, FAILED, NODE_FAIL, ... as squeue writes it
    node: str  # where it runs or ran; "" if nowhere yet
    reason: str  # why it waits or failed; "" if there is nothing to say


class Limits(NamedTuple):
    """How much may be submitted."""

    max_array_size: int  # tasks of one array; 1 where there are no arrays
    max_jobs: int | None  # that the scheduler keeps of all users; None if it does not say


def require() -> None:
    """Raises ConfigError if this machine lacks Slurm's commands."""
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        raise ConfigError(
            f"this machine has no {', '.join(missing)} on PATH and cannot submit jobs to Slurm: "
            "run the command on a login node of the cluster, or choose hydra/launcher=local"
        )


def is_over(state: str) -> bool:
    """Whether a job in this state will not run again unless somebody requeues it."""
    return state in ENDED


def states(jobs: Iterable[str]) -> dict[str, JobState]:
    """The states of this user's jobs, in one call of squeue and at most one of sacct.

    A job is absent if squeue no longer lists it, which means that it has ended, and accounting
    does not say how. Raises SlurmError if the scheduler cannot be asked.
    """
    wanted = set(jobs)
    if not wanted:
        return {}
    listed = _listed(f"--user={os.getuid()}")
    found = {job: listed[job] for job in wanted & listed.keys()}
    return found | _recorded(wanted - found.keys())


def state_of(job: str) -> JobState | None:
    """The state of one job, of any user; None as for `states`, which see."""
    try:
        found = _listed(f"--jobs={job}")
    except SlurmError as error:
        if not _GONE.search(str(error)):
            raise
        found = {}
    return found.get(job) or _recorded({job}).get(job)


def named(token: str) -> dict[str, JobState]:
    """This user's jobs of that name, in the order of their ids.

    Those that squeue no longer lists are among them if accounting works and they ended within
    ACCOUNTING_DAYS. Raises SlurmError.
    """
    found = _accounted(f"--name={token}", f"--starttime=now-{ACCOUNTING_DAYS}days")
    found |= _listed(f"--user={os.getuid()}", f"--name={token}")
    return {job: found[job] for job in sorted(found, key=_numbers)}


def cancel(jobs: Iterable[str]) -> None:
    """Cancel jobs; those that have ended already are let be. Raises SlurmError."""
    ids = list(jobs)
    for start in range(0, len(ids), CANCEL_AT_ONCE):
        try:
            _run("scancel", "--quiet", *ids[start : start + CANCEL_AT_ONCE])
        except SlurmError as error:
            # scancel tells of each job that it could not cancel, and cancels the others.
            if not all(_GONE.search(line) for line in str(error).splitlines()):
                raise


def requeue(job: str) -> None:
    """End a job and queue it again under its id; SlurmError if Slurm refuses.

    Slurm also brings back what somebody cancelled: ask for the job's state first.
    """
    _run("scontrol", "requeue", job)


@cache
def limits() -> Limits:
    """What the cluster's configuration allows; raises SlurmError if it cannot be asked.

    Limits of accounts and QOS are not in it: those are known when `is_limit` says so.
    """
    configuration = _run("scontrol", "show", "config")

    def number(pattern: str) -> int | None:
        match = re.search(pattern + r"\s*=\s*(\d+)", configuration, re.MULTILINE)
        return int(match[1]) if match else None

    sizes = [number("^MaxArraySize"), number(r"\bmax_array_tasks")]
    known = [size for size in sizes if size is not None]
    return Limits(max(1, min(known, default=1)), number("^MaxJobCount"))


def is_limit(message: str) -> bool:
    """Whether sbatch refused a submission for its size, so that a smaller or later one may pass.

    What it says of a partition, an account, a time limit or other things is final.
    """
    if _FULL.search(message):
        return True
    policies = _POLICY.findall(message)  # of which older versions of Slurm say nothing
    if policies:
        return any("SubmitJob" in policy for policy in policies)
    return "job submit limit" in message


def this_job() -> tuple[str, int] | None:
    """The id of the job this process runs in, and how often it was restarted; None in no job."""
    environment = os.environ
    job = environment.get("SLURM_JOB_ID")
    if job is None:
        return None
    if "SLURM_ARRAY_TASK_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return job, int(environment.get("SLURM_RESTART_COUNT", "0"))


def _listed(*selection: str) -> dict[str, JobState]:
    """The jobs that the scheduler knows, ended ones included for some minutes (MinJobAge)."""
    text = _run(
        *("squeue", "--noheader", "--array", "--all", "--states=all", "--format=%i|%T|%N|%r"),
        *selection,
    )
    return {
        job: JobState(state, node, "" if reason == "None" else reason)
        for job, state, node, reason in _rows(text)
    }


def _recorded(jobs: set[str]) -> dict[str, JobState]:
    """Accounting's last word on jobs that the scheduler no longer lists."""
    if not jobs:
        return {}
    arrays = {job: job.partition("_")[0] for job in jobs}
    found = _accounted(f"--jobs={','.join(sorted(set(arrays.values())))}")
    # An array of which no task ever started may be recorded as one job.
    entries = {job: found.get(job) or found.get(array) for job, array in arrays.items()}
    return {job: entry for job, entry in entries.items() if entry is not None}


def _accounted(*selection: str) -> dict[str, JobState]:
    """The jobs that ended according to sacct; none while a failure of it is fresh.

    A job that is recorded as running though the scheduler does not know it has died without
    Slurm's notice, or is being recorded just now: of such nothing is said.
    """
    global _no_accounting_until
    if time.monotonic() < _no_accounting_until:
        return {}
    try:
        text = _run(
            *("sacct", "--noheader", "--parsable2", "--allocations", f"--uid={os.getuid()}"),
            *("--format=JobID,State,NodeList,ExitCode", *selection),
            try_once=True,
        )
    except (SlurmError, ConfigError):
        _no_accounting_until = time.monotonic() + ACCOUNTING_PAUSE
        return {}
    found = {}
    for jobs, words, node, code in _rows(text):
        state = words.split()[0]  # of "CANCELLED by 1000"
        if is_over(state):
            entry = JobState(state, "" if node == "None assigned" else node, _meaning(code))
            found.update(dict.fromkeys(_tasks(jobs), entry))
    return found


def _meaning(exit_code: str) -> str:
    """Text for Slurm's exit code, "1:0" of a program that returned 1, "0:9" of one killed."""
    code, _, signal = exit_code.partition(":")
    if signal not in ("", "0"):
        return f"signal {signal}"
    return f"exit code {code}" if code != "0" else ""


def _tasks(jobs: str) -> Iterator[str]:
    """The ids in "123", "123_4" or, for tasks that never started, "123_[0-3,5,10-20:2%7]"."""
    array, bracket, ranges = jobs.partition("_[")
    if not bracket:
        yield jobs
        return
    for first, last, step in re.findall(r"(\d+)(?:-(\d+))?(?::(\d+))?", ranges.partition("%")[0]):
        for task in range(int(first), int(last or first) + 1, int(step or 1)):
            yield f"{array}_{task}"


def _rows(text: str) -> Iterator[list[str]]:
    """The four fields of each row; lines that are none, as the name of a cluster, are left out."""
    for line in text.splitlines():
        fields = line.strip().split("|", 3)
        if len(fields) == 4:
            yield fields


def _numbers(job: str) -> list[int]:
    return list(map(int, re.findall(r"\d+", job)))


def _run(*command: str, try_once: bool = False) -> str:
    """A command's standard output.

    Raises ConfigError if there is no such command, SlurmError if it fails. While the scheduler is
    only too busy, or about to come back, the command is given again for PATIENCE seconds.
    """
    environment = {key: os.environ[key] for key in os.environ if not key.startswith(_HABITS)}
    environment["SLURM_BITSTR_LEN"] = "0"  # otherwise sacct cuts off long lists of tasks
    deadline, pause = time.monotonic() + PATIENCE, 1.0
    while True:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=environment,
                timeout=SECONDS_TO_ANSWER,
            )
        except FileNotFoundError:
            raise ConfigError(
                f"there is no {command[0]} on PATH: run the command on a machine of the cluster"
            ) from None
        except subprocess.TimeoutExpired:
            raise SlurmError(
                f"{command[0]}: no answer within {SECONDS_TO_ANSWER:g} s: is the scheduler well "
                "(scontrol ping)?"
            ) from None
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr or done.stdout).strip()
        said = said or f"exit code {done.returncode}, and not a word"
        too_late = time.monotonic() + pause > deadline
        if try_once or too_late or not _BUSY.search(said):
            raise SlurmError(f"{command[0]}: {said}")
        time.sleep(pause)
        pause *= 2
