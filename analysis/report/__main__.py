"""All results as one page for a browser: report.html, which needs no network and no server.

    python -m analysis.report [results] [--statistic last|last_ten|best] [--out folder]

What was run, sortable and filterable tables, figures with values under the pointer, learning curves
of the runs that a filter leaves, contact sheets of `lom_exp.watch`, what is wrong, links.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from analysis import command, scores
from analysis.command import Written
from analysis.report import content, page
from analysis.runs import Results


def write(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Written:
    """Write report.html into `out`; what `content.collect` raises."""
    made = content.collect(results, out, statistic)
    file = out / "report.html"
    title = f"Results: {results.name}"
    file.write_text(
        page.assemble(title, made.sections, made.figures, made.curves), encoding="utf-8"
    )
    return Written([file], made.problems)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("All results as one page for a browser.")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default=scores.DEFAULT, help="of each run"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.statistic)

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
