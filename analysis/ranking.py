"""The order of methods by their mean scores, as far as their deviations tell the methods apart.

Shapes: n methods; a mean that is nan is of a method without a score, a deviation that is nan of a
single seed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def apart(means: ArrayLike, deviations: ArrayLike) -> NDArray[np.int64]:
    """(n, n): 1 where mean ± deviation of the row's method lies above the column's, -1 where below.

    0 where the two overlap or one has no score.
    """
    middle, spread = np.asarray(means, dtype=float), np.nan_to_num(np.asarray(deviations, float))
    above = np.greater.outer(middle - spread, middle + spread)
    return above.astype(np.int64) - above.T


def ranks(means: ArrayLike, deviations: ArrayLike) -> list[str]:
    """`1` for the highest; `2-3` where methods overlap with it; nothing where there is no score."""
    order, scored = apart(means, deviations), np.isfinite(np.asarray(means, dtype=float))
    best = 1 + (order == -1).sum(1)
    worst = scored.sum() - (order == 1).sum(1)
    return [
        "" if not known else f"{first}" if first == last else f"{first}-{last}"
        for first, last, known in zip(best, worst, scored, strict=True)
    ]


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b of n pairs: 1 for one order, -1 for the reverse, nan if all of one are equal.

    Pairs of which one value is nan do not count.
    """
    values = np.array([first, second], dtype=float)
    values = values[:, np.isfinite(values).all(0)]
    above = np.triu_indices(values.shape[1], 1)
    one, other = (np.sign(np.subtract.outer(each, each))[above] for each in values)
    untied = math.sqrt(np.count_nonzero(one) * np.count_nonzero(other))
    return float(one @ other / untied) if untied else math.nan
