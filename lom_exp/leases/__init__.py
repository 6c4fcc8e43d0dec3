"""One writer per folder, on a shared file system whose locks cannot be trusted.

`<folder>/.lease/` holds a file for each generation of the lease, 000001.json, 000002.json, ...;
whoever created the highest has the lease. A newcomer that finds its owner to be over creates the
next, which the file system lets exactly one of several do. No number is used twice, so the highest
file stays, even after a release. Relied upon is only that a name is created exclusively and
replaced in one step, and that whoever opens a file learns from the server whether it is gone.

An owner that was taken for dead learns of it at its next `check`. No lease can stop what it does
between that check and the end of its write, so check late: right before a file is replaced.
"""

import errno
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lom_exp.errors import LomExpError
from lom_exp.files import write_atomically
from lom_exp.leases import generations
from lom_exp.leases.generations import Generation
from lom_exp.leases.owners import Owner, Verdict, look_and_judge, process_is_over

__all__ = [
    "Heartbeat",
    "Holder",
    "Lease",
    "LeaseError",
    "LeaseHeld",
    "LeaseLost",
    "Owner",
    "holder",
]

log = logging.getLogger(__name__)
_SETTLING = 10.0  # seconds for which a damaged file counts: it may be on its way
_LOOKS = 100  # at a lease that others are taking, in one attempt
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


class LeaseError(LomExpError):
    """A folder in which no lease can be kept."""


class LeaseHeld(LomExpError):
    """A folder that another process writes."""


class _Stale(LeaseHeld):
    """A folder of a later start of this process's own job, for which it would wait in vain."""


class LeaseLost(LomExpError):
    """A folder that is not, or no longer, this process's to write."""


class Holder(NamedTuple):
    """Who has a lease, and when it was last heard of."""

    owner: Owner
    since: float  # unix time by its own clock
    silence: float  # seconds since its last sign of life

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{self.owner} (since {since}, last sign of life {self.silence:.0f} s ago)"


def holder(folder: Path) -> Holder | None:
    """Who has the lease of a folder; None if nobody has, as far as can be seen from here.

    A process on this machine that is gone has none. Of another one the silence says how likely it
    lives; it is by this machine's clock, which may differ from the file server's.
    """
    try:
        newest = generations.newest(folder / ".lease")
    except OSError:
        return None
    if newest is None or newest.record is None or newest.record.released:
        return None
    if process_is_over(newest.record.owner, Owner.of_this_process()):
        return None
    return Holder(newest.record.owner, newest.record.since, max(0.0, time.time() - newest.beat))


class Lease:
    """The right to write a folder, for one process at a time.

    `timeout` is the silence, in seconds by the file server's clock, after which an owner counts as
    over of whom nothing else is known: give what is held to a Heartbeat.
    """

    def __init__(self, folder: Path, timeout: float = 600.0) -> None:
        self.folder = folder
        self._files = folder / ".lease"
        self._timeout = timeout
        self._mine: _Own | None = None
        self._renewing = threading.Lock()

    def take(self, patience: float = 0.0) -> None:
        """Take the lease, creating the folder if need be, or wait `patience` seconds for it.

        Raises LeaseHeld where another process has it, or this one by another Lease, and LeaseError
        where the folder cannot be written.
        """
        deadline = time.monotonic() + patience
        pause = 0.01
        while True:
            try:
                self._mine = self._attempt()
                return
            except _Stale:
                raise
            except LeaseHeld:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
            except OSError as error:
                raise LeaseError(
                    f"cannot keep a lease in {self._files}: {error.strerror or error}; make it a "
                    "folder you may write to, on a disk that is not full, or use another one"
                ) from error
            time.sleep(min(pause, left))
            pause = min(2 * pause, 1.0)

    def __enter__(self) -> "Lease":
        self.take()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    @property
    def owner(self) -> Owner:
        """This process as it took the lease; raises LeaseLost where it did not."""
        return self._own().owner

    def check(self) -> None:
        """Raise LeaseLost unless this process still has the lease.

        It reads a small file and lists a folder of one. Raises OSError where the file server does
        not answer.
        """
        mine = self._own()
        if not self._is_newest(mine):
            who = holder(self.folder) or "nobody: its .lease was changed by hand, or is free again"
            raise LeaseLost(
                f"{self.folder} was taken from {mine.owner} and now belongs to {who}; what this "
                "process has not written by now it must not write, and its work goes on there"
            )

    def renew(self) -> None:
        """Check, and give a sign of life; does nothing once the lease is released.

        Raises LeaseLost, and OSError where the file server does not answer.
        """
        if self._mine is None:
            return
        self._own()  # before the lock, which may have been held when this process was forked
        with self._renewing:
            if self._mine is not None:
                self.check()
                os.utime(self._path(self._mine.number))  # no time given: it is the server's

    def release(self) -> None:
        """Let others have the lease at once; does nothing where this process does not have it."""
        if self._mine is None or self._mine.owner.pid != os.getpid():
            return
        with self._renewing:
            content = {**json.loads(self._mine.content), "released": True}
            # If the disk is full, others will see that this process is gone.
            with suppress(LeaseLost, OSError):
                path = self._path(self._mine.number)
                write_atomically(path, json.dumps(content).encode(), self.check)
            self._mine = None

    def _own(self) -> "_Own":
        mine = self._mine
        if mine is None:
            raise LeaseLost(f"{self.folder} is not this process's to write: take its lease first")
        if mine.owner.pid != os.getpid():
            raise LeaseLost(
                f"{self.folder} is to be written by {mine.owner} and not by a process that it "
                f"forked (pid {os.getpid()}); write it there"
            )
        return mine

    def _path(self, number: int) -> Path:
        return generations.path(self._files, number)

    def _is_newest(self, mine: "_Own") -> bool:
        # It is the reading that can be relied upon: opening a file makes an NFS client ask the
        # server, and a newcomer deletes this one before it writes; a listing may be a minute old.
        # The content tells it from one of the same number made after a user deleted `.lease`.
        try:
            content = self._path(mine.number).read_bytes()
            return content == mine.content and generations.highest(self._files) == mine.number
        except OSError as error:
            if error.errno in _GONE:
                return False
            raise

    def _attempt(self) -> "_Own":
        """Create the next generation; raises LeaseHeld unless the newest one's owner is over."""
        owner = Owner.of_this_process()
        for _ in range(_LOOKS):
            token = secrets.token_hex(8)
            fields = {"owner": owner._asdict(), "since": time.time(), "released": False}
            content = json.dumps({**fields, "token": token}).encode()
            candidate = self._files / f"{token}.tmp"
            self._files.mkdir(parents=True, exist_ok=True)
            # A file that was there a moment ago may be superseded or deleted: look again then.
            with suppress(FileNotFoundError):
                try:
                    # It tells the server's time, and has an NFS client list the folder anew.
                    candidate.write_bytes(content)
                    os.utime(candidate)
                    now = candidate.stat().st_mtime
                    newest = generations.newest(self._files)
                    if newest is not None:
                        self._refuse_unless_over(newest, owner, now)
                    mine = _Own(newest.number + 1 if newest else 1, content, owner)
                    generations.create(self._path(mine.number), candidate, content)
                    # The others may have been past that number long ago. And whether it was
                    # created here is told by its content, as a server's answer can get lost.
                    if self._is_newest(mine):
                        self._clear(mine.number, now)
                        return mine
                finally:
                    candidate.unlink(missing_ok=True)
        raise LeaseHeld(
            f"{self.folder} may be in use: the files in {self._files} change while they are read; "
            "try again, and if it stays so while nothing is at work there, delete that folder"
        )

    def _refuse_unless_over(self, newest: Generation, newcomer: Owner, now: float) -> None:
        silence, record = now - newest.beat, newest.record
        if record is None:
            if silence > _SETTLING:
                return
            raise LeaseHeld(
                f"{self.folder} may be in use: {self._path(newest.number)} is damaged, or being "
                f"written; try again in {_SETTLING:.0f} s, when it counts no more if it still is"
            )
        owner, held = record.owner, Holder(record.owner, record.since, silence)
        verdict = look_and_judge(owner, newcomer, silence, record.released, self._timeout)
        if verdict is Verdict.STALE:
            raise _Stale(
                f"{self.folder} belongs to a later start of this Slurm job, {held}; Slurm has given"
                f" this one up, {newcomer}, and it must end"
            )
        if verdict is Verdict.HELD:
            end = f"scancel {owner.job}" if owner.job else f"kill {owner.pid} on {owner.host}"
            raise LeaseHeld(
                f"{self.folder} is in use by {held}; wait for it or end it ({end}). It counts as "
                f"over after {self._timeout:.0f} s without a sign of life"
            )

    def _clear(self, number: int, now: float) -> None:
        """Delete earlier generations, which stops their owners, and what killed newcomers left."""
        for path in self._files.iterdir():
            with suppress(OSError):
                earlier = 0 < generations.number(path) < number
                left = path.suffix == ".tmp" and now - path.stat().st_mtime > self._timeout
                if earlier or left:
                    path.unlink()


class Heartbeat:
    """Renews leases every `interval` seconds while in its context, from a thread.

    `lost` is the first loss of any; the other leases are still renewed.
    """

    def __init__(self, leases: Sequence[Lease], interval: float = 30.0) -> None:
        self.lost: LeaseLost | None = None
        self._leases = leases
        self._interval = interval
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="leases", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._end.wait(self._interval):
            for lease in self._leases:
                try:
                    lease.renew()
                except LeaseLost as error:
                    self.lost = self.lost or error
                except OSError as error:  # a server that is away for a moment is no loss
                    log.warning("cannot renew the lease of %s: %s", lease.folder, error)


class _Own(NamedTuple):
    """The generation that this process has created."""

    number: int
    content: bytes
    owner: Owner
