"""The folder of a sweep: what was asked for, to which jobs it was given, and how those fared.

jobs.jsonl is the ledger: each submission is written before it is made and again once the scheduler
has answered, so that a launcher killed in between leaves a trace. All journals here are only ever
appended to, a line in one write, and read by others at the same time.
"""

import errno
import json
import os
import secrets
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lom_exp.errors import LomExpError
from lom_exp.files import read_json, write_atomically
from lom_exp.leases import Heartbeat, Lease, LeaseError, LeaseHeld

_SHOWN = 10  # sweeps that an error message lists


class SweepError(LomExpError):
    """A folder that is no sweep, or one that cannot be written to."""


class Submission(NamedTuple):
    """Jobs that were given to a scheduler together, and its answer."""

    time: float  # Unix seconds
    scheduler: str  # slurm or local
    host: str  # where the launcher ran; "pid N" is a process there
    token: str  # in the jobs' names, by which they are found without an answer
    packs: list[list[str]]  # of each job, in the order in which it trains them
    runs: dict[str, list[str]]  # of each pack
    jobs: list[str] | None  # their ids, in the order of `packs`; None where no answer is known
    refused: str | None  # the scheduler's words

    def assignments(self) -> list[tuple[str | None, list[str]]]:
        """Each job's id, None where it is not known, and its packs."""
        jobs: Sequence[str | None] = self.jobs or [None] * len(self.packs)
        return list(zip(jobs, self.packs, strict=True))


class Ledger(NamedTuple):
    """All submissions of a sweep, in their order, and the ids of the jobs a user has cancelled."""

    submissions: list[Submission]
    cancelled: set[str]


class Event(NamedTuple):
    """What whoever supervises a pack's worker saw: started, lost, interrupted or ended."""

    event: str
    time: float  # Unix seconds
    job: str  # 123_4 or "pid 4711"
    host: str
    reason: str | None


class SweepFolder:
    """One sweep's folder, results/sweeps/<name>."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.results = self.path.parents[1]
        self.name = self.path.name
        self._ledger = self.path / "jobs.jsonl"

    @classmethod
    def open(cls, sweep: str | Path, results: str | Path = "results") -> "SweepFolder":
        """The folder of a sweep given by its path, or by its name in a results folder.

        Raises SweepError, with the sweeps there are, where it is no sweep.
        """
        for path in (Path(sweep), Path(results, "sweeps", sweep)):
            if (path / "sweep.json").is_file():
                return cls(path)
        found = "is a folder without a sweep.json" if Path(sweep).is_dir() else "was not found"
        raise SweepError(f"{sweep} is no sweep: it {found}. {_choice(Path(results))}")

    @classmethod
    def newest(cls, results: str | Path = "results") -> "SweepFolder":
        """The sweep asked for last; raises SweepError where there is none."""
        paths = newest_first(Path(results))
        if not paths:
            raise SweepError(f"which sweep? {_choice(Path(results))}")
        return cls(paths[0])

    def described(self) -> dict[str, Any]:
        """What sweep.json says: name, command, overrides, runs, time, and launch, its settings.

        Raises SweepError where it cannot be read.
        """
        content = read_json(self.path / "sweep.json")
        if content is None or "runs" not in content:
            raise SweepError(
                f"{self.path}/sweep.json cannot be read; give the sweep's command again to have it "
                "rewritten"
            )
        return content

    @contextmanager
    def alone(self, patience: float = 0.0) -> Iterator[None]:
        """Create the folder if need be and let no other command at the sweep meanwhile.

        Raises SweepError where another one still is after `patience` seconds, or where the folder
        cannot be written.
        """
        lease = Lease(self.path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / "packs").mkdir(exist_ok=True)
            lease.take(patience)
        except LeaseHeld as error:
            raise SweepError(
                f"another command is at work on the sweep {self.name}: {error}. Look on with "
                f"`python -m lom_exp.launcher status {self.in_words} --watch`, or stop it with "
                f"`python -m lom_exp.launcher cancel {self.in_words}`"
            ) from None
        except (LeaseError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise SweepError(
                f"cannot write results to {self.path}: {reason}; give a folder you may write to as "
                "results="
            ) from error
        try:
            with Heartbeat([lease]):
                yield
        finally:
            lease.release()

    def describe(
        self,
        command: Sequence[str],
        overrides: Sequence[str],
        runs: Sequence[str],
        launch: Mapping[str, Any] | None,
    ) -> None:
        """Write sweep.json: what was asked for, the names of its runs, how they are launched.

        A sweep may grow by runs, but not become another one: raises SweepError where the folder
        lists runs that are not among these.
        """
        before = read_json(self.path / "sweep.json")
        others = set((before or {}).get("runs", ())) - set(runs)
        if before and others:
            raise SweepError(
                f"{self.path} belongs to another sweep: `{' '.join(before['command'])}` asked for "
                f"{len(others)} runs that are not among these, such as {min(others)}. Give this "
                "one another name as sweep_name=..., or move the folder away; the runs are kept "
                "elsewhere and are not lost"
            )
        self._describe(command, overrides, runs, launch)

    def describe_part(
        self, command: Sequence[str], overrides: Sequence[str], runs: Sequence[str]
    ) -> None:
        """Add runs to sweep.json, whose other runs are asked for by other processes."""
        before = (read_json(self.path / "sweep.json") or {}).get("runs", [])
        self._describe(command, overrides, list(dict.fromkeys([*before, *runs])), None)

    def _describe(
        self,
        command: Sequence[str],
        overrides: Sequence[str],
        runs: Sequence[str],
        launch: Mapping[str, Any] | None,
    ) -> None:
        content = {
            "name": self.name,
            "command": command,
            "overrides": overrides,
            "runs": runs,
            "time": time.time(),
            "launch": launch,
        }
        write_atomically(self.path / "sweep.json", json.dumps(content, indent=2).encode())

    @property
    def in_words(self) -> str:
        """How the sweep is named on a command line that is given here."""
        return self._with_results(self.name)

    def run_in_words(self, run: str) -> str:
        """How a run is named on a command line that is given here: by the id its name ends with."""
        return self._with_results(run.rpartition("_")[2])

    def _with_results(self, name: str) -> str:
        if self.results == Path("results").resolve():
            return name
        here = os.path.relpath(self.results)
        results = str(self.results) if here.startswith("..") else here
        return f"{name} --results {shlex.quote(results)}"

    def ledger(self) -> Ledger:
        """What was submitted and cancelled so far."""
        submissions: dict[str, Submission] = {}
        cancelled: set[str] = set()
        for line in _lines(self._ledger):
            if "cancelled" in line:
                cancelled.update(line["cancelled"])
            elif "packs" in line:
                submissions[line["token"]] = Submission(
                    line["time"],
                    line["scheduler"],
                    line["host"],
                    line["token"],
                    line["packs"],
                    line["runs"],
                    jobs=None,
                    refused=None,
                )
            elif line.get("token") in submissions:
                answer = {key: line[key] for key in ("jobs", "refused") if key in line}
                submissions[line["token"]] = submissions[line["token"]]._replace(**answer)
        return Ledger(list(submissions.values()), cancelled)

    def events(self, pack: str) -> list[Event]:
        """What happened to a pack's workers, in order."""
        return [Event(**line) for line in _lines(self._events(pack))]

    def logs(self, pack: str, job: str | None) -> list[Path]:
        """Where a job's output may be: in a file of the Slurm job, or in one of the pack."""
        # submitit's name for the output of a job's only task; retries append to it.
        return [self.path / "jobs" / f"{job}_0_log.out", self.path / "logs" / f"{pack}.log"]

    def _events(self, pack: str) -> Path:
        return self.path / "packs" / f"{pack}.events.jsonl"

    def note_intent(
        self, scheduler: str, jobs: Sequence[Sequence[str]], runs: Mapping[str, Sequence[str]]
    ) -> str:
        """Write down a submission that is about to be made; returns the token it is known by.

        `jobs` holds each job's packs, `runs` each pack's run names. Raises SweepError, as all that
        writes here, where the folder cannot be written.
        """
        token = f"lom-{secrets.token_hex(4)}"
        entry = {"scheduler": scheduler, "host": socket.gethostname(), "token": token}
        self._note({**entry, "packs": jobs, "runs": runs})
        return token

    def note_jobs(self, token: str, jobs: Sequence[str]) -> None:
        """Write down the ids that a submission's jobs were given, in their order."""
        self._note({"token": token, "jobs": jobs})

    def note_refusal(self, token: str, words: str) -> None:
        """Write down that the scheduler took none of a submission's jobs, in its words."""
        self._note({"token": token, "refused": words})

    def note_cancelled(self, jobs: Sequence[str]) -> None:
        """Write down which jobs were cancelled because the user wished it."""
        self._note({"cancelled": jobs})

    def note_event(self, pack: str, event: str, job: str, reason: str | None = None) -> None:
        """Write down what happened to a pack's worker on this machine."""
        entry = {"event": event, "time": time.time(), "job": job, "host": socket.gethostname()}
        _append(self._events(pack), {**entry, "reason": reason})

    def _note(self, entry: Mapping[str, Any]) -> None:
        _append(self._ledger, {"time": time.time(), **entry})


def newest_first(results: Path) -> list[Path]:
    """The folders of all sweeps in a results folder, those that were asked for last first."""
    files = results.glob("sweeps/*/sweep.json")
    return [file.parent for file in sorted(files, key=_modified, reverse=True)]


def _modified(file: Path) -> float:
    return file.stat().st_mtime


def _choice(results: Path) -> str:
    names = [path.name for path in newest_first(results)]
    if not names:
        return (
            f"There are none in {results}/sweeps; `python launch.py` starts one, and --results "
            "names another folder of results"
        )
    more = [f"... and {len(names) - _SHOWN} older ones"] if len(names) > _SHOWN else []
    return "\n  ".join([f"In {results}/sweeps there are", *names[:_SHOWN], *more])


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of a journal; a line cut short by a kill, or still being written, is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to a journal, whole and on the disk before it returns; else SweepError."""
    line = json.dumps(entry).encode() + b"\n"
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(file).st_size
            if size > 0 and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # the last writer was killed within its line
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise SweepError(
            f"cannot write {path}: {error.strerror}; make room or get the right to write there, "
            "or give another folder as results="
        ) from error
