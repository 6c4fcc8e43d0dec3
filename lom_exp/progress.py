"""Progress of a pack: a bar where a person watches, plain lines where the output is a file."""

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

PLAIN_INTERVAL = 30.0  # seconds between plain lines at least


class PackProgress:
    """Updates done, their rate, the time left and the last scores; for use in a with statement."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._last_line, self._scores = 0.0, "-"
        console = Console(stderr=True)
        whole = Column(no_wrap=True)  # the bar gives way on a narrow terminal, the words do not
        self._progress = Progress(
            TextColumn("{task.description}", table_column=whole),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.percentage:.0f}%", table_column=whole),
            TextColumn("{task.fields[rate]}", table_column=whole),
            TimeRemainingColumn(table_column=whole),
            TextColumn("score {task.fields[scores]}", table_column=whole),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=total, rate="", scores="-")

    def __enter__(self) -> "PackProgress":
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def scored(self, scores: list[float]) -> None:
        """Show these scores, one for each run, from the next update on."""
        self._scores = " ".join(f"{score:.0f}" for score in scores)

    def update(self, phase: str, step: int, updates_per_second: float) -> None:
        """Show that `step` updates of all phases are done, at a rate per run."""
        rate = f"{phase} {updates_per_second:.1f}/s"
        if not self._progress.disable:
            self._progress.update(self._task, completed=step, rate=rate, scores=self._scores)
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_INTERVAL or step == self._total:
            self._last_line = now
            left = (self._total - step) / updates_per_second if updates_per_second else 0
            sys.stderr.write(
                f"{self._title}: {step}/{self._total} updates, {rate}, "
                f"{left / 60:.0f} min left at this rate, score {self._scores}\n"
            )
            sys.stderr.flush()
