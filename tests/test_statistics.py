"""Statistics over datasets: hand-worked numbers, rliable, how often intervals hold the truth."""

import math
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis import scores, statistics
from analysis.statistics import AGGREGATES, Strata

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import absl.logging
    from rliable import library, metrics

# Its log handler closes its stream when all logging is shut down, as MLflow does for a new
# database: that stream would be the one with which pytest captures what is printed.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__


def strata(*datasets: list[float]) -> Strata:
    return [np.array(scores, dtype=float) for scores in datasets]


def value(name: str, of: Strata) -> float:
    return statistics.aggregate(of, AGGREGATES[name]).value


def test_aggregates_are_as_worked_out_by_hand() -> None:
    # Means 2, 5, 30. Sorted: 1 2 3 4 5 6 10 20 60, of which the middle 5 (9 - 2 * 2) are 3 to 10.
    three = strata([1, 2, 3], [4, 5, 6], [60, 10, 20])
    assert value("mean", three) == pytest.approx(37 / 3)
    assert value("median", three) == 5.0
    assert value("IQM", three) == pytest.approx((3 + 4 + 5 + 6 + 10) / 5)


def test_of_unequal_numbers_of_runs_each_dataset_weighs_the_same() -> None:
    # Weights 1/8 each of 0 0 0 0, and 1/2 of 8: a sixth or so is cut at either end, 1/5 of it all.
    unequal = strata([0, 0, 0, 0], [8])
    assert value("mean", unequal) == 4.0
    # 5 runs: one is cut on either side, a fifth of the weight: 0.3 of 0 and 0.3 of 8 remain.
    assert value("IQM", unequal) == pytest.approx(4.0)


def test_improvement_is_as_worked_out_by_hand() -> None:
    # First dataset: 3 > 1, 3 > 2, 2 > 1, 2 = 2: 3.5 of 4. Second: 0 of 4.
    found = statistics.improvement(strata([3, 2], [0, 0]), strata([1, 2], [5, 5]))
    assert found.value == pytest.approx((3.5 / 4 + 0) / 2)


def test_a_profile_is_the_share_of_runs_above_each_threshold() -> None:
    share, low, high = statistics.profile(
        strata([0, 10, 20, 30], [10, 10]), np.array([-1.0, 10.0, 25.0, 30.0])
    )
    assert share.tolist() == [1.0, 0.25, 0.125, 0.0]
    assert (low <= share).all()
    assert (high >= share).all()


@pytest.mark.parametrize("name", AGGREGATES)
def test_one_run_on_a_dataset_gives_a_value_and_no_interval(name: str) -> None:
    found = statistics.aggregate(strata([1, 2], [3]), AGGREGATES[name])
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(statistics.welch(strata([1]), strata([1, 2])).low)
    assert math.isnan(statistics.improvement(strata([1]), strata([1, 2])).low)
    assert np.isnan(statistics.profile(strata([1]), np.array([0.0]))[1]).all()


@pytest.fixture(scope="module")
def matrix() -> NDArray[np.float64]:
    """(runs, datasets), as rliable takes them."""
    rng = np.random.default_rng(1)
    return rng.uniform(10, 100, 7) + rng.uniform(2, 15, 7) * rng.standard_normal((6, 7))


def test_aggregates_and_improvement_are_rliables(matrix: NDArray[np.float64]) -> None:
    of = list(matrix.T)
    other = list(matrix.T[:, :4] + 3.0)
    assert value("IQM", of) == pytest.approx(metrics.aggregate_iqm(matrix), abs=1e-10)
    assert value("mean", of) == pytest.approx(metrics.aggregate_mean(matrix), abs=1e-10)
    assert value("median", of) == pytest.approx(metrics.aggregate_median(matrix), abs=1e-10)
    assert statistics.improvement(of, other).value == pytest.approx(
        metrics.probability_of_improvement(matrix, np.array(other).T), abs=1e-10
    )


@pytest.mark.parametrize("name", AGGREGATES)
def test_unspread_resamples_are_rliables_stratified_bootstrap(
    matrix: NDArray[np.float64], name: str
) -> None:
    theirs = {
        "IQM": metrics.aggregate_iqm,
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, intervals = library.get_interval_estimates(
            {"a": matrix},
            lambda runs: np.array([theirs(runs)]),
            reps=4000,
            random_state=np.random.RandomState(0),
        )
    drawn = statistics.resample(list(matrix.T), 20_000, spread=False)
    ours = AGGREGATES[name](drawn, np.full(7, 6))
    # Of 4,000 draws, ends are known to a twentieth of the standard deviation.
    assert np.percentile(ours, [2.5, 97.5]) == pytest.approx(
        intervals["a"].ravel(), abs=0.2 * ours.std()
    )


def test_a_profile_is_rliables(matrix: NDArray[np.float64]) -> None:
    thresholds = np.linspace(0, 120, 25)
    share, _, _ = statistics.profile(list(matrix.T), thresholds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _ = library.create_performance_profile({"a": matrix}, thresholds, reps=10)
    assert share == pytest.approx(theirs["a"], abs=1e-10)


def test_an_interval_depends_neither_on_the_order_of_seeds_nor_on_the_time() -> None:
    one = statistics.aggregate(strata([1, 5, 2], [9, 4, 7]), statistics.iqm)
    other = statistics.aggregate(strata([5, 2, 1], [7, 9, 4]), statistics.iqm)
    assert one == other


def test_welch_is_scipys_on_one_dataset() -> None:
    one, other = np.array([3.0, 5.0, 9.0, 4.0]), np.array([1.0, 2.0, 8.0])
    theirs = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    found = statistics.welch([one], [other])
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    assert found.value == pytest.approx(one.mean() - other.mean())


def test_satterthwaite_counts_alike_terms_together_and_a_lone_one_alone() -> None:
    assert statistics.satterthwaite([2.0, 2.0, 2.0], [4, 4, 4]) == pytest.approx(12)
    assert statistics.satterthwaite([2.0, 0.0, 0.0], [3, 9, 9]) == pytest.approx(3)
    assert statistics.satterthwaite([0.0, 0.0], [3, 9]) == 3


def coverage(
    interval: Callable[[Strata], tuple[float, float]],
    truth: Callable[[NDArray[np.float64]], float],
    datasets: int,
    seeds: int,
    sweeps: int,
) -> float:
    """Of `sweeps` sweeps of normal scores the share of intervals that hold what is true."""
    rng = np.random.default_rng(datasets * seeds)
    held = 0
    for _ in range(sweeps):
        means, spreads = rng.uniform(20, 100, datasets), rng.uniform(2, 10, datasets)
        runs = [rng.normal(m, s, seeds) for m, s in zip(means, spreads, strict=True)]
        population = stats.norm.ppf((np.arange(500) + 0.5) / 500)[:, None] * spreads + means
        low, high = interval(runs)
        held += low <= truth(population) <= high
    return held / sweeps


TRUTHS = {
    "mean": lambda population: population.mean(),
    "median": lambda population: np.median(population.mean(0)),
    "IQM": lambda population: stats.trim_mean(population.ravel(), 0.25),
}


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name", AGGREGATES)
def test_of_95_percent_intervals_over_few_seeds_90_to_97_percent_hold(
    name: str, seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_DRAWS", 500)
    share = coverage(
        lambda runs: statistics.aggregate(runs, AGGREGATES[name])[1:], TRUTHS[name], 6, seeds, 400
    )
    assert 0.90 <= share <= 0.97


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_of_the_intervals_of_cells_90_to_97_percent_hold(seeds: int) -> None:
    share = coverage(lambda runs: scores.interval(runs[0])[:2], TRUTHS["mean"], 1, seeds, 2000)
    assert 0.90 <= share <= 0.97


@pytest.mark.parametrize("name", AGGREGATES)
def test_the_plain_percentile_bootstrap_of_three_seeds_holds_far_less_often(name: str) -> None:
    def plain(runs: Strata) -> tuple[float, float]:
        drawn = statistics.resample(runs, 300, spread=False)
        low, high = np.percentile(AGGREGATES[name](drawn, np.full(len(runs), 3)), [2.5, 97.5])
        return low, high

    assert coverage(plain, TRUTHS[name], 1, 3, 300) < 0.82


@pytest.mark.parametrize(("datasets", "probability"), [(1, 0.75), (4, 0.5), (4, 0.9)])
def test_intervals_of_the_probability_of_improvement_hold(
    datasets: int, probability: float
) -> None:
    rng = np.random.default_rng(0)
    shift = math.sqrt(2) * stats.norm.ppf(probability)
    held = 0
    for _ in range(300):
        arms = [[rng.normal(mean, 1, 4) for _ in range(datasets)] for mean in (shift, 0.0)]
        found = statistics.improvement(*arms)
        held += found.low <= probability <= found.high
    assert held / 300 >= 0.92


def test_three_seeds_that_all_lie_apart_are_no_certainty() -> None:
    found = statistics.improvement(strata([10, 11, 12]), strata([1, 2, 3]))
    assert found.value == 1.0
    assert found.low < 0.6
    assert found.high == 1.0
