"""Claims of how scores change with the number of components M: from scores to verdicts.

Of `Scores` the columns are values of M here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import ranking
from analysis.claim_checks import Reading, Scores, count


def trend(scores: Scores, sign: int = 1) -> list[Reading]:
    """Scores rise (sign 1) or fall (-1) with M on each dataset."""
    way, extreme = ("rises", "highest") if sign == 1 else ("falls", "lowest")

    def steps(curve: pd.Series) -> NDArray[np.bool_]:
        return np.diff(sign * curve) > 0

    def tau(curve: pd.Series) -> float:
        return ranking.kendall_tau(curve.index, curve)

    return _curves(
        scores,
        lambda curve: len(curve) > 1,
        {
            f"it {way} at every step of M": (
                lambda curve: bool(steps(curve).all()),
                lambda curve: f"{steps(curve).sum()} of {len(curve) - 1} steps",
            ),
            f"it {way} with M by rank (Kendall's tau)": (
                lambda curve: sign * tau(curve) > 0,
                lambda curve: f"{tau(curve):+.2f}",
            ),
            f"it is {extreme} at the largest M": (
                lambda curve: (sign * curve).idxmax() == curve.index[-1],
                lambda curve: f"M = {(sign * curve).idxmax()}",
            ),
        },
    )


def rises_to(scores: Scores, peak: int) -> list[Reading]:
    """Scores rise up to M = `peak` and not beyond, on each dataset."""

    def highest(curve: pd.Series) -> bool:
        return bool(curve[peak] == curve.max())

    def where(curve: pd.Series) -> str:
        return f"highest at M = {curve.idxmax()}"

    return _curves(
        scores,
        lambda curve: peak in curve and curve.index[0] < peak < curve.index[-1],
        {
            f"it rises at every step to M = {peak}, and no larger M is higher": (
                lambda curve: highest(curve) and bool((np.diff(curve.loc[:peak]) > 0).all()),
                where,
            ),
            f"it is highest at M = {peak}": (highest, where),
        },
    )


def indifferent(scores: Scores) -> list[Reading]:
    """Which M is taken between the smallest and the largest matters little, on each dataset."""

    def overlap(curve: pd.Series) -> bool:
        inner = curve.index[1:-1]
        deviations = scores.deviations.loc[curve.name, inner]
        return not ranking.apart(curve[inner], deviations).any()

    def between(curve: pd.Series) -> str:
        inner = curve.iloc[1:-1]
        return f"{inner.min():.1f} to {inner.max():.1f} for M = {', '.join(map(str, inner.index))}"

    text = "between the smallest and the largest M, means ± deviations overlap"
    return _curves(scores, lambda curve: len(curve) > 3, {text: (overlap, between)})


def _curves(
    scores: Scores,
    enough: Callable[[pd.Series], bool],
    readings: dict[str, tuple[Callable[[pd.Series], bool], Callable[[pd.Series], str]]],
) -> list[Reading]:
    """What is true of every dataset's scores against M.

    Args:
        enough: whether the values known of a dataset can tell.
        readings: a test of one dataset's values, and its numbers, by the text of the reading.
    """
    curves = [row.dropna() for _, row in scores.means.iterrows()]
    known = np.array([enough(curve) for curve in curves], bool)
    if not known.any():
        return []
    made = []
    for text, (test, numbers) in readings.items():
        true = np.array([tells and test(curve) for tells, curve in zip(known, curves, strict=True)])
        told = [curve for tells, curve in zip(known, curves, strict=True) if tells]
        listed = ", ".join(f"{curve.name} {numbers(curve)}" for curve in told)
        made.append(count(text, true, known & ~true, len(curves), listed))
    return made
