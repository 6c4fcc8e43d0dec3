"""LOM's Table 1 as far as it was run, beside the paper's numbers: terminal, Markdown, CSV, LaTeX.

    python -m analysis.table1 [sweep] [--statistic last_ten|last]

A cell is one method on one dataset. Runs of other methods and datasets are left out and named; so
are runs of a cell that was run with several settings, unless one of these is conf/'s own: choosing
the best of them by its scores is not done here.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pandas as pd
from rich.console import Console

from analysis import command, scores, table1_caption, table1_forms
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results
from analysis.table import plain

# The methods' labels in conf/algo, in the order of the paper's columns, and its names for them.
METHODS = {
    "onestep": "OneStep",
    "awac": "AWAC",
    "cql": "CQL",
    "td3_bc": "TD3BC",
    "lapo": "LAPO",
    "dmpo": "DMPO",
    "wcgan": "WCGAN",
    "wcvae": "WCVAE",
    "lom": "LOM",
}
PAPER_FILE = Path(__file__).with_name("lom_table1.csv")  # says where its numbers come from
_TERMINAL_WIDTH = 120


def paper() -> pd.DataFrame:
    """The paper's Table 1: `dataset`, `method` (our label), `paper_mean`, `paper_std` (or nan).

    Rows are in the paper's order, a dataset's methods together.
    """
    text = "".join(
        line
        for line in PAPER_FILE.read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.startswith("#")
    )
    printed = pd.read_csv(StringIO(text), index_col="dataset", dtype=str)
    rows = []
    for dataset, cells in printed.iterrows():
        for method, name in METHODS.items():
            mean, _, std = cells[name].partition("±")
            rows.append((dataset, method, float(mean), float(std) if std else math.nan))
    return pd.DataFrame(rows, columns=["dataset", "method", "paper_mean", "paper_std"])


def covers(results: Results) -> bool:
    """Whether several methods can be compared on a dataset of the table."""
    chosen, _ = _choose(results.runs[_inside(results.runs)])
    evaluated = chosen[chosen["run"].isin(results.episodes["run"])]
    return bool((evaluated.groupby("env")["label"].nunique() > 1).any())


def write(results: Results, out: Path, statistic: str = "last_ten") -> Written:
    """Write table1.md, table1.csv and table1.tex into `out`.

    Args:
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.

    Raises:
        AnalysisError: no run of the table is evaluated yet, or a cell mixes data or repeats a seed.
    """
    return _write(*_compare(results, statistic), out)


def _write(results: Results, grid: pd.DataFrame, notes: Sequence[str], out: Path) -> Written:
    files = [out / f"table1.{kind}" for kind in ("md", "csv", "tex")]
    markdown_file, csv_file, latex_file = files
    body = table1_forms.markdown_body(grid)
    page = command.markdown(_title(results), results, body, notes)
    markdown_file.write_text(page, encoding="utf-8")
    grid.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    latex_file.write_text(table1_forms.latex(_title(results), grid, notes), encoding="utf-8")
    return Written(files, results.problems)


def _title(results: Results) -> str:
    return f"LOM's Table 1, from {results.name}"


def _compare(results: Results, statistic: str) -> tuple[Results, pd.DataFrame, list[str]]:
    """The results with what was left out among their problems, the full grid, and its caption."""
    inside = _inside(results.runs)
    left_out = [
        Problem(run.run, f"left out: {run.label} on {run.env} is no cell of Table 1")
        for run in results.runs[~inside].itertuples()
    ]
    chosen, passed_over = _choose(results.runs[inside])
    left_out += passed_over
    shown = results._replace(
        runs=chosen, episodes=results.episodes[results.episodes["run"].isin(chosen["run"])]
    )
    concerned = {run for run, _ in results.problems} - {run for run, _ in left_out}
    results = results._replace(problems=[*results.problems, *left_out])
    if shown.episodes.empty:
        listed = "".join(f"\n  {run}: {problem}" for run, problem in results.problems)
        raise AnalysisError(f"{results.folder}: no run has anything to show in Table 1{listed}")
    order = paper()[["dataset", "method"]].rename(columns={"dataset": "env", "method": "label"})
    points = order.merge(scores.per_run(shown))  # the caption lists cells in the paper's order
    grid = _grid(points, statistic)
    missing = len(concerned - set(points["run"]))
    notes = table1_caption.notes(points, len(grid), statistic, len(left_out), missing)
    return results, grid, notes


def _inside(runs: pd.DataFrame) -> pd.Series:
    return runs["label"].isin(METHODS) & runs["env"].isin(paper()["dataset"])


def _choose(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """The runs to show, of one setting per cell, and those passed over.

    Of several settings conf/'s own is taken, else none: to pick one by its scores would be to
    select on the test.
    """
    kept, passed_over = [runs.iloc[:0]], []
    for (method, dataset), cell in runs.groupby(["label", "env"], sort=False):
        variants = [group for _, group in cell.groupby(["M", "beta", "settings"], dropna=False)]
        own = [variant for variant in variants if (variant["by_hand"] == "").any()]
        candidates = variants if len(variants) == 1 else own
        why = "name a sweep of one setting to have it shown"
        if len(candidates) == 1:
            kept += candidates
            why = "the table shows those of conf/'s own"
        for variant in variants:
            if len(candidates) == 1 and variant is candidates[0]:
                continue
            first = variant.iloc[0]
            named = f"M={plain(first['M'])}, beta={plain(first['beta'])}, {first['settings']}"
            given = first["by_hand"] or named.removesuffix(", ")
            problem = (
                f"left out: {method} on {dataset} has {len(variants)} settings, of which this is "
                f"{given}; {why}"
            )
            passed_over += [Problem(run, problem) for run in variant["run"]]
    return pd.concat(kept), passed_over


def _grid(points: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """A row per cell of the paper's table, empty where nothing was run."""
    cells = scores.per_cell(points).rename(columns={"label": "method", "env": "dataset"})
    listed = points.groupby(["label", "env"]).agg(
        seed_list=("seed", lambda seeds: " ".join(map(str, sorted(seeds)))),
        updates=("updates", lambda lengths: table1_caption.updates(lengths.iloc[0])),
        by_hand=("by_hand", "first"),
        sha256=("sha256", "first"),
        episodes=("last_episodes", "min"),
    )
    cells = cells.merge(listed, left_on=["method", "dataset"], right_index=True)
    cells = cells.rename(columns={statistic: "mean", f"{statistic}_std": "std"})
    kept = [
        "mean", "std", "seeds", "seed_list", "status", "M", "beta", "updates", "by_hand",
        "evaluations", "episodes", "data", "provenance", "sha256",
    ]  # fmt: skip
    grid = paper().merge(cells[["method", "dataset", *kept]], how="left")
    grid.insert(2, "paper_name", grid["method"].map(METHODS))
    grid.insert(grid.columns.get_loc("mean"), "difference", grid["mean"] - grid["paper_mean"])
    grid.insert(grid.columns.get_loc("mean"), "statistic", statistic)
    counts = {"seeds": "Int64", "evaluations": "Int64", "episodes": "Int64"}
    return grid.astype(counts)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("LOM's Table 1 beside the paper's numbers.")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default="last_ten", help="of each run"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        results, grid, notes = _compare(results, arguments.statistic)
        written = _write(results, grid, notes, out)
        # A pipe or a log file has no width of its own to fold cells to.
        console = Console(width=None if sys.stdout.isatty() else _TERMINAL_WIDTH)
        console.print(table1_forms.terminal(_title(results), grid, notes), highlight=False)
        return written

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
