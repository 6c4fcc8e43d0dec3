"""Numbers over evaluations and seeds: what a run scored, what a cell of the results scored.

A cell is all runs that differ by seed alone: one label, dataset, M, beta and settings. Scores are
normalized returns, 100 (R - random) / (expert - random). At an update where a run has a regular and
a final evaluation, the final one, of more episodes, stands for both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.folders import AnalysisError
from analysis.runs import Results

CELL = ["label", "env", "M", "beta", "settings"]
STATISTICS = {
    "last": "last evaluation",
    "last_ten": "mean of the last ten evaluations",
    "best": "best evaluation (optimistic: chosen by the score it then reports)",
}
DEFAULT = "last"
# How a table calls them.
HEADINGS = {"last": "last", "last_ten": "last ten", "best": "best (optimistic)"}
# What a reader is told of the data. Only files of a known hash have the provenance d4rl.
DATA_NAMES = {
    "d4rl": "D4RL",
    "collected": "collected data, not D4RL",
    "generated": "generated data, not D4RL",
}
_UNKNOWN_DATA = "data of unknown origin"


class Interval(NamedTuple):
    """A 95 % interval over seeds; nan where there is none, and why: `none: one seed`."""

    low: float
    high: float
    kind: str


def data_name(provenance: str) -> str:
    """How to call data of this provenance; anything but `d4rl` is never called D4RL's."""
    return DATA_NAMES.get(provenance, _UNKNOWN_DATA)


def interval(scores: ArrayLike) -> Interval:
    """Student's 95 % interval of the mean of one score per seed.

    A bootstrap of three seeds contains the mean in 75 % of cases, not in 95 %; this one does in 95
    where scores are normal, at the price of a width that tells how little few seeds say: 6.4 ranges
    of the seeds on either side of the mean for two, 1.2 for three, 0.5 for five.
    """
    values = np.asarray(scores, dtype=float)
    count = len(values)
    if count == 1:
        return Interval(np.nan, np.nan, "none: one seed")
    error = values.std(ddof=1) / np.sqrt(count)
    half = stats.t.ppf(0.975, count - 1) * error
    return Interval(values.mean() - half, values.mean() + half, "95% t")


def evaluations(episodes: pd.DataFrame, quantity: str = "score") -> pd.DataFrame:
    """One row per run and evaluated update: the quantity's mean and the number of episodes.

    Args:
        episodes: one row per episode, `Results.episodes`.
        quantity: the column to average; nan in all episodes of an evaluation or in none.
    """
    keys = ["run", "phase", "step", "update", "final"]
    # Of millions of episodes, those of an evaluation stand together: they are summed first.
    begins = np.zeros(len(episodes), dtype=bool)
    begins[:1] = True
    for key in keys:
        column = episodes[key]
        values = (column.cat.codes if hasattr(column, "cat") else column).to_numpy()
        begins[1:] |= values[1:] != values[:-1]
    first = np.flatnonzero(begins)
    means = episodes[keys].iloc[first].astype({"run": object, "phase": object})
    means["sum"] = np.add.reduceat(episodes[quantity].to_numpy(float), first)
    means["episodes"] = np.diff([*first, len(episodes)])
    sums = (
        means.groupby(keys, sort=True)[["sum", "episodes"]].agg(
            {"sum": lambda each: each.sum(skipna=False), "episodes": "sum"}
        )
        if means.duplicated(keys).any()
        else means.set_index(keys)
    )
    means = sums.assign(**{quantity: sums["sum"] / sums["episodes"]}).reset_index()
    means = means.sort_values(["run", "step", "final"], kind="stable")
    means = means.drop_duplicates(["run", "phase", "update"], keep="last").reset_index(drop=True)
    return means[[*keys, quantity, "episodes"]]


def per_run(results: Results, quantity: str = "score") -> pd.DataFrame:
    """The rows of `results.runs` that have an evaluation, with `STATISTICS` and more.

    `evaluations` is how many `last_ten` averages (fewer than ten in a short or young run),
    `evaluated_update` where the last was; `episodes` and `last_episodes` are the sizes of the first
    and the last of them.

    Args:
        quantity: what is averaged, a column of `results.episodes`; an average over evaluations of
            which one has none is nan.

    Raises:
        AnalysisError: no run has an evaluation, or a cell mixes data or repeats a seed.
    """
    if results.episodes.empty:
        listed = "".join(f"\n  {run}: {problem}" for run, problem in results.problems)
        raise AnalysisError(f"{results.folder}: no run has an evaluation yet{listed}")
    _check_cells(results.runs)
    all_means = evaluations(results.episodes, quantity)
    last_ten = all_means.groupby("run", sort=False).tail(10)
    groups = last_ten.groupby("run", sort=False)
    first = last_ten.drop_duplicates("run").set_index("run")
    last = last_ten.drop_duplicates("run", keep="last").set_index("run")
    rows = pd.DataFrame(
        {
            "last": last[quantity],
            "last_ten": groups[quantity].mean().where(groups[quantity].count() == groups.size()),
            "best": all_means.groupby("run", sort=False)[quantity].max(),
            "evaluations": groups.size(),
            "episodes": first["episodes"],
            "last_episodes": last["episodes"],
            "evaluated_update": last["update"],
        }
    ).reset_index()
    merged = results.runs.merge(rows, on="run", how="inner", validate="one_to_one")
    return merged.sort_values([*CELL, "seed"], kind="stable").reset_index(drop=True)


def per_cell(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of `per_run`'s frame: mean, standard deviation and interval over seeds.

    A cell with a nan among its seeds has a nan mean: to leave that seed out would go unseen.
    """
    rows = []
    for cell, group in runs.groupby(CELL, dropna=False, sort=True):
        row = dict(zip(CELL, cell, strict=True)) | {"seeds": len(group)}
        for statistic in STATISTICS:
            scores = group[statistic]
            low, high, kind = interval(np.sort(scores))  # the order of the runs must not matter
            row |= {
                statistic: scores.mean(skipna=False),
                f"{statistic}_std": scores.std(ddof=1, skipna=False),
                f"{statistic}_low": low,
                f"{statistic}_high": high,
                "interval": kind,
            }
        finished = int((group["status"] == "finished").sum())
        row |= {
            "evaluations": int(group["evaluations"].min()),
            "dataset_score": group["dataset_score"].iloc[0],
            "data": data_name(group["provenance"].iloc[0]),
            "provenance": group["provenance"].iloc[0],
            "status": "finished"
            if finished == len(group)
            else f"{finished} of {len(group)} finished",
        }
        rows.append(row)
    return pd.DataFrame(rows).astype({"M": "Int64"})


def sizes(runs: pd.DataFrame, statistic: str) -> str:
    """`here 10 evaluations of 10 episodes, the last of 100`; ranges where runs differ.

    Args:
        runs: rows of `per_run`.
        statistic: the key of STATISTICS whose evaluations are meant; `last`: `here 100 episodes`,
            `best`: `here of all`.
    """

    def between(column: str) -> str:
        low, high = runs[column].min(), runs[column].max()
        return f"{low}" if low == high else f"{low} to {high}"

    counted, sizes, last = (
        between(column) for column in ("evaluations", "episodes", "last_episodes")
    )
    if statistic == "best":
        return f"here of all, of {sizes} episodes"
    if statistic == "last":
        return f"here {last} episodes"
    return f"here {counted} evaluations of {sizes} episodes" + (
        f", the last of {last}" * (last != sizes)
    )


def _check_cells(runs: pd.DataFrame) -> None:
    for cell, group in runs.groupby(CELL, dropna=False):
        where = ", ".join(
            f"{key}={value}" for key, value in zip(CELL, cell, strict=True) if str(value)
        )
        if len(group[["provenance", "sha256"]].drop_duplicates()) > 1:
            listed = "".join(
                f"\n  {row.run}: {data_name(row.provenance)}, sha256 {row.sha256[:12]}"
                for row in group.itertuples()
            )
            raise AnalysisError(
                f"runs of one cell ({where}) were trained on different data; analyze them in "
                f"sweeps of their own:{listed}"
            )
        repeated = group[group["seed"].duplicated(keep=False)]
        if not repeated.empty:
            listed = "".join(
                f"\n  {run} (seed {seed})"
                for run, seed in zip(repeated["run"], repeated["seed"], strict=True)
            )
            raise AnalysisError(
                f"a seed counts twice in one cell ({where}); analyze these runs in sweeps of "
                f"their own:{listed}"
            )
