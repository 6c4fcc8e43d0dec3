"""What the commands of `analysis` share: their arguments, their errors, the Markdown they write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import runs
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results

_WIDTH = 120  # of a terminal that does not say


class Written(NamedTuple):
    """What a command made and what its reader must know."""

    files: list[Path]
    problems: list[Problem]


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments every command takes."""
    made = argparse.ArgumentParser(description=description)
    add_arguments(made, "sweep")
    return made


def add_arguments(made: argparse.ArgumentParser, sweep: str) -> None:
    """Where results are and where to write; `sweep` is the name of the first."""
    made.add_argument(
        sweep,
        **({} if sweep.startswith("-") else {"nargs": "?"}),
        help="a sweep's name, a sweep folder, a results folder or an MLflow URI, such as "
        "http://127.0.0.1:5000 or sqlite:///results/mlflow.db (default: the newest sweep)",
    )
    made.add_argument("--results", type=Path, default=Path("results"), help="where sweeps are")
    made.add_argument("--out", type=Path, help="folder to write to (default: the sweep's own)")


def main(
    made: argparse.ArgumentParser,
    write: Callable[[Results, Path, argparse.Namespace], Written],
    argv: Sequence[str] | None,
) -> int:
    """Run a command on the results its arguments name; 0, or 1 after an error a user can mend."""
    arguments = made.parse_args(argv)
    try:
        results = runs.read(arguments.sweep, arguments.results)
        out = arguments.out or results.folder
        out.mkdir(parents=True, exist_ok=True)
        written = write(results, out, arguments)
    except (AnalysisError, OSError) as error:
        _say(Console(stderr=True), f"error: {error}")
        return 1
    console = Console()
    if written.problems:
        _say(console, f"Not all of {results.name} is finished and sound:")
    for run, problem in written.problems:
        _say(console, f"  {run}: {problem}")
    if results.unlike:
        _say(console, f"Not all of {results.name} is alike:")
    for run, problem in results.unlike:
        _say(console, f"  {run}: {problem}")
    for path in written.files:
        _say(console, f"written: {path}")
    return 0


def markdown(title: str, results: Results, body: pd.DataFrame, notes: Sequence[str]) -> str:
    """A page of a title, a table of strings, notes and the list of problems."""
    parts = [f"# {title}", ""]
    if results.command:
        parts += [f"Made by `{results.command}`.", ""]
    header = [str(column) for column in body.columns]
    parts += [_row(header), _row(["---"] * len(header))]
    parts += [_row([str(cell) for cell in row]) for row in body.itertuples(index=False)]
    parts += ["", *(f"- {note}" for note in notes)]
    if results.problems:
        parts += ["", "Not finished or not sound:", ""]
        parts += [f"- `{run}`: {problem}" for run, problem in results.problems]
    if results.unlike:
        parts += ["", "Not of the same code or data as the rest:", ""]
        parts += [f"- `{run}`: {problem}" for run, problem in results.unlike]
    return "\n".join(parts) + "\n"


def show(title: str, body: pd.DataFrame, notes: Sequence[str]) -> None:
    """Print a table of strings and its notes."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in body.columns:
        table.add_column(str(column), overflow="fold")
    for row in body.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))
    # A pipe or a log file has no width of its own to fold cells to.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(table, *(Text(note, style="dim") for note in notes), sep="\n")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
