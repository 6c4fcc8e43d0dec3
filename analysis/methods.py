"""Runs by method and dataset: what statistics over several datasets and comparisons are of.

A method is a label, such as `lom`. Where a dataset has runs of several settings of one label, each
setting is a method of its own, `lom M=5 beta=0.1`: to take the best of them would be to select on
the test.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.statistics import Strata
from analysis.table import plain

_SETTINGS = ["M", "beta", "settings"]


def name(points: pd.DataFrame) -> pd.Series:
    """The method of each row of `scores.per_run`."""
    names = pd.Series("", index=points.index, dtype=object)
    for label, mine in points.groupby("label", sort=False):
        variants = mine[["env", *_SETTINGS]].drop_duplicates()
        if not variants["env"].duplicated().any():
            names[mine.index] = label
            continue
        varied = [column for column in _SETTINGS if mine[column].nunique(dropna=False) > 1]
        names[mine.index] = [
            " ".join(
                [str(label), *(_given(*pair) for pair in zip(varied, row, strict=True))]
            ).strip()
            for row in mine[varied].itertuples(index=False)
        ]
    return names


def _given(column: str, value: object) -> str:
    if column == "settings":
        return str(value)
    return f"{column}={plain(value)}"


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
