"""Progress of work on a dataset: a bar where a person watches, lines where output is a file."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

_log = logging.getLogger(__name__)

Report = Callable[[int], None]  # of how much is done


@contextlib.contextmanager
def progress(title: str, done: int, total: int) -> Iterator[Report]:
    """A bar on a terminal, a line per tenth elsewhere."""
    if not sys.stderr.isatty():
        tenths = 10 * done // total

        def log(done: int) -> None:
            nonlocal tenths
            if 10 * done // total > tenths:
                tenths = 10 * done // total
                _log.info("%s: %d %%", title, 10 * tenths)

        _log.info("%s", title)
        yield log
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, completed=done, total=total)
        yield lambda done: bar.update(task, completed=done)
