"""What the commands of `analysis` share: their arguments, their errors, the Markdown they write."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from analysis import runs
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results


class Written(NamedTuple):
    """What a command made and what its reader must know."""

    files: list[Path]
    problems: list[Problem]


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments every command takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "sweep",
        nargs="?",
        help="a sweep's name, a sweep folder, a results folder or an MLflow URI, such as "
        "http://127.0.0.1:5000 or sqlite:///results/mlflow.db (default: the newest sweep)",
    )
    made.add_argument("--results", type=Path, default=Path("results"), help="where sweeps are")
    made.add_argument("--out", type=Path, help="folder to write to (default: the sweep's own)")
    return made


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


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
