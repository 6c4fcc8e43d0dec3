"""Claims of by how many percent one method is better than others: from scores to verdicts.

A gain over another method is 100 (own / other - 1). Printed scores are rounded: what a percentage
may be is a range, and a claimed one holds where a number of this range rounds to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.claim_checks import FAILS, HOLDS, OPEN, Reading, Scores, over_all


def _gain(own: pd.Series, other: pd.Series) -> pd.Series:
    return 100 * (own / other - 1)


class Range(NamedTuple):
    """A percentage: from the printed scores, and the least and most that rounding allows."""

    low: float
    value: float
    high: float

    def matches(self, claimed: float, digits: int) -> bool:
        """Whether it may be what rounds to the claimed number."""
        half = 0.5 * 10**-digits
        return bool(self.low < claimed + half and self.high >= claimed - half)

    @property
    def spread(self) -> str:
        """`53.40 to 54.36`; nothing where the scores are not rounded."""
        return f"{self.low:.2f} to {self.high:.2f}" if self.high > self.low else ""


def gain_range(
    scores: Scores, low: float, high: float, groups: dict[str, Sequence[str]]
) -> list[Reading]:
    """The subject gains from `low` to `high` %, with one decimal, over the best of a group.

    Args:
        groups: which methods count, by the name of the group.
    """
    own, readings = scores.means[scores.subject], []
    for text, methods in groups.items():
        rival = scores.means[list(methods)].max(axis=1, skipna=False)
        bounds = [
            _gain(own + way * scores.rounding, (rival - way * scores.rounding).where(rival > 0))
            for way in (-1, 0, 1)
        ]
        if bounds[1].isna().all():
            continue
        least = Range(*(bound.min() for bound in bounds))
        most = Range(*(bound.max() for bound in bounds))
        missing = int(bounds[1].isna().sum())
        inside = least.high >= low - 0.05 and most.low < high + 0.05
        equal = least.matches(low, 1) and most.matches(high, 1)
        verdict = (OPEN if inside else FAILS) if missing else HOLDS if equal else FAILS
        numbers = f"{least.value:+.2f} % to {most.value:+.2f} %"
        if missing:
            numbers = f"{least.value:+.2f} %" if least == most else numbers
            numbers += f", {missing} of {len(own)} not run"
        listed = (f"{dataset} {gain:+.2f}" for dataset, gain in bounds[1].dropna().items())
        detail = f"{', '.join(listed)}{_rounding([least, most])}"
        readings.append(Reading(f"over {text}", verdict, numbers, detail))
    return readings


def mean_gain(scores: Scores, claimed: float, groups: dict[str, Sequence[str]]) -> list[Reading]:
    """The subject is better than the others by `claimed` % on average, given without decimals.

    Args:
        groups: which methods the average is over, by the name of the group.
    """
    own, others = scores.means[scores.subject], scores.others
    if scores.means.isna().any(axis=None) or (others <= 0).any(axis=None):
        return []
    bases = {text: others[list(methods)] for text, methods in groups.items()}
    bases["the best other method of each task"] = others.max(axis=1).to_frame()
    bases |= {f"{name} alone": others[[name]] for name in others}
    readings = []
    for text, base in bases.items():
        rounded = [(own + by * scores.rounding, base - by * scores.rounding) for by in (-1, 0, 1)]
        ranges = [
            Range(*(way(*pair) for pair in rounded)) for way in (_mean_of_gains, _gain_of_sums)
        ]
        verdict = HOLDS if any(value.matches(claimed, 0) for value in ranges) else FAILS
        mean, sums = ranges
        numbers = f"{mean.value:+.2f} %, by sums {sums.value:+.2f} %"
        readings.append(Reading(f"over {text}", verdict, numbers, _rounding(ranges).strip("; ")))
    return readings


def _mean_of_gains(own: pd.Series, others: pd.DataFrame) -> float:
    return float((100 * (others.rdiv(own, axis=0) - 1)).to_numpy().mean())


def _gain_of_sums(own: pd.Series, others: pd.DataFrame) -> float:
    return float(100 * (own.sum() / others.sum().mean() - 1))


def _rounding(ranges: Sequence[Range]) -> str:
    """`; by rounding 0.10 to 0.30, 7.03 to 7.48`, if the scores are rounded."""
    spreads = [value.spread for value in ranges if value.spread]
    return f"; by rounding {', '.join(spreads)}" if spreads else ""


def more_on(scores: Scores, datasets: Sequence[str]) -> list[Reading]:
    """The subject gains more over the others on `datasets` than on the rest."""
    inside = scores.means.index.isin(datasets)
    compared = {
        "the best other method": scores.others.max(axis=1, skipna=False),
        "the mean of the other methods": scores.others.mean(axis=1, skipna=False),
    }
    readings = []
    for text, baseline in compared.items():
        gains = _gain(scores.means[scores.subject], baseline.where(baseline > 0))
        there, elsewhere = gains[inside].mean(), gains[~inside].mean()
        if not math.isnan(there - elsewhere):
            reading = over_all(
                f"the mean gain over {text} is larger there",
                there > elsewhere,
                f"{there:+.1f} % there, {elsewhere:+.1f} % elsewhere",
                gains.to_frame(),
            )
            readings.append(reading)
    return readings
