"""Runs by method and dataset: what statistics over several datasets and comparisons are of.

A method is a label, such as `lom`. Where a dataset has runs of several settings of one label, each
setting is a method of its own, `lom M=5` or `lom M=5 algo.tau=0.1`: to take the best of them would
be to select on the test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.statistics import Strata
from analysis.table import plain

_SETTINGS = ["M", "beta", "settings"]


def name(points: pd.DataFrame) -> pd.Series:
    """The method of each row of `scores.per_run`: of its settings as few as tell it from others."""
    names = pd.Series("", index=points.index, dtype=object)
    for label, mine in points.groupby("label", sort=False):
        if not mine[["env", *_SETTINGS]].drop_duplicates()["env"].duplicated().any():
            names[mine.index] = label
            continue
        given = [_given(*row) for row in mine[_SETTINGS].itertuples(index=False)]
        kept = sorted({key for row in given for key in row}, key=list(given[0]).index)
        variants = _count(given, kept)
        for key in reversed(list(kept)):
            without = [other for other in kept if other != key]
            if _count(given, without) == variants:
                kept = without
        found = {tuple(row.get(key, "-") for key in kept) for row in given}
        names[mine.index] = [
            f"{label} {_shortest(tuple(row.get(key, '-') for key in kept), kept, found)}"
            for row in given
        ]
    return names


def _shortest(values: tuple[str, ...], keys: list[str], found: set[tuple[str, ...]]) -> str:
    """The first of the settings, as many as no other variant has."""
    alike = [[each[:n] for each in found].count(values[:n]) for n in range(1, len(keys) + 1)]
    shown = 1 + alike.index(1)
    return " ".join(f"{key}={value}" for key, value in zip(keys[:shown], values, strict=False))


def _given(M: float, beta: float, settings: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in re.split(r", (?=[\w.]+=)", settings) if part)
    return {"M": plain(M), "beta": plain(beta)} | {key: value for key, _, value in pairs}


def _count(given: list[dict[str, str]], keys: list[str]) -> int:
    return len({tuple(row.get(key) for key in keys) for row in given})


def shared_datasets(points: pd.DataFrame, methods: Iterable[str]) -> list[str]:
    """The datasets on which all of the methods have runs.

    Args:
        points: rows of `scores.per_run` with a column `method`.
    """
    sets = [set(points.loc[points["method"] == method, "env"]) for method in methods]
    return sorted(set.intersection(*sets)) if sets else []


def strata(points: pd.DataFrame, method: str, datasets: Iterable[str], statistic: str) -> Strata:
    """The scores of a method's runs, an array per dataset."""
    mine = points[points["method"] == method].set_index("env")[statistic]
    return [np.atleast_1d(mine.loc[[dataset]].to_numpy(dtype=float)) for dataset in datasets]
