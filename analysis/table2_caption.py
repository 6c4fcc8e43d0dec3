"""What a reader of Table 2 must know: what a score is here, and how far it compares."""

from __future__ import annotations

import itertools
import math

import pandas as pd

from analysis import comparison_caption, ranking, scores
from analysis.comparison import Selection
from analysis.table import plain

_CHANCE = 0.05  # above which it is said how often equal methods come out in order by chance


def notes(selection: Selection, grid: pd.DataFrame, statistic: str) -> list[str]:
    """The caption, a paragraph each.

    Args:
        grid: the table's numbers, a row per cell.
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.
    """
    points, names = selection.points, dict(zip(grid["method"], grid["paper_name"], strict=True))
    return [
        "Ours: the mean undiscounted return of a run's episodes, 50 steps each of which earns 2 at "
        "the first quadrant's goal, 1 at another goal and 0 elsewhere; mean ± standard deviation "
        f"over seeds of the {scores.STATISTICS[statistic]} of each run "
        f"({scores.sizes(points, statistic)}); a mean without deviation is of one seed. Bold: the "
        "highest mean of a line, whatever the deviations.",
        "Paper: Table 2 of Wang, Jin and Montana (ICLR 2025). It does not say what its scores "
        "count, how many seeds they are of and what its ± is. By its rewards a policy that goes "
        "straight to the best goal earns above 90 on fetch-reach as it is here, and the paper's "
        "LOM has 47.2: the scores themselves do not compare, but those relative to LOM's (/ LOM) "
        "and the ranks do.",
        "rank: 1 is the highest mean; a range where means ± deviations overlap. best goal, any "
        "goal: the share of the same episodes whose last step earns 2, or anything. normalized: "
        "100 (R - random) / (expert - random) of their returns R.",
        *_unrecorded(grid),
        *_orders(grid, names),
        _claim(grid, names),
        comparison_caption.data(
            points,
            "The paper's, 4 million transitions a task of an expert it does not describe, were "
            "not published.",
        ),
        f"Files: {'; '.join(_files(points))}.",
        f"M: {_setting(points, 'M')}. beta: {_setting(points, 'beta')}.",
        *comparison_caption.runs(selection, len(grid), "table2.md"),
    ]


def _unrecorded(grid: pd.DataFrame) -> list[str]:
    count = int((grid["mean"].notna() & grid["at_best"].isna()).sum())
    unknown = (
        f"Where episodes end is not known of {count} cells: their evaluations are of a version"
    )
    return [f"{unknown} that did not record it."] if count else []


def _orders(grid: pd.DataFrame, names: dict[str, str]) -> list[str]:
    """How the order of the methods here and the paper's agree, task by task."""
    parts = []
    for task, row in grid[grid["mean"].notna()].groupby("dataset", sort=False):
        if len(row) < 2:
            continue
        tau = ranking.kendall_tau(row["mean"], row["paper_mean"])
        ours = ranking.apart(row["mean"], row["std"])
        paper = ranking.apart(row["paper_mean"], row["paper_std"])
        methods = [names[method] for method in row["method"]]
        # (i, j): i stands above j in the paper, and the two are apart here, too.
        both = [pair for pair in _pairs(len(row)) if paper[pair] == 1 and ours[pair] != 0]
        reversed_ = [f"{methods[j]} above {methods[i]}" for i, j in both if ours[i, j] == -1]
        agreeing = len(both) - len(reversed_)
        parts.append(
            f"{task}: Kendall's tau {'undefined' if math.isnan(tau) else f'{tau:.2f}'} over "
            f"{len(row)} methods; pairs of methods that overlap neither here nor in the paper: "
            f"{len(both)} of {math.comb(len(row), 2)}, of which {agreeing} stand as in the paper"
            + (f" (not so: {', '.join(reversed_)})" * bool(reversed_))
        )
    if not parts:
        return []
    seeds = int(grid["seeds"].min())
    chance = 2 / math.comb(2 * seeds, seeds)
    few = (
        "A single seed tells nothing of the order of two methods."
        if seeds == 1
        else f"{seeds} seeds are few: of two equal methods one has all of its seeds above the "
        f"other's in {chance:.0%} of cases."
    )
    return [" ".join([f"Order: {'. '.join(parts)}.", *([few] if chance > _CHANCE else [])])]


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(itertools.permutations(range(count), 2))


def _claim(grid: pd.DataFrame, names: dict[str, str]) -> str:
    """The paper's `53%`, which is against one baseline, and what it is here."""
    printed = grid.groupby("method", sort=False)["paper_mean"].sum()
    gains = {
        names[method]: _gain(printed["lom"], value)
        for method, value in printed.items()
        if method != "lom"
    }
    others = ", ".join(f"{gain} over {name}" for name, gain in gains.items() if name != "AWAC")
    text = (
        "Section 6.2 has LOM outperform the baselines by 53% on average. In print this is so of "
        f"AWAC alone, by the sums over the tasks: {printed['lom']:.1f} / {printed['awac']:.1f}, "
        f"{gains['AWAC']}; it is {others}."
    )
    wide = grid.pivot(index="dataset", columns="method", values=["mean", "paper_mean"])
    wide = wide.reindex(grid["dataset"].unique())
    run = wide.dropna(subset=[("mean", "lom"), ("mean", "awac")])
    if run.empty:
        return text
    ours, paper = (
        _gain(run[mean]["lom"].sum(), run[mean]["awac"].sum()) for mean in ("mean", "paper_mean")
    )
    return f"{text} Over AWAC on {' + '.join(run.index)}: ours {ours}, the paper's {paper}."


def _gain(ours: float, other: float) -> str:
    return f"{ours / other - 1:+.0%}" if other > 0 else "undefined (0)"


def _files(points: pd.DataFrame) -> list[str]:
    """Rows and hash of each file of data."""
    made = []
    for (task, sha256), runs in points.groupby(["env", "sha256"], sort=False):
        rows = runs["rows"].iloc[0]
        count = "an unknown number of" if pd.isna(rows) else f"{rows:,}"
        made.append(f"{task} {count} rows, sha256 {sha256[:12]}")
    return made


def _setting(points: pd.DataFrame, column: str) -> str:
    """`4 (mdn, lom)`, of the methods that have it."""

    def value(cell: pd.DataFrame) -> str:
        return "" if pd.isna(cell[column].iloc[0]) else plain(cell[column].iloc[0])

    return comparison_caption.by_value(points, value) or "none"
