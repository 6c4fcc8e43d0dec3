"""Who owns a lease, and whether that process is over."""

import os
import socket
import time
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from lom_exp import slurm
from lom_exp.errors import LomExpError

FORGOTTEN = 45.0  # seconds of silence after which a job is over that the scheduler does not know
ASK_EVERY = 30.0  # seconds between questions to the scheduler about one job


class Owner(NamedTuple):
    """A process, as others tell it from any other: on other machines, and after a reboot."""

    host: str
    boot: str  # of its kernel, and the namespace its pid is from; empty where there is no /proc
    pid: int
    started: int | None  # clock ticks between the boot and its start; None where there is no /proc
    job: str | None  # of Slurm: 123, or 123_4
    restart: int  # how often Slurm has requeued that job
    cluster: str | None = None  # that the job is on: clusters which share a disk share numbers too

    @classmethod
    def of_this_process(cls) -> "Owner":
        """The owner that this process is; a child it forks is another."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            boot += " " + os.readlink("/proc/self/ns/pid")
        except OSError:
            boot = ""
        pid = os.getpid()
        _, started = _seen(pid) or ("", None)
        job, restart = slurm.this_job() or (None, 0)
        cluster = os.environ.get("SLURM_CLUSTER_NAME") if job else None
        return cls(socket.gethostname(), boot, pid, started, job, restart, cluster)

    def __str__(self) -> str:
        job = f"job {self.job} (restart {self.restart}), " if self.job else ""
        return f"{job}pid {self.pid} on {self.host}"

    def shares_job(self, other: "Owner") -> bool:
        """Whether both are of one Slurm job, be it after a restart."""
        return self.job is not None and (self.job, self.cluster) == (other.job, other.cluster)


class Signs(NamedTuple):
    """What is seen of an owner; None is what cannot be seen from here."""

    silence: float  # seconds since its last sign of life
    released: bool  # it said itself that it is done
    process_over: bool | None = None
    job: Literal["over", "alive", "unknown"] | None = None  # as the scheduler has it


class Verdict(Enum):
    """On an owner, and a newcomer to what it owns."""

    OVER = "the newcomer may supersede the owner"
    HELD = "the newcomer may wait"
    STALE = "the newcomer is the one that is over"


def judge(owner: Owner, newcomer: Owner, signs: Signs, timeout: float) -> Verdict:
    """Whether a newcomer may have what an owner has, which was silent for less than `timeout`.

    Slurm's word counts for more than a process that lives: on a node that was lost the old one
    lives on, while its job runs again elsewhere. But of a job it does not know, which may be one
    of another cluster, it says little.
    """
    if owner.shares_job(newcomer) and newcomer.restart < owner.restart:
        return Verdict.STALE
    over = (
        signs.released
        or (owner.shares_job(newcomer) and newcomer.restart > owner.restart)
        or signs.process_over is True
        or signs.job == "over"
        or (signs.job == "unknown" and signs.silence > FORGOTTEN)
        or signs.silence > timeout
    )
    return Verdict.OVER if over else Verdict.HELD


def look_and_judge(
    owner: Owner, newcomer: Owner, silence: float, released: bool, timeout: float
) -> Verdict:
    """`judge`, with the signs that this process, the newcomer, can see.

    The scheduler is asked only where all else leaves the owner in possession.
    """
    signs = Signs(silence, released, process_is_over(owner, newcomer))
    verdict = judge(owner, newcomer, signs, timeout)
    ours = newcomer.cluster in (None, owner.cluster)  # None: on a login node
    if verdict is Verdict.HELD and owner.job and ours and not owner.shares_job(newcomer):
        job = _ask(owner.job, int(time.monotonic() // ASK_EVERY))
        verdict = judge(owner, newcomer, signs._replace(job=job), timeout)
    return verdict


def process_is_over(owner: Owner, here: Owner) -> bool | None:
    """Whether an owner's process is gone; None if it is out of sight of the process `here`."""
    if (owner.host, owner.boot) != (here.host, here.boot):
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    seen = _seen(owner.pid)
    if seen is None:  # there is no /proc, or it hides the processes of others
        return False
    state, started = seen
    return state in "ZX" or started != owner.started


def _seen(pid: int) -> tuple[str, int] | None:
    """A process's state and start in /proc, None where it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # before it comes its name, with any characters
    return fields[0], int(fields[19])


@lru_cache(maxsize=64)
def _ask(job: str, period: int) -> Literal["over", "alive", "unknown"] | None:
    """What the scheduler says of a job; asked once in a period, as all runs of a pack ask it."""
    try:
        state = slurm.state_of(job)
    except LomExpError:  # there is no Slurm here, or it does not answer
        return None
    if state is None:
        return "unknown"
    return "over" if slurm.is_over(state.state) else "alive"
