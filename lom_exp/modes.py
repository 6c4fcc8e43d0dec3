"""How many components a mixture over actions needs: the modes of the data, counted state by state.

LOM's M is tied to how many distinct actions its data hold at one state; the paper leaves estimating
it from the data open and names bump hunting and peak finding. This is peak finding, at many states:

1. The nearest rows of a state are its neighborhood, and what a linear function of the observation
   explains of their actions is taken out: the residuals are a sample of the actions' distribution
   at that state (Hyndman, Bashtannyk and Grunwald, 1996, "Estimating and visualizing conditional
   densities").
2. Modes of the sample are the peaks of its nearest-neighbor density that rise above the saddle to
   any higher peak by more than chance explains (ToMATo: Chazal, Guibas, Oudot and Skraba, 2013,
   "Persistence-based clustering in Riemannian manifolds"). Chance is what uniform samples show,
   the hardest null of a test for a single mode (Hartigan and Hartigan, 1985, "The dip test of
   unimodality").
3. Counted are modes that coexist: two that an observation tells apart are one action at each state.
4. M is enough for 99 % of the states.

The likelihood of held-out data, or a mixture's BIC, would answer another question: how many
Gaussians approximate a density. A skewed, a bounded or a clipped action takes several of them and
is one mode; and a mixture density network would have to be trained for every candidate.

Shapes: N rows, O observation size, A action size, S states looked at, n rows of a neighborhood,
K nearest neighbors, C modes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lom_exp.errors import DataError

VERSION = 1  # to be raised when the same data come to give other counts
NUM_STATES = 1024  # looked at: enough to tell 2 % of all, one step in 50, from 1 %

Floats = NDArray[np.float32] | NDArray[np.float64]
_Floats = NDArray[np.float64]
_Integers = NDArray[np.intp]
_Threshold = Callable[[float], float]

_MAX_ROWS = 200_000  # drawn from larger datasets: the time to find a neighborhood is theirs
_MIN_ROWS = 2048
# Rows of a neighborhood: eight modes have 64 each. Of a small dataset an eighth, which is wide.
_NEIGHBORHOOD = 512
_NEIGHBORS = 16  # of which a density is estimated, to a quarter of its value
_STATES_SERVED = 0.99
# Actions closer than this are one action: 1 % of half their range. Noise of this size is added, so
# neither repeated or rounded actions nor the last digits of a deterministic policy make peaks.
_RESOLUTION = 0.01
# Of what a linear function explains of the actions, so much is taken to be left as its curvature.
_CURVATURE = 0.2
# Two modes coexist where rows of one are at least this often neighbors, by their observations, of
# rows of the other, as a share of how often they would be if the observation told nothing.
_COEXISTENCE = 0.65
_TAIL_DENSITY = 0.25  # least density of a clipped tail, as a share of the densest place inside
_PENALTIES = (*np.logspace(-4, 2, 13), np.inf)  # of ridge regression, per row
_NULL_SAMPLES = 200
_NULL_DIMS = (1, 2, 3, 4, 6, 8, 12)
_FALSE_PEAKS = 0.001  # of single-mode samples that may show a second peak


class Estimate(NamedTuple):
    """How many modes the actions of a dataset have."""

    counts: _Integers  # (S,), modes at each state looked at, at least 1
    neighborhood: int  # rows that each count is made of

    @property
    def M(self) -> int:
        """The least number that is no fewer than the modes at 99 % of the states."""
        return int(np.quantile(self.counts, _STATES_SERVED, method="inverted_cdf"))

    @property
    def shares(self) -> dict[int, float]:
        """For each number of modes that was counted the share of states that have it."""
        numbers, times = np.unique(self.counts, return_counts=True)
        return dict(zip(numbers.tolist(), (times / len(self.counts)).tolist(), strict=True))

    def __str__(self) -> str:
        """As in `modes at 1024 states: 1 at 97.7 %, 4 at 2.3 %`."""
        shares = ", ".join(f"{number} at {share:.1%}" for number, share in self.shares.items())
        return f"modes at {len(self.counts)} states: {shares.replace('%', ' %')}"


def estimate(
    observations: Floats,
    actions: Floats,
    seed: int = 0,
    num_states: int = NUM_STATES,
    report: Callable[[int], None] = lambda done: None,
) -> Estimate:
    """Count the modes of observations (N, O), on any scale, and actions (N, A) in [-1, 1].

    The order of the rows has no meaning. The same arguments give the same estimate; the seed
    chooses the states that are looked at, `report` is told how many have been. Raises DataError for
    fewer than 2048 rows.
    """
    if len(observations) < _MIN_ROWS:
        raise DataError(
            f"M=auto: {len(observations)} rows are too few to count the modes of their actions; "
            f"at least {_MIN_ROWS} are needed. Give the number of components, as in M=5"
        )
    rng = np.random.default_rng(seed)
    # Shuffled: of rows with one observation, the neighbors are the first, and files have an order.
    rows = rng.permutation(len(observations))[:_MAX_ROWS]
    scaled, actions = _standardize(observations[rows]), actions[rows]
    size = min(_NEIGHBORHOOD, len(rows) // 8)
    threshold = _threshold(size, actions.shape[1])
    counts = np.empty(min(num_states, len(rows)), np.intp)
    for i in range(len(counts)):  # the rows are in random order already
        offsets = scaled - scaled[i]
        near = np.argpartition(np.einsum("no,no->n", offsets, offsets), size - 1)[:size]
        states = scaled[near] + rng.normal(scale=1e-6, size=(size, scaled.shape[1]))  # no ties
        sample = _uncensor(actions[near].astype(np.float64), rng)
        residuals = _residuals(states, sample)
        blur = _RESOLUTION + _CURVATURE * (sample - residuals).std(axis=0)
        modes = _modes(residuals + blur * rng.normal(size=residuals.shape), threshold)
        counts[i] = _most_coexisting(modes, states)
        report(i + 1)
    return Estimate(counts, size)


def _standardize(observations: Floats) -> NDArray[np.float32]:
    std = observations.std(axis=0, dtype=np.float64)
    std[std < 1e-6] = 1.0  # rounding of a number that never changes
    mean = observations.mean(axis=0, dtype=np.float64)
    scaled: NDArray[np.float32] = ((observations - mean) / std).astype(np.float32)
    return scaled


def _uncensor(actions: _Floats, rng: np.random.Generator) -> _Floats:
    """Actions (n, A) before they were clipped, as far as one can tell: without piles at +-1.

    Taken coordinate by coordinate for censored at the bound (Tobin, 1958), the pile becomes an
    exponential tail that goes on from the density inside. No mode is made by that, and one that
    lies beyond the bound, with next to nothing inside, keeps together by a least density.
    """
    actions = actions.copy()
    m = 2 * _NEIGHBORS
    for column in actions.T:
        inside = np.sort(column[np.abs(column) < 1 - _RESOLUTION])
        if len(inside) < 2 * m:  # next to all are at a bound: nothing to go on from
            continue
        widths = inside[m:] - inside[:-m]
        longest = max(widths.min(), _RESOLUTION) / _TAIL_DENSITY
        for sign, width in ((1, 1 - inside[-m]), (-1, 1 + inside[m - 1])):
            pile = np.flatnonzero(sign * column >= 1 - _RESOLUTION)
            scale = len(pile) * min(width, longest) / m
            column[pile] = sign * (1 + scale * rng.exponential(size=len(pile)))
    return actions


def _residuals(states: _Floats, actions: _Floats) -> _Floats:
    """Actions (n, A) less a linear function of the states (n, O), fitted by ridge regression.

    The penalty has the least error of predicting each row from the others (Allen, 1974). It is
    infinite where states say nothing: an unpenalized fit would add noise to every mode.
    """
    actions = actions - actions.mean(axis=0)
    states = states - states.mean(axis=0)
    left, singular, _ = np.linalg.svd(states / np.maximum(states.std(axis=0), 1e-5), False)
    projected = left.T @ actions
    best, residuals = np.inf, actions
    for penalty in _PENALTIES:
        shrinkage = 1 / (1 + len(states) * penalty / np.maximum(singular, 1e-12) ** 2)
        candidate = actions - left @ (shrinkage[:, None] * projected)
        leverage = 1 / len(states) + left**2 @ shrinkage
        error = float(((candidate / (1 - leverage)[:, None]) ** 2).sum())
        if error < best:
            best, residuals = error, candidate
    return residuals


def _modes(sample: _Floats, threshold: _Threshold) -> _Integers:
    """The mode, numbered from 0, that each point of a sample (n, A) belongs to: (n,)."""
    neighbors, distances = _nearest(sample)
    parents, _ = _climb(neighbors, distances[:, -1], threshold(_dimension(distances)))
    return np.unique(parents, return_inverse=True)[1]


def _climb(neighbors: _Integers, radii: _Floats, threshold: float) -> tuple[_Integers, float]:
    """Each point's peak, (n,), and the largest finite prominence of any but the highest.

    Heights are the logarithms of 1 / radii (n,), the logarithm of density but for a factor, the
    dimension. Every point leads uphill to a peak; from the highest down, points where the slopes of
    two peaks meet are their saddle, and the lower peak is given up if it rises above that by no
    more than the threshold.
    """
    size = len(radii)
    order = np.argsort(radii, kind="stable")
    heights = -np.log(radii[order])
    rank = np.empty_like(order)  # of the heights; below, a point is its rank
    rank[order] = np.arange(size)
    ends = np.repeat(rank, neighbors.shape[1]), rank[neighbors].ravel()
    edges = np.unique(np.maximum(*ends) * size + np.minimum(*ends))
    lower, higher = np.divmod(edges, size)
    peaks = np.arange(size)
    np.minimum.at(peaks, lower, higher)
    while (peaks[peaks] != peaks).any():
        peaks = peaks[peaks]
    # Edges come in the order of their lower ends: the first between two peaks is at their saddle.
    _, meetings = np.unique(peaks[lower] * size + peaks[higher], return_index=True)
    largest = 0.0
    for meeting in np.sort(meetings):
        saddle = lower[meeting]
        high, low = sorted((peaks[saddle], peaks[higher[meeting]]))
        if high == low:
            continue
        prominence = float(heights[low] - heights[saddle])
        largest = max(largest, prominence)
        if prominence <= threshold:
            peaks[peaks == low] = high
    return peaks[rank], largest


def _nearest(points: _Floats) -> tuple[_Integers, _Floats]:
    """Indices (n, K) of each point's nearest others, and their distances in rising order."""
    points = points - points.mean(axis=0)
    squares = (points**2).sum(axis=1)
    distances = -2 * points @ points.T
    distances += squares
    distances += squares[:, None]
    np.fill_diagonal(distances, np.inf)
    neighbors = np.argpartition(distances, _NEIGHBORS - 1, axis=1)[:, :_NEIGHBORS]
    nearest = np.sort(np.take_along_axis(distances, neighbors, axis=1), axis=1)
    return neighbors, np.sqrt(np.maximum(nearest, 1e-24))


def _dimension(distances: _Floats) -> float:
    """Of the set that a sample fills (Levina and Bickel, 2004), from its sorted distances (n, K).

    Six-dimensional actions along a curve are peaked as often as numbers are, not as a cloud is.
    """
    inverse = np.log(distances[:, -1:] / distances[:, :-1]).sum(axis=1) / (_NEIGHBORS - 2)
    return float(1 / inverse.mean())


def _threshold(size: int, action_dim: int) -> _Threshold:
    """The prominence that single-mode samples reach, as a function of their dimension."""
    dims = [dim for dim in _NULL_DIMS if dim < action_dim]
    dims.append(min(action_dim, _NULL_DIMS[-1]))
    measured, prominences = zip(*(_null(size, dim) for dim in dims), strict=True)
    return lambda dimension: float(np.interp(dimension, measured, prominences))


@cache
def _null(size: int, dim: int) -> tuple[float, float]:
    """Measured dimension of uniform samples, and the prominence that one in a thousand exceeds.

    A largest value's distribution is Gumbel's; it is fitted by its mean and standard deviation.
    """
    rng = np.random.default_rng(0)
    dimensions, largest = np.empty(_NULL_SAMPLES), np.empty(_NULL_SAMPLES)
    for i in range(_NULL_SAMPLES):
        neighbors, distances = _nearest(rng.uniform(-1, 1, (size, dim)))
        dimensions[i] = _dimension(distances)
        largest[i] = _climb(neighbors, distances[:, -1], np.inf)[1]
    deviations = -np.log(-np.log1p(-_FALSE_PEAKS)) - np.euler_gamma
    quantile = largest.mean() + largest.std() * deviations * np.sqrt(6) / np.pi
    return float(dimensions.mean()), float(quantile)


def _most_coexisting(modes: _Integers, states: _Floats) -> int:
    """How many of the modes (n,) occur together at the states (n, O) of their rows.

    Modes that depend on the state part the rows, so that neighbors are of one mode (the idea of
    Schilling, 1986, "Multivariate two-sample tests based on nearest neighbors").
    """
    sizes = np.bincount(modes)
    if len(sizes) == 1:
        return 1
    neighbors, _ = _nearest(states)
    pairs = np.zeros((len(sizes), len(sizes)))  # of a row's mode and its neighbor's
    np.add.at(pairs, (np.repeat(modes, _NEIGHBORS), modes[neighbors].ravel()), 1)
    across = pairs + pairs.T
    total = across + np.diag(pairs)[:, None] + np.diag(pairs)
    share = sizes[:, None] / (sizes[:, None] + sizes)
    coexist = across >= _COEXISTENCE * total * 2 * share * (1 - share)
    return _largest_clique([set(np.flatnonzero(row)) for row in coexist], set(range(len(sizes))))


def _largest_clique(linked: list[set[int]], among: set[int]) -> int:
    """Size of the largest subset of `among` whose members are all linked to each other."""
    if not among:
        return 0
    first = min(among)
    others = among - {first}
    with_first = 1 + _largest_clique(linked, others & linked[first])
    if others <= linked[first]:
        return with_first
    return max(with_first, _largest_clique(linked, others))
