"""Everything there is to show of a sweep: its table, Tables 1 and 2 of LOM where several of their
methods were run, Figure 3 where M was swept, learning curves.

python -m analysis.sweep [sweep]; launch.py does the same when a sweep ends.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import command, curves, figure3, runs, table, table1, table2


def report(folder: Path) -> bool:
    """Print the table, and write it and the figures into the sweep's folder.

    Returns whether there was anything to show: a sweep without an evaluated run has nothing.
    """
    if not (folder / "sweep.json").is_file():
        return False
    results, name = runs.load(folder), [str(folder)]
    if results.episodes.empty:
        return False
    table.main(name)
    for compared in (table1, table2):
        if compared.covers(results):
            compared.main(name)
    if results.runs["M"].nunique() > 1:
        figure3.main(name)
    curves.main(name)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    arguments = command.parser("Table, Figure 3 and learning curves of a sweep.").parse_args(argv)
    return 0 if report(runs.find(arguments.sweep, arguments.results)) else 1


if __name__ == "__main__":
    sys.exit(main())
