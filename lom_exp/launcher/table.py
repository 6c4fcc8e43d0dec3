"""A sweep as text: the same for `status`, `status --watch` and the table of a launch.

Where nobody watches (the output is a file or a pipe) every run has its line and nothing is cut.
On a terminal the lines fit: runs that differ in little share one, names lose what all have in
common, columns give way; what went wrong is told last, where the eye is.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from lom_exp.launcher.status import ACTIVE, MISSING, PROBLEMS, STATES, Row, Survey
from lom_exp.runs import FINAL

COMMAND = "python -m lom_exp.launcher"
MAX_LINES = 60  # of runs, printed on a terminal
_ERRORS = 8  # different ones that are listed on a terminal
_LISTED = 3  # runs with the same error that are listed there
_GAP = "  "
_MIN_NOTE = 16  # characters, below which a note says nothing
_SILENCE = 900.0  # seconds after which a running run is said to be silent
_STYLES = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "diverged": "magenta",
    "failed": "bold red",
    "lost": "bold red",
}
_SEED = re.compile(r"_seed\d+_[0-9a-f]{8}$")
_SETTINGS = re.compile(r"(_M\d+)?(_beta[^_]+)?_seed\d+_[0-9a-f]{8}$")


class Room(NamedTuple):
    """What a terminal has room for."""

    width: int  # characters
    height: int | None  # lines; None where it scrolls
    unicode: bool

    @classmethod
    def of(cls, console: Console, *, scrolls: bool) -> "Room | None":
        """A console's room; None for a file or a pipe, where nothing is cut."""
        if not console.is_terminal:
            return None
        unicode = console.encoding.lower().startswith("utf")
        return cls(console.width, None if scrolls else console.height, unicode)


def show(survey: Survey, console: Console, *, every_run: bool = False) -> None:
    """Print a sweep, below what was printed before."""
    room = Room.of(console, scrolls=True)
    if room is None:
        console.file.write("".join(f"{line.plain}\n" for line in lines(survey, None)))
        return
    for line in lines(survey, room, every_run=every_run):
        console.print(line, crop=False)


def lines(survey: Survey, room: Room | None, *, every_run: bool = False) -> list[Text]:
    """The lines of a sweep: how far it is, its runs, what went wrong, what to do next."""
    head = [*_headlines(survey, room), *_progress(survey, room)]
    tail = _troubles(survey, room, every_run=every_run) + next_step(survey)
    if room is None or every_run:
        shown = _individually(survey.rows)
    else:
        taken = 0 if room.height is None else len(head) + len(tail) + 3  # a header, blank lines
        shown = _condensed(survey.rows, (room.height or MAX_LINES) - taken)
    table = _table(shown, survey, room)
    if room and room.height is not None:
        below = room.height - len(head) - 1
        table = table[: max(below - len(tail) - 1, 0)]
        tail = tail[: below - len(table)]
    blank = [Text()]
    return head + (blank + table if table else []) + (blank + tail if tail else [])


def headline(survey: Survey) -> Text:
    """figure3: 300 runs: 281 finished, 12 running, 5 queued, 2 failed."""
    line = Text.assemble((survey.sweep.name, "bold"), f": {count(len(survey.rows), 'run')}: ")
    parts = [(state, survey.count(state)) for state in STATES if survey.count(state)]
    for i, (state, number) in enumerate(parts):
        line.append(", " * (i > 0))
        line.append(f"{number:,} {state}", _STYLES.get(state))
    return line


def _headlines(survey: Survey, room: Room | None) -> list[Text]:
    """The headline, in two lines where it does not fit into one."""
    line, name = headline(survey), survey.sweep.name
    if room is None or line.cell_len <= room.width:
        return [line]
    rest = line[len(name) + 2 :]
    return [Text(cut_middle(name, room.width, room), style="bold"), rest]


def progress_in_words(survey: Survey) -> str:
    """94% of all updates, about 2 h 10 min left, 9 h 3 min so far."""
    words = [f"{percent(_fraction_done(survey.rows))} of all updates"]
    left = _seconds_left(survey.rows)
    if left is not None:
        words.append(f"about {duration(left)} left")
    if survey.seconds is not None:
        elapsed = duration(survey.seconds)
        words.append(f"{elapsed} so far" if survey.count(*ACTIVE) else f"took {elapsed}")
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Two units at most: 40 s, 12 min, 3 h 5 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // (24 * 60)} d {minutes % (24 * 60) // 60} h"


def count(number: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def percent(fraction: float) -> str:
    """Rounded down: what is all but done is not 100%."""
    return f"{int(100 * fraction)}%"


def last_line(text: str) -> str:
    """The line of an error that says the most: of a traceback, the exception."""
    filled = [line.strip() for line in text.splitlines() if line.strip()]
    return filled[-1] if filled else ""


# How far it is.


def _progress(survey: Survey, room: Room | None) -> list[Text]:
    words = progress_in_words(survey)
    if room is None:
        return [Text(words)]
    width = min(room.width - len(words) - len(_GAP), 60)
    if width < 10:
        return [Text(words)]
    done = round(width * _fraction_done(survey.rows))
    full, empty = ("━", "─") if room.unicode else ("#", ".")
    return [Text.assemble((full * done, "green"), (empty * (width - done), "dim"), _GAP, words)]


def _total(rows: Iterable[Row]) -> float:
    """The updates of a run that has not begun: as many as others of its sweep have."""
    known = [row.total for row in rows if row.total]
    return sum(known) / len(known) if known else 0.0


def _fraction_done(rows: Sequence[Row]) -> float:
    usual = _total(rows)
    updates = sum(row.total or usual for row in rows)
    done = sum(row.step for row in rows)
    return min(done / updates, 1.0) if updates else 0.0


def _seconds_left(rows: Sequence[Row]) -> float | None:
    """At the present rate of all runs together; None where none is known."""
    going = [row for row in rows if row.state in (*ACTIVE, "waiting")]
    rate = sum(row.updates_per_second or 0.0 for row in going)
    if not rate:
        return None
    usual = _total(rows)
    together = sum((row.total or usual) - row.step for row in going) / rate
    return max([together, *(row.seconds_left for row in going if row.seconds_left)])


# Which lines the table has.


class _Line(NamedTuple):
    """A line of the table: runs that are in the same state, and what they are called together."""

    name: str
    rows: list[Row]


def _individually(rows: Iterable[Row]) -> list[_Line]:
    return [_Line(row.name, [row]) for row in rows]


def _condensed(rows: Sequence[Row], limit: int) -> list[_Line]:
    """At most `limit` lines, or one per state: those first on which something happens."""
    if len(rows) <= limit:
        return _individually(rows)
    eventful = [row for row in rows if row.state in (*PROBLEMS, "running")]
    rest = [row for row in rows if row.state not in (*PROBLEMS, "running")]
    first = _fitting(eventful, limit - len({row.state for row in rest}))
    return first + _fitting(rest, limit - len(first))


def _fitting(rows: Sequence[Row], limit: int) -> list[_Line]:
    """The finest grouping that fits: runs, all seeds, all of a method and dataset, or a state."""
    order = [*PROBLEMS, *(state for state in STATES if state not in PROBLEMS)]
    levels: list[Callable[[str], str]] = [
        lambda name: name,
        lambda name: _SEED.sub("", name),
        lambda name: _SETTINGS.sub("", name),
        lambda name: "",
    ]
    lines: list[_Line] = []
    for level in levels:
        groups: dict[tuple[int, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((order.index(row.state), level(row.name)), []).append(row)
        lines = [
            _Line(name if len(members) > 1 else members[0].name, members)
            for (_, name), members in groups.items()
        ]
        if len(lines) <= limit:
            break
    return sorted(lines, key=lambda line: order.index(line.rows[0].state))


# How a line looks.

_COLUMNS = (
    *("run", "state", "done", "updates", "phase", "score", "per s", "left", "node", "job"),
    *("seen", "note"),
)
_TO_THE_RIGHT = ("done", "updates", "score", "per s", "left", "seen")
_FIRST_TO_GO = ("job", "phase", "per s", "updates", "node", "left", "seen", "score", "done")


def _table(shown: Sequence[_Line], survey: Survey, room: Room | None) -> list[Text]:
    """A header and the lines, aligned, in the room there is; a column of nothing is left out."""
    if not shown:
        return []
    rows = [_cells(line, asked=survey.unasked is None) for line in shown]
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    columns = {name: cells for name, cells in columns.items() if any(cells)}
    if room is not None:
        _fit(columns, room)
    widths = _widths(columns)
    aligned = [
        [
            cell.rjust(width) if name in _TO_THE_RIGHT else cell.ljust(width)
            for cell in [name, *cells]
        ]
        for (name, cells), width in zip(columns.items(), widths, strict=True)
    ]
    header, *texts = (_whole(_GAP.join(row).rstrip()) for row in zip(*aligned, strict=True))
    header.stylize("dim")
    start = widths[0] + len(_GAP)
    for text, line in zip(texts, shown, strict=True):
        state = line.rows[0].state
        text.stylize(_STYLES.get(state, "dim"), start, start + len(state))
    return [header, *texts]


def _cells(line: _Line, *, asked: bool) -> dict[str, str]:
    rows = line.rows
    first = rows[0]
    many = f"{line.name} x{len(rows)}" if line.name else count(len(rows), "run")
    place = len(rows) == 1 and first.phase is not None
    lefts = [row.seconds_left for row in rows if row.seconds_left is not None]
    ages = [row.age for row in rows if row.age is not None and row.state not in FINAL]
    return {
        "run": line.name if len(rows) == 1 else many,
        "state": first.state,
        "done": percent(_fraction_done(rows)) if any(row.step for row in rows) else "",
        "updates": f"{_short(first.step)}/{_short(first.total or 0)}" if place else "",
        "phase": first.phase or "" if place else "",
        "score": _range(row.score for row in rows),
        "per s": _range(row.updates_per_second for row in rows),
        "left": duration(max(lefts)) if lefts else "",
        "node": _common((row.node for row in rows), "nodes"),
        "job": _common((row.job for row in rows), "jobs"),
        "seen": "" if asked or not ages else f"{duration(min(ages))} ago",
        "note": _common((_note(row) for row in rows), ""),
    }


def _note(row: Row) -> str:
    if row.state == "running" and row.age is not None and row.age > _SILENCE:
        return f"silent for {duration(row.age)}"
    return row.reason or last_line(row.error or "")


def _common(values: Iterable[str | None], noun: str) -> str:
    distinct = list(dict.fromkeys(value for value in values if value))
    if len(distinct) > 1:
        return f"{len(distinct)} {noun}" if noun else ""
    return distinct[0] if distinct else ""


def _range(values: Iterable[float | None]) -> str:
    """One number, or the smallest and the largest."""
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(f"{value:.1f}" for value in (min(known), max(known))) if known else {}
    return " .. ".join(ends)


def _short(number: int) -> str:
    """950, 30k or 1.2M."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return str(number)


# How the table is made to fit.


def _widths(columns: Mapping[str, Sequence[str]]) -> list[int]:
    return [max(map(len, [name, *cells])) for name, cells in columns.items()]


def _fit(columns: dict[str, list[str]], room: Room) -> None:
    """Cut the columns, in place, to a terminal's width: first what says least."""

    def excess() -> int:
        widths = _widths({name: cells for name, cells in columns.items() if name != "note"})
        return sum(widths) + len(_GAP) * (len(widths) - 1) - room.width

    if excess() > 0:
        columns["run"] = _distinct_parts(columns["run"])
    for name in _FIRST_TO_GO:
        if excess() > 0:
            columns.pop(name, None)
    if excess() > 0:
        width = _widths(columns)[0] - excess()
        columns["run"] = [cut_middle(name, width, room) for name in columns["run"]]
    if "note" in columns:
        width = -excess() - len(_GAP)
        if width < _MIN_NOTE:
            del columns["note"]
        else:
            columns["note"] = [cut(note, width, room) for note in columns["note"]]


def _distinct_parts(names: Sequence[str]) -> list[str]:
    """Names without the parts that all of them have: M10_seed0_1a2b3c4d, M5_seed0_5e6f7a8b."""
    parts = [name.split("_") for name in names]
    if len(names) == 1:
        return list(names)
    if len({len(words) for words in parts}) > 1:
        columns = zip(*parts, strict=False)
        common = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        return ["_".join(words[min(common, len(words) - 1) :]) for words in parts]
    differs = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return [
        "_".join(word for word, kept in zip(words, differs, strict=True) if kept) for words in parts
    ]


def cut(text: str, width: int, room: Room) -> str:
    """The beginning of a text that is too long."""
    dots = "…" if room.unicode else "..."
    return text if len(text) <= width else text[: max(width - len(dots), 0)] + dots


def cut_middle(name: str, width: int, room: Room) -> str:
    """A name without its middle: its end, seed and id, tells it from all others."""
    dots = "…" if room.unicode else "..."
    if len(name) <= width:
        return name
    end = max(width * 2 // 3, len("seed0_1a2b3c4d"))
    return name[: max(width - len(dots) - end, 0)] + dots + name[-end:]


# What went wrong, and what to do.


def _whole(text: str, style: str = "") -> Text:
    """A line that is not broken where it does not fit, so that it can be copied."""
    return Text(text, style, no_wrap=True, overflow="ignore")


def _troubles(survey: Survey, room: Room | None, *, every_run: bool) -> list[Text]:
    """Each error with the runs it stopped, and the command that shows more of it."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in survey.rows:
        if row.state in PROBLEMS:
            kind = re.sub(
                r"\d+", "#", last_line(row.error or "")
            )  # whichever job or update it names
            groups.setdefault((PROBLEMS.index(row.state), kind), []).append(row)
    ordered = [rows for _, rows in sorted(groups.items(), key=lambda item: item[0][0])]
    whole = room is None or every_run
    limit, listed = (len(ordered), len(survey.rows)) if whole else (_ERRORS, _LISTED)
    if room is not None and room.height is not None:
        limit, listed = max(room.height // 10, 1), 0
    lines: list[Text] = []
    for rows in ordered[:limit]:
        state, error = rows[0].state, last_line(rows[0].error or "")
        differ = len({last_line(row.error or "") for row in rows}) > 1
        what = f"{', the first' * differ}: {error}".replace(f": {state} ", " ", 1)
        lines.append(Text.assemble((f"{len(rows):,} {state}", _STYLES[state]), what))
        lines += [_whole(f"    {row.name}") for row in rows[:listed]]
        if 0 < listed < len(rows):
            lines.append(Text(f"    ... and {len(rows) - listed:,} more"))
        lines.append(_whole(f"    {COMMAND} logs {survey.sweep.run_in_words(rows[0].name)}", "dim"))
    if ordered[limit:]:
        more = count(sum(map(len, ordered[limit:])), "run")
        lines.append(Text(f"... and {more} with {count(len(ordered) - limit, 'other error')}"))
    return lines


def next_step(survey: Survey) -> list[Text]:
    """What keeps runs from being done, and the commands that have them done; often nothing."""
    lines = []
    waiting, missing = survey.count("waiting"), survey.count(*MISSING)
    if survey.refused is not None and waiting:
        lines.append(Text(f"The last submission was refused: {survey.refused.strip()}", "red"))
    if survey.unasked is not None:
        why = last_line(survey.unasked)
        words = f"Slurm could not be asked, so only what the runs wrote is known: {why}"
        lines.append(Text(words, "yellow"))
    if waiting and not survey.launcher:
        words = f"No launcher is at work, so {count(waiting, 'waiting run')} will not be submitted."
        lines.append(Text(words, "yellow"))
    if missing or (waiting and not survey.launcher):
        lines.append(Text("To run what is missing, give the same command again, or"))
        lines.append(_whole(f"    {COMMAND} retry {survey.sweep.in_words}", "dim"))
    return lines
