"""Everything there is to show of a sweep: its table, Tables 1 and 2 of LOM where several of their
methods were run, statistics over datasets where there are several, how a setting is chosen where
several were run, Figure 3 where M was swept, learning curves.

python -m analysis.sweep [sweep]; launch.py does the same when a sweep ends.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import (
    aggregates,
    command,
    curves,
    figure3,
    methods,
    runs,
    scores,
    selection,
    table,
    table1,
    table2,
)
from analysis.folders import AnalysisError


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
    try:
        points = scores.per_run(results)
    except AnalysisError:  # which the table has told
        points = results.runs.iloc[:0]
    named = methods.name(points)
    shared = methods.shared_datasets(points.assign(method=named), set(named))
    if len(shared) > 1 and named.nunique() > 1:
        aggregates.main(name)
    if (named.groupby(points["label"]).nunique() > 1).any():
        selection.main(name)
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
