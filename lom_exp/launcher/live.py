"""The one table of a terminal, kept up to date; where nobody watches, a line for what happened."""

import logging
import sys
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live

from lom_exp.launcher import table
from lom_exp.launcher.status import Row, Survey

PLAIN_INTERVAL = 30.0  # seconds between plain lines of progress at least
# States that are told of when a run comes into them; to wait is what all of them do at first.
_EVENTS = ("running", "finished", "diverged", "failed", "lost", "interrupted", "cancelled")


class LiveTable:
    """Shows a sweep on standard error for as long as its context lasts, and leaves it there.

    What is logged or printed meanwhile appears above the table.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
            transient=True,  # what stays is printed at the end: it need not fit the screen
            vertical_overflow="crop",
        )
        self._survey: Survey | None = None
        self._handlers: list[tuple[logging.StreamHandler[TextIO], TextIO]] = []
        self._states: dict[str, str] = {}
        self._last_line = 0.0

    def __enter__(self) -> "LiveTable":
        if self._console.is_terminal:
            streams = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
            self._live.start()
            # Handlers have the terminal itself; what they wrote there would tear the table.
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream in streams:
                    self._handlers.append((handler, handler.stream))
                    handler.setStream(sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._console.is_terminal:
            if self._survey is not None:
                self._say(_summary(self._survey))
            return
        self._live.stop()
        for handler, stream in self._handlers:
            handler.setStream(stream)
        if self._survey is not None:
            table.show(self._survey, self._console)

    def update(self, survey: Survey) -> None:
        """Show the sweep as it is now."""
        self._survey = survey
        if not self._console.is_terminal:
            self._tell(survey)
            return
        lines = table.lines(survey, table.Room.of(self._console, scrolls=False))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        self._live.update(Group(*lines), refresh=True)

    def _tell(self, survey: Survey) -> None:
        first = not self._states
        lines = [] if first else [_event(row) for row in survey.rows if self._is_new(row)]
        self._states = {row.name: row.state for row in survey.rows}
        now = time.monotonic()
        if first or now - self._last_line >= PLAIN_INTERVAL:
            self._last_line = now
            lines.append(_summary(survey))
        self._say(*lines)

    def _say(self, *lines: str) -> None:
        self._console.file.write("".join(f"{line}\n" for line in lines))
        self._console.file.flush()

    def _is_new(self, row: Row) -> bool:
        before = self._states.get(row.name)
        was_at_work = before in ("running", "interrupted")
        return row.state != before and (row.state in _EVENTS or was_at_work)


def _summary(survey: Survey) -> str:
    return f"{table.headline(survey).plain}; {table.progress_in_words(survey)}"


def _event(row: Row) -> str:
    """What happened to a run: its name, its state, and what there is to say of it."""
    error = table.last_line(row.error or "")
    if row.state == "running":
        where = [f"on {row.node}"] if row.node else []
        return " ".join([row.name, "is running", *where])
    if row.state == "queued":
        return f"{row.name} is queued again, at update {row.step:,}"
    score = f", score {row.score:.1f}" if row.state == "finished" and row.score is not None else ""
    return f"{row.name} {row.state}{score}" + f": {error}" * bool(error)
