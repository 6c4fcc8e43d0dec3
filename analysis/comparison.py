"""Runs beside a paper's table: which of them its cells show, and the numbers of both.

A cell is one method on one dataset. Runs of other methods and datasets are left out and named; so
are runs of a cell that was run with several settings, unless one of these is conf/'s own: choosing
the best of them by its scores is not done here.
"""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy import stats

from analysis import scores
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results
from analysis.table import plain

PAPER_SEEDS = 4


class PaperTable(NamedTuple):
    """A table of a paper, kept as a CSV file of this folder."""

    name: str
    methods: dict[str, str]  # labels in conf/algo, in the order of its columns, and its names
    file: Path  # a comment that says where the numbers come from, then a line per dataset

    def numbers(self) -> pd.DataFrame:
        """What it prints: `dataset`, `method` (our label), `paper_mean`, `paper_std` (or nan).

        Rows are in the paper's order, a dataset's methods together.
        """
        text = "".join(
            line
            for line in self.file.read_text(encoding="utf-8").splitlines(keepends=True)
            if not line.startswith("#")
        )
        printed = pd.read_csv(StringIO(text), index_col="dataset", dtype=str)
        rows = []
        for dataset, cells in printed.iterrows():
            for method, name in self.methods.items():
                mean, _, std = cells[name].partition("±")
                rows.append((dataset, method, float(mean), float(std) if std else math.nan))
        return pd.DataFrame(rows, columns=["dataset", "method", "paper_mean", "paper_std"])


class Selection(NamedTuple):
    """The runs that a table shows."""

    results: Results  # all there is, with what is left out among its problems
    shown: Results
    points: pd.DataFrame  # `scores.per_run` of the shown, in the paper's order
    left_out: int  # runs that do not belong into the table
    missing: int  # runs that do and have nothing to show


def covers(results: Results, paper: PaperTable) -> bool:
    """Whether several methods can be compared on a dataset of the table."""
    chosen, _ = _choose(results.runs[_inside(results.runs, paper)])
    evaluated = chosen[chosen["run"].isin(results.episodes["run"])]
    return bool((evaluated.groupby("env")["label"].nunique() > 1).any())


def select(results: Results, paper: PaperTable) -> Selection:
    """The runs that the table shows.

    Raises:
        AnalysisError: no run of the table is evaluated yet, or a cell mixes data or repeats a seed.
    """
    inside = _inside(results.runs, paper)
    left_out = [
        Problem(run.run, f"left out: {run.label} on {run.env} is no cell of {paper.name}")
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
        raise AnalysisError(
            f"{results.folder}: no run has anything to show in {paper.name}{listed}"
        )
    order = paper.numbers()[["dataset", "method"]]
    points = order.rename(columns={"dataset": "env", "method": "label"}).merge(
        scores.per_run(shown)
    )
    missing = len(concerned - set(points["run"]))
    return Selection(results, shown, points, len(left_out), missing)


def _inside(runs: pd.DataFrame, paper: PaperTable) -> pd.Series:
    return runs["label"].isin(paper.methods) & runs["env"].isin(paper.numbers()["dataset"])


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


def grid(paper: PaperTable, points: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """A row per cell of the paper's table, empty where nothing was run.

    Args:
        points: rows of `scores.per_run`.
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.
    """
    cells = scores.per_cell(points).rename(columns={"label": "method", "env": "dataset"})
    listed = points.groupby(["label", "env"]).agg(
        seed_list=("seed", lambda seeds: " ".join(map(str, sorted(seeds)))),
        updates=("updates", lambda lengths: updates(lengths.iloc[0])),
        by_hand=("by_hand", "first"),
        sha256=("sha256", "first"),
        episodes=("last_episodes", "min"),
    )
    cells = cells.merge(listed, left_on=["method", "dataset"], right_index=True)
    names = {statistic: "mean"} | {f"{statistic}_{end}": end for end in ("std", "low", "high")}
    cells = cells.rename(columns=names)
    kept = [
        "mean", "std", "low", "high", "seeds", "seed_list", "status", "M", "beta", "updates",
        "by_hand", "evaluations", "episodes", "data", "provenance", "sha256",
    ]  # fmt: skip
    made = paper.numbers().merge(cells[["method", "dataset", *kept]], how="left")
    made.insert(2, "paper_name", made["method"].map(paper.methods))
    made.insert(made.columns.get_loc("mean"), "statistic", statistic)
    # Of four seeds with this deviation, as scores.interval has it.
    half = stats.t.ppf(0.975, PAPER_SEEDS - 1) * made["paper_std"] / math.sqrt(PAPER_SEEDS)
    made["overlap"] = [
        "" if math.isnan(low) or math.isnan(paper_low) else
        "yes" if low <= paper_high and paper_low <= high else "no"
        for low, high, paper_low, paper_high in zip(
            made["low"], made["high"], made["paper_mean"] - half, made["paper_mean"] + half,
            strict=True,
        )
    ]  # fmt: skip
    return made.astype({"seeds": "Int64", "evaluations": "Int64", "episodes": "Int64"})


def updates(lengths: dict[str, int]) -> str:
    """`200,000 behavior + 1,000,000 policy`."""
    return " + ".join(f"{count:,} {phase}" for phase, count in lengths.items())
