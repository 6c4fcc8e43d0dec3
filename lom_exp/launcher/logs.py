"""What one run has to tell: where it stands, its error, and the output of its job."""

import os
import sys
import time
from collections import deque
from pathlib import Path

from lom_exp.errors import LomExpError
from lom_exp.launcher import table
from lom_exp.launcher.status import ACTIVE, Row, Surveyor, row_of_folder
from lom_exp.sweeps import SweepError, SweepFolder, newest_first

_LISTED = 10  # runs that an error message lists
_PAUSE = 0.5  # seconds between looks at a log that is followed


class LogsError(LomExpError):
    """A run, or the output of one, that is not found."""


def show(run: str, results: Path, lines: int, follow: bool) -> None:
    """Print what is known of a run, given by its folder or a part of its name, and its log's end.

    Raises LogsError where there is no such run, or several.
    """
    folder = _find(run, results)
    sweep = _sweep_of(folder)
    row = Surveyor(sweep).look(runs=[folder.name]).rows[0] if sweep else row_of_folder(folder)
    write = sys.stdout.write
    write("\n".join(_description(row, folder)) + "\n")
    if row.error:
        write(f"\n{row.error.strip()}\n")
    path = _log(row, sweep)
    if path is None:
        hint = f"; it is {row.state}, and its output begins with its job" * (row.error is None)
        write(f"\nThere is no output of its job{hint}.\n")
        return
    with path.open(errors="replace") as file:
        end = "".join(deque(file, maxlen=lines))
        write(f"\nThe last lines of {os.path.relpath(path)}:\n{end}")
        while follow:
            text = file.read()
            write(text)
            sys.stdout.flush()
            if not text and row_of_folder(folder).state not in ACTIVE:
                break
            time.sleep(_PAUSE)


def _find(run: str, results: Path) -> Path:
    """The folder of a run, which one that has not begun does not have yet."""
    if (Path(run) / "status.json").is_file():
        return Path(run).resolve()
    runs = (results / "runs").resolve()
    names = dict.fromkeys(path.name for path in runs.glob("*"))
    for path in newest_first(results):
        names |= dict.fromkeys(SweepFolder(path).described()["runs"])
    found = [run] if run in names else [name for name in names if run in name]
    if len(found) == 1:
        return runs / found[0]
    if not found:
        raise LogsError(
            f"no run in {results}/runs, or in a sweep of {results}/sweeps, has {run} in its name; "
            "`python -m lom_exp.launcher status` lists a sweep's runs, and --results names another "
            "folder of results"
        )
    more = [f"... and {len(found) - _LISTED:,} more"] if len(found) > _LISTED else []
    listed = "\n  ".join([*sorted(found)[:_LISTED], *more])
    raise LogsError(f"{run} is in the names of {len(found):,} runs; give more of one:\n  {listed}")


def _sweep_of(folder: Path) -> SweepFolder | None:
    """The newest sweep that asked for a run."""
    for path in newest_first(folder.parents[1]):
        sweep = SweepFolder(path)
        try:
            if folder.name in sweep.described()["runs"]:
                return sweep
        except SweepError:  # another one may be whole
            continue
    return None


def _description(row: Row, folder: Path) -> list[str]:
    lines = [f"{row.name}: {row.state}"]
    if row.phase is not None:
        place = f"{row.phase} update {row.update:,}, {row.step:,} updates done"
        lines.append(place + (f" of {row.total:,}" if row.total else ""))
    if row.score is not None:
        lines.append(f"score {row.score:.1f} at the last evaluation")
    if row.reason:
        lines.append(row.reason)
    where = [f"job {row.job}" if row.job else "", f"on {row.node}" if row.node else ""]
    if any(where):
        lines.append(" ".join(word for word in where if word))
    if row.age is not None:
        lines.append(f"last heard of {table.duration(row.age)} ago")
    return [*lines, os.path.relpath(folder)]


def _log(row: Row, sweep: SweepFolder | None) -> Path | None:
    """The newest output there is of a job that had this run to train."""
    paths = (
        [
            path
            for submission in reversed(sweep.ledger().submissions)
            for job, packs in submission.assignments()
            for pack in packs
            if row.name in submission.runs[pack]
            for path in sweep.logs(pack, job)
        ]
        if sweep
        else []
    )
    if row.log:
        paths.append(Path(row.log))
    return next((path for path in paths if path.is_file()), None)
