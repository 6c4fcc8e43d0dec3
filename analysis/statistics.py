"""Statistics of several datasets' scores with intervals that hold for three seeds, too.

Aggregates are those of rliable (Agarwal et al., 2021, "Deep Reinforcement Learning at the Edge of
the Statistical Precipice"), equal to it to the digit where every dataset has equally many runs.
Their stratified bootstrap, though, has 75 % coverage where it says 95 %: it takes the spread of n
seeds for n / (n - 1) times too small and its own estimate of it for exact. Here resamples are
spread by that factor (Rao and Wu, 1988), and the interval is widened as Student's is, with
Satterthwaite's degrees of freedom.

A method's scores are `Strata`: an array of one score per run for each dataset, in one order of the
datasets. All draws are seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Strata = Sequence[Floats]

LEVEL = 0.95
_DRAWS = 2000
_DRAWS_ALONE = 200  # of one dataset, for its share of the variance
_GRID = np.linspace(0.0, 1.0, 10_001)


class Estimate(NamedTuple):
    """A statistic and its 95 % interval; nan where a dataset has a single run."""

    value: float
    low: float
    high: float


def mean(runs: Floats, sizes: NDArray[np.int64]) -> Floats:
    """The mean over datasets of their means.

    Args:
        runs: (draws, runs) scores, the runs of a dataset together.
        sizes: (datasets,) how many runs each has.

    Returns: (draws,)
    """
    return _means(runs, sizes).mean(1)


def median(runs: Floats, sizes: NDArray[np.int64]) -> Floats:
    """The median over datasets of their means; arguments as of `mean`."""
    return np.median(_means(runs, sizes), 1)


def iqm(runs: Floats, sizes: NDArray[np.int64]) -> Floats:
    """The mean of the middle half of all runs; arguments as of `mean`.

    Each dataset weighs the same. A quarter of the N runs, rounded down as scipy's trim_mean does,
    is left out at either end.
    """
    weights = np.repeat(1 / (len(sizes) * sizes), sizes)
    order = np.argsort(runs, 1, kind="stable")
    ends = np.cumsum(weights[order], 1)
    cut = runs.shape[1] // 4 / runs.shape[1]
    kept = np.minimum(ends, 1 - cut) - np.maximum(ends - weights[order], cut)
    kept = np.clip(kept, 0, None)
    return (np.take_along_axis(runs, order, 1) * kept).sum(1) / kept.sum(1)


AGGREGATES = {"IQM": iqm, "mean": mean, "median": median}
Statistic = Callable[[Floats, NDArray[np.int64]], Floats]


def _means(runs: Floats, sizes: NDArray[np.int64]) -> Floats:
    return np.add.reduceat(runs, np.cumsum(sizes) - sizes, 1) / sizes


def resample(strata: Strata, draws: int, spread: bool = True) -> Floats:
    """(draws, runs): runs drawn anew within each dataset.

    Args:
        spread: whether deviations from a dataset's mean are widened by sqrt(n / (n - 1)), which
            makes the variance of a resampled mean what its estimate should be.
    """
    rng = np.random.default_rng(0)
    parts = []
    for scores in map(np.sort, strata):  # the order of the runs must not matter
        drawn = rng.choice(scores, (draws, len(scores)))
        if spread and len(scores) > 1:
            drawn = scores.mean() + math.sqrt(len(scores) / (len(scores) - 1)) * (
                drawn - scores.mean()
            )
        parts.append(drawn)
    return np.concatenate(parts, 1)


def aggregate(strata: Strata, statistic: Statistic) -> Estimate:
    """A statistic of several datasets and its interval."""
    sizes = np.array([len(scores) for scores in strata])
    runs = np.concatenate([np.sort(scores) for scores in strata])[None]
    value = float(statistic(runs, sizes)[0])
    if sizes.min() < 2 or not np.isfinite(runs).all():
        return Estimate(value, math.nan, math.nan)
    drawn = resample(strata, _DRAWS)
    alone = np.repeat(runs, _DRAWS_ALONE, 0)
    variances = []
    for first, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True):
        one = alone.copy()
        one[:, first : first + size] = drawn[:_DRAWS_ALONE, first : first + size]
        variances.append(statistic(one, sizes).var())
    degrees = satterthwaite(variances, sizes - 1)
    tail = (1 - LEVEL) / 2
    wider = stats.t.ppf(1 - tail, degrees) / stats.norm.ppf(1 - tail)
    low, high = value + wider * (
        np.percentile(statistic(drawn, sizes), [100 * tail, 100 * (1 - tail)]) - value
    )
    return Estimate(value, float(low), float(high))


def satterthwaite(variances: ArrayLike, degrees: ArrayLike) -> float:
    """Degrees of freedom of a sum of independent terms (Satterthwaite, 1946).

    Args:
        variances: (terms,) estimated, of which all may be 0.
        degrees: (terms,) of freedom of each estimate.
    """
    each, freedom = np.asarray(variances, dtype=float), np.asarray(degrees)
    if not each.any():
        return float(freedom.min())
    each = each / each.max()  # squares of tiny numbers would vanish
    return float(each.sum() ** 2 / (each**2 / freedom).sum())


def welch(first: Strata, second: Strata) -> Estimate:
    """How much higher `first` scores than `second`: mean over datasets of differences of means.

    With Welch's interval: the two may vary differently.
    """
    means = [np.mean(one) - np.mean(other) for one, other in zip(first, second, strict=True)]
    value, arms = float(np.mean(means)), [*first, *second]
    if min(map(len, arms)) < 2:
        return Estimate(value, math.nan, math.nan)
    variances = [np.var(scores, ddof=1) / len(scores) / len(first) ** 2 for scores in arms]
    degrees = satterthwaite(variances, [len(scores) - 1 for scores in arms])
    half = float(stats.t.ppf((1 + LEVEL) / 2, degrees) * math.sqrt(sum(variances)))
    return Estimate(value, value - half, value + half)


def improvement(first: Strata, second: Strata) -> Estimate:
    """The probability that a run of `first` scores above one of `second`, mean over datasets.

    Ties count as half (rliable's `probability_of_improvement`). The interval is Newcombe's (2006,
    method 5): a bootstrap would say that two methods of which all three seeds lie apart are so with
    certainty. With several datasets its variance is that of the mean probability, which is the
    largest there may be.
    """
    pairs = list(zip(first, second, strict=True))
    value = float(np.mean([_above(one, other) for one, other in pairs]))
    counts = np.array([(len(one), len(other)) for one, other in pairs], dtype=float)
    if counts.min() < 2 or math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    grid = _GRID[1:-1]
    larger = counts.mean(1)[:, None] - 1
    spread = 1 + larger * ((1 - grid) / (2 - grid) + grid / (1 + grid))
    variance = (grid * (1 - grid) * spread / counts.prod(1)[:, None]).sum(0) / len(pairs) ** 2
    degrees = (counts - 1).sum()
    wide = stats.t.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(variance)
    possible = grid[np.abs(grid - value) <= wide]
    return Estimate(value, min(possible.min(), value), max(possible.max(), value))


def _above(one: Floats, other: Floats) -> float:
    sign = np.sign(np.subtract.outer(one, other))
    return float((1 + sign).mean() / 2) if np.isfinite(sign).all() else math.nan


def profile(strata: Strata, thresholds: Floats) -> tuple[Floats, Floats, Floats]:
    """Share of runs that score above each threshold, mean over datasets, and a pointwise band.

    The band is of the stratified bootstrap, spread for few seeds; nan where a dataset has one run.
    """
    sizes = np.array([len(scores) for scores in strata])
    weights = np.repeat(1 / (len(sizes) * sizes), sizes)
    runs = np.concatenate([np.sort(scores) for scores in strata])
    share = (runs[:, None] > thresholds).T @ weights
    if sizes.min() < 2:
        return share, np.full_like(share, math.nan), np.full_like(share, math.nan)
    drawn = resample(strata, _DRAWS)
    drawn_share = np.stack([(drawn > threshold) @ weights for threshold in thresholds])
    low, high = np.percentile(drawn_share, [2.5, 97.5], axis=1)
    return share, np.minimum(low, share), np.maximum(high, share)
