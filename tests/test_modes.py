"""M=auto: data with a known number of modes, and data with one mode that looks like several."""

import numpy as np
import pytest

from lom_exp import modes
from lom_exp.errors import DataError
from lom_exp.modes import Estimate, estimate

ROWS = 4096  # the least that have the largest neighborhoods
STATES = 100  # looked at: the estimate is the second largest count
QUADRANTS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def policy(rng, rows=ROWS, observation_dim=4, action_dim=1, gain=1.0):
    """Observations (N, O) and a smooth function of them (N, A) within [-1, 1]."""
    observations = rng.normal(size=(rows, observation_dim))
    weights = rng.normal(size=(observation_dim, action_dim)) / np.sqrt(observation_dim)
    return observations, np.tanh(gain * observations @ weights)


def around(rng, centers, spread, rows=ROWS):
    """Actions (N, A) near one of the centers (C, A) each."""
    chosen = np.asarray(centers)[rng.integers(len(centers), size=rows)]
    return chosen + spread * rng.normal(size=chosen.shape)


def corners(count, action_dim):
    """That many corners of a cube, half its size, in the first three of the dimensions."""
    centers = np.zeros((count, action_dim))
    for i in range(3 if count > 1 else 0):
        centers[:, i] = (np.arange(count) >> i & 1) - 0.5
    return centers


def count(observations, actions, seed=0):
    actions = np.clip(actions, -1, 1).astype(np.float32)
    return estimate(observations.astype(np.float32), actions, seed, STATES).M


@pytest.mark.parametrize(("action_dim", "number"), [(3, 2), (3, 4), (3, 8), (6, 1), (6, 8)])
def test_modes_are_counted_in_several_dimensions(rng, number, action_dim):
    observations, mean = policy(rng, action_dim=action_dim)
    actions = 0.2 * mean + around(rng, corners(number, action_dim), 0.12)
    assert count(observations, actions) == number


@pytest.mark.parametrize(("number", "spread"), [(1, 0.03), (2, 0.2), (2, 0.03), (4, 0.06)])
def test_modes_are_counted_on_a_line_whatever_their_spread(rng, number, spread):
    observations, mean = policy(rng)
    centers = np.linspace(-0.8, 0.8, number)[:, None] if number > 1 else np.zeros((1, 1))
    assert count(observations, 0.1 * mean + around(rng, centers, spread)) == number


def test_eight_modes_fit_on_a_line_where_the_state_moves_them_little(rng):
    observations, mean = policy(rng, observation_dim=1)
    centers = np.linspace(-0.8, 0.8, 8)[:, None]
    assert count(observations, 0.05 * mean + around(rng, centers, 0.03)) == 8


def test_modes_may_differ_in_weight_and_spread(rng):
    observations, mean = policy(rng, action_dim=2)
    rare = rng.random((ROWS, 1)) < 0.15
    often = around(rng, [[-0.4, 0.0]], 0.2)
    actions = 0.1 * mean + np.where(rare, around(rng, [[0.5, 0.0]], 0.05), often)
    assert count(observations, actions) == 2


def test_four_modes_at_few_states_are_enough_reason_for_four_components(rng):
    """The data of a task whose goal is open at the start of an episode alone."""
    start = rng.random(ROWS) < 0.15  # enough to fill their neighborhoods
    observations, mean = policy(rng, action_dim=2)
    observations[:, 0] += 8 * start
    actions = np.where(start[:, None], around(rng, 0.6 * QUADRANTS, 0.1), mean)
    assert count(observations, actions) == 4


def test_modes_that_move_with_the_state_are_followed(rng):
    """Within a neighborhood, an eighth of all, they move by more than their distance."""
    observations = rng.uniform(-1, 1, (ROWS, 1))
    actions = 0.8 * observations + around(rng, [[-0.07], [0.07]], 0.015)
    assert count(observations, actions) == 2


def test_observations_that_say_nothing_blur_no_mode(rng):
    """A linear function of 100 numbers fits a good part of any 512 actions."""
    actions = around(rng, [[-0.75], [-0.25], [0.25], [0.75]], 0.05)
    assert count(rng.normal(size=(ROWS, 100)), actions) == 4


def test_modes_of_two_rings_are_four_where_a_line_crosses_both(rng):
    angles = rng.uniform(0, 2 * np.pi, ROWS)
    inner = rng.random(ROWS) < 0.25
    radii = np.where(inner, 0.25, 0.8) + 0.15 * rng.random(ROWS)
    assert count((radii * np.cos(angles))[:, None], (radii * np.sin(angles))[:, None]) == 4


def test_a_single_state_is_a_neighborhood_of_itself_however_its_rows_are_sorted(rng):
    actions = around(rng, corners(8, 3), 0.08)
    actions = actions[np.lexsort((actions > 0).T)]
    assert estimate(np.ones((ROWS, 2)), actions, 0, STATES).shares == {8: 1.0}


@pytest.mark.parametrize(
    "noise",
    [
        lambda rng, shape: 0.4 * rng.exponential(size=shape) - 0.8,
        lambda rng, shape: 0.3 * rng.standard_t(3, size=shape),
        lambda rng, shape: rng.uniform(-1, 1, size=shape),
        lambda rng, shape: 0.5 + 0.5 * rng.normal(size=shape),
        lambda rng, shape: 1.5 * rng.normal(size=shape),
        lambda rng, shape: 1.0 + 0.2 * rng.normal(size=shape),
        lambda rng, shape: np.full(shape, 0.3),
    ],
    ids=["skewed", "heavy-tailed", "uniform", "clipped", "clipped-twice", "half-clipped", "one"],
)
def test_one_mode_is_one_whatever_its_shape(rng, noise):
    observations, mean = policy(rng, action_dim=2)
    assert count(observations, 0.3 * mean + noise(rng, mean.shape)) == 1


def test_clipping_hides_no_mode(rng):
    """Four corners, most of whose actions are at a bound in both dimensions."""
    observations, mean = policy(rng, action_dim=2)
    actions = np.clip(0.3 * mean + around(rng, 1.15 * QUADRANTS, 0.1), -1, 1)
    assert estimate(observations, actions, 0, STATES).shares[4] > 0.9


@pytest.mark.parametrize(("gain", "noise"), [(1.0, 0.0), (4.0, 1e-3)])
def test_a_nearly_deterministic_policy_has_one_mode(rng, gain, noise):
    observations, mean = policy(rng, observation_dim=3, action_dim=3, gain=gain)
    assert count(observations, mean + noise * rng.normal(size=mean.shape)) == 1


def test_a_policy_that_jumps_in_many_places_has_one_mode_at_most_states():
    """Not at all, which docs/modes.md tells; without regard to curvature at 0.62 of them."""
    rng = np.random.default_rng(8)
    observations, mean = policy(rng, observation_dim=5, action_dim=6)
    actions = np.clip(2 * np.sign(mean) + 0.05 * rng.normal(size=mean.shape), -1, 1)
    assert estimate(observations, actions, 0, 2 * STATES).shares[1] > 0.72


def test_a_deterministic_policy_has_one_mode_along_its_trajectories(rng):
    steps = rng.normal(scale=0.05, size=(16, ROWS // 16, 4))
    observations = np.cumsum(steps, axis=1).reshape(ROWS, 4)
    assert count(observations, np.tanh(observations @ rng.normal(size=(4, 2)))) == 1


def test_actions_that_an_observation_tells_apart_are_one_mode_each(rng):
    """A policy that jumps: near the jump both actions are in a neighborhood, but at no state."""
    observations, _ = policy(rng, observation_dim=2)
    sides = np.sign(observations[:, :1])
    assert count(observations, 0.5 * sides + 0.05 * rng.normal(size=(ROWS, 1))) == 1


def test_rounded_actions_are_no_modes(rng):
    observations, _ = policy(rng)
    actions = 0.2 * rng.normal(size=(ROWS, 1))
    assert count(observations, np.round(50 * actions) / 50) == 1


def test_rows_sorted_by_their_mode_are_no_obstacle(rng):
    observations, mean = policy(rng, action_dim=2)
    actions = 0.2 * mean + around(rng, 0.5 * QUADRANTS, 0.1)
    by_mode = np.lexsort((actions > 0).T)
    assert count(observations[by_mode], actions[by_mode]) == 4


def test_the_scales_of_observations_do_not_matter(rng):
    """What tells two actions apart is the observation of the smallest numbers."""
    observations, _ = policy(rng, observation_dim=2)
    sides = np.where(np.abs(observations[:, 1:]) > 0.67, 1, -1)  # half of the rows each
    actions = 0.5 * sides + 0.05 * rng.normal(size=(ROWS, 1))
    assert count(observations * np.array([1e3, 1e-3]), actions) == 1


def test_the_same_seed_gives_the_same_counts_and_another_one_other_states(rng):
    observations, mean = policy(rng)
    actions = np.clip(0.2 * mean + around(rng, [[-0.3], [0.3]], 0.18), -1, 1)
    first, again, other = (estimate(observations, actions, seed, STATES) for seed in (1, 1, 2))
    assert (first.counts == again.counts).all()
    assert (first.counts != other.counts).any()


def test_an_estimate_says_how_often_it_counted_what(rng):
    observations, mean = policy(rng)
    result = estimate(observations, 0.2 * mean + around(rng, [[-0.4], [0.4]], 0.1), 0, STATES)
    assert result.shares == {2: 1.0}
    assert result.neighborhood == 512
    assert result.counts.shape == (STATES,)


def test_m_is_enough_for_99_percent_of_the_states():
    """Worked by hand: of 100 states, one may have more modes than M."""
    counts = ([1] * (100 - many) + [3] * many for many in (0, 1, 2))
    assert [Estimate(np.array(each), 512).M for each in counts] == [1, 1, 3]


@pytest.mark.parametrize("rows", [0, 4, 2047])
def test_a_dataset_too_small_to_say_is_refused_with_the_remedy(rng, rows):
    with pytest.raises(DataError, match=rf"M=auto: {rows} rows .* at least 2048 .* M=5"):
        estimate(np.zeros((rows, 3)), np.zeros((rows, 2)))


def test_the_smallest_dataset_is_counted_in_smaller_neighborhoods(rng):
    observations, mean = policy(rng, rows=2048, observation_dim=2)
    actions = 0.1 * mean + around(rng, [[-0.4], [0.4]], 0.1, rows=2048)
    result = estimate(observations, actions, 0, STATES)
    assert (result.M, result.neighborhood) == (2, 256)


def test_a_peak_is_as_prominent_as_it_rises_above_its_saddle():
    """Worked by hand: heights 4, 2, 1, 3 on a path: the second peak, 3, rises by 2."""
    heights = np.array([4.0, 2.0, 1.0, 3.0])
    neighbors = np.array([[1], [0], [1], [2]])
    kept, largest = modes._climb(neighbors, np.exp(-heights), 1.9)
    assert kept[0] == kept[1] != kept[3]
    assert largest == pytest.approx(2.0)
    merged, _ = modes._climb(neighbors, np.exp(-heights), 2.1)
    assert len(set(merged.tolist())) == 1


def test_single_mode_samples_seldom_exceed_their_threshold(rng):
    """Uniform samples other than those the threshold was made of; 1 in 1000 is meant to."""
    for dim in (1, 3):
        threshold = modes._threshold(512, dim)
        found = [
            len(set(modes._modes(rng.uniform(size=(512, dim)), threshold))) for _ in range(100)
        ]
        assert sum(number > 1 for number in found) <= 1


def test_a_threshold_knows_the_dimension_a_sample_really_has(rng):
    """A curve in six dimensions is judged as numbers are, which have far higher chance peaks."""
    times = rng.uniform(0, 1, (512, 1))
    curve = np.hstack((np.cos(times), np.sin(times), times, times**2, -times, 0 * times))
    _, distances = modes._nearest(curve)
    assert modes._dimension(distances) == pytest.approx(1.0, abs=0.15)
    _, distances = modes._nearest(rng.uniform(size=(512, 3)))
    assert 2.2 < modes._dimension(distances) < 3.2


def test_the_largest_clique_is_found():
    """Two triangles that share an edge, and a tail: no four are all linked."""
    links = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (3, 4)]
    linked = [{b for a, b in links if a == i} | {a for a, b in links if b == i} for i in range(5)]
    assert modes._largest_clique(linked, set(range(5))) == 3
    linked = [{1}, {0}, {3, 4}, {2, 4}, {2, 3}]  # a pair, and a triangle
    assert modes._largest_clique(linked, set(range(5))) == 3
    assert modes._largest_clique([set()] * 4, set(range(4))) == 1


def test_a_clipped_pile_becomes_a_tail_that_continues_the_density(rng):
    """Of a uniform distribution clipped at 1, as much beyond the bound and as dense as within."""
    values = np.clip(rng.uniform(0, 2, (2000, 1)), None, 1)
    tail = modes._uncensor(values, rng)
    inside = values < 1 - modes._RESOLUTION
    assert (tail[inside] == values[inside]).all()
    density = np.mean((tail > 1) & (tail < 1.1)) / 0.1
    assert density == pytest.approx(0.5, rel=0.35)
    assert len(np.unique(tail)) == len(tail)
