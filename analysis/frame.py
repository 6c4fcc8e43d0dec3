"""All runs as one tidy table, a row per run, evaluation and episode, and what is not in it.

    python -m analysis.frame [sweep] [--out folder]

Writes episodes.parquet, runs.csv (a row per run) and problems.csv: a run that is unreadable,
unfinished, failed, diverged or damaged, made by other code or of other data than the rest, or there
twice, is named with the reason.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import command
from analysis.command import Written
from analysis.runs import Results


def problems(results: Results) -> pd.DataFrame:
    """`run`, `kind` (`problem`, or `unlike` of a sound run unlike the others) and `problem`."""
    kinds = {"problem": results.problems, "unlike": results.unlike}
    rows = [(run, kind, problem) for kind, found in kinds.items() for run, problem in found]
    return pd.DataFrame(rows, columns=["run", "kind", "problem"])


def write(results: Results, out: Path) -> Written:
    """Write the three files into `out`."""
    files = [out / name for name in ("episodes.parquet", "runs.csv", "problems.csv")]
    results.episodes.to_parquet(files[0], index=False)
    results.runs.to_csv(files[1], index=False, lineterminator="\n")
    problems(results).to_csv(files[2], index=False, lineterminator="\n")
    return Written(files, results.problems)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""

    def run(results: Results, out: Path, _: argparse.Namespace) -> Written:
        return write(results, out)

    return command.main(command.parser("All episodes of all runs as one table."), run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
