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

from analysis.folders import AnalysisError
from analysis.runs import Results

CELL = ["label", "env", "M", "beta", "settings"]
STATISTICS = {"last_ten": "mean of the last ten evaluations", "last": "last evaluation"}
# What a reader is told of the data. Only files of a known hash have the provenance d4rl.
DATA_NAMES = {
    "d4rl": "D4RL",
    "collected": "collected data, not D4RL",
    "generated": "generated data, not D4RL",
}
_UNKNOWN_DATA = "data of unknown origin"
_BOOTSTRAP_DRAWS = 10_000
# Of the resamples of 3 seeds, 1 in 27 repeats the lowest three times: their 95 % interval is the
# range and claims more than the range does. From 4 seeds on it is an interval of its own.
_SEEDS_FOR_INTERVAL = 4


class Interval(NamedTuple):
    """An interval over seeds and what it is: `95% bootstrap`, `range` or `none`."""

    low: float
    high: float
    kind: str


def data_name(provenance: str) -> str:
    """How to call data of this provenance; anything but `d4rl` is never called D4RL's."""
    return DATA_NAMES.get(provenance, _UNKNOWN_DATA)


def interval(scores: ArrayLike) -> Interval:
    """95 % bootstrap interval of the mean of one score per seed, seeded; of few seeds the range."""
    values = np.sort(np.asarray(scores, dtype=float))  # the order of the runs must not matter
    count = len(values)
    if count == 1:
        return Interval(np.nan, np.nan, "none")
    if count < _SEEDS_FOR_INTERVAL:
        return Interval(values[0], values[-1], "range")
    draws = np.random.default_rng(0).choice(values, (_BOOTSTRAP_DRAWS, count)).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(low, high, "95% bootstrap")


def evaluations(episodes: pd.DataFrame, quantity: str = "score") -> pd.DataFrame:
    """One row per run and evaluated update: the quantity's mean and the number of episodes.

    Args:
        episodes: one row per episode, `Results.episodes`.
        quantity: the column to average; nan in all episodes of an evaluation or in none.
    """
    keys = ["run", "phase", "step", "update", "final"]
    grouped = episodes.groupby(keys, observed=True, sort=True)[quantity]
    means = grouped.agg(**{quantity: "mean", "episodes": "size"}).reset_index()
    means = means.astype({"run": object, "phase": object})
    means = means.sort_values(["run", "step", "final"], kind="stable")
    return means.drop_duplicates(["run", "phase", "update"], keep="last").reset_index(drop=True)


def per_run(results: Results, quantity: str = "score") -> pd.DataFrame:
    """The rows of `results.runs` that have an evaluation, with `last`, `last_ten` and more.

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
    rows = []
    for run, group in evaluations(results.episodes, quantity).groupby("run"):
        last_ten = group.tail(10)
        rows.append(
            {
                "run": run,
                "last": last_ten[quantity].iloc[-1],
                "last_ten": last_ten[quantity].mean(skipna=False),
                "evaluations": len(last_ten),
                "episodes": int(last_ten["episodes"].iloc[0]),
                "last_episodes": int(last_ten["episodes"].iloc[-1]),
                "evaluated_update": int(last_ten["update"].iloc[-1]),
            }
        )
    merged = results.runs.merge(pd.DataFrame(rows), on="run", how="inner", validate="one_to_one")
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
            low, high, kind = interval(scores)
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


def sizes(runs: pd.DataFrame, statistic: str = "last_ten") -> str:
    """`here 10 evaluations of 10 episodes, the last of 100`; ranges where runs differ.

    Args:
        runs: rows of `per_run`.
        statistic: the key of STATISTICS whose evaluations are meant; `last`: `here 100 episodes`.
    """

    def between(column: str) -> str:
        low, high = runs[column].min(), runs[column].max()
        return f"{low}" if low == high else f"{low} to {high}"

    counted, sizes, last = (
        between(column) for column in ("evaluations", "episodes", "last_episodes")
    )
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
