"""Mixtures' parts that test_lom_known_numbers.py leaves: shapes, bounds, choices, room."""

import math
from typing import NamedTuple

import pytest
import torch
from torch.func import grad, vmap
from torch.testing import assert_close

from lom_exp.distributions import mixture_log_prob
from lom_exp.mixtures import component, init_mixture, mixture, over_components
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

B, OBSERVATION_DIM, A, M = 6, 5, 3, 4  # batch, observation, action, components


class Settings(NamedTuple):
    squash_means: bool = True
    min_log_std: float = -3.0
    max_log_std: float = 1.0


def rng():
    return Rng.of(torch.tensor(4), "init", torch.tensor(0))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def params(float64):
    return init_mixture(rng(), OBSERVATION_DIM, A, (7, 8), M)


def test_the_last_layer_has_a_weight_a_mean_and_a_std_for_every_component(params):
    assert [tuple(bias.shape) for _, bias in params] == [(7,), (8,), (M * (2 * A + 1),)]


def test_leading_axes_are_free(params):
    stacked = normal(2, B, OBSERVATION_DIM)
    logits, means, stds = mixture(params, stacked, torch.ones(M), Settings())
    assert logits.shape == (2, B, M)
    assert means.shape == stds.shape == (2, B, M, A)
    one = mixture(params, stacked[1], torch.ones(M), Settings())
    assert_close((logits[1], means[1], stds[1]), one)
    single = mixture(params, stacked[1, 3], torch.ones(M), Settings())
    assert_close((logits[1, 3], means[1, 3], stds[1, 3]), single)


def test_the_outputs_of_a_component_are_its_own():
    """A mean, std or weight changes with one output of the network and no other."""
    outputs = torch.arange(M * (2 * A + 1)) / 100

    def flat(outputs):
        params = [(torch.zeros(len(outputs), 1), outputs)]
        logits, means, stds = mixture(params, torch.zeros(1, 1), torch.ones(M), Settings())
        return torch.cat((means, stds, logits[..., None]), -1).flatten()

    slopes = torch.func.jacrev(flat)(outputs)
    assert_close(slopes, slopes.diagonal().diag())
    assert (slopes.diagonal() > 0).all()


def test_log_stds_are_clamped_to_bounds_that_may_be_a_runs_own(params):
    lows, highs = torch.tensor([-0.3, -0.05]), torch.tensor([0.0, 0.2])
    observations = 4 * normal(B, OBSERVATION_DIM)

    def stds_within(low, high):
        settings = Settings(min_log_std=low, max_log_std=high)
        return mixture(params, observations, torch.ones(M), settings)[2]

    together = vmap(stds_within)(lows, highs).log()
    for run in range(2):
        assert together[run].amin().item() == pytest.approx(lows[run].item())
        assert together[run].amax().item() == pytest.approx(highs[run].item())
        alone = stds_within(lows[run].item(), highs[run].item()).log()
        assert_close(together[run], alone)


def test_a_log_std_beyond_its_bounds_has_no_gradient_to_bring_it_back():
    """As in the authors' code, which clamps: a component may stay as wide as the bound for ever."""

    def widths(outputs):
        params = [(torch.zeros(3, 1), outputs)]
        return mixture(params, torch.zeros(1, 1), torch.ones(1), Settings())[2].sum()

    for log_std, slope in [(-3.5, 0.0), (0.0, 1.0), (1.5, 0.0)]:
        outputs = torch.tensor([0.0, log_std, 0.0])  # mean, log-std, logit
        assert grad(widths)(outputs).tolist() == [0.0, slope, 0.0]


def test_squashed_means_keep_clear_of_the_boxs_faces_and_others_need_not(params):
    far = 1e3 * normal(B, OBSERVATION_DIM)
    assert mixture(params, far, torch.ones(M), Settings())[1].abs().amax().item() == 0.9999
    assert mixture(params, far, torch.ones(M), Settings(squash_means=False))[1].abs().amax() > 10


def test_the_chosen_components_values_are_taken_row_by_row():
    values = torch.arange(24.0).view(2, 4, 3)
    chosen = torch.tensor([2, 0])
    assert component(values, chosen).tolist() == [[6.0, 7.0, 8.0], [12.0, 13.0, 14.0]]


def test_choices_of_many_runs_are_taken_from_their_own_values():
    values = normal(2, B, M, A)
    chosen = torch.stack((torch.arange(B) % M, (torch.arange(B) + 2) % M))
    together = vmap(component)(values, chosen)
    for run in range(2):
        for row in range(B):
            assert_close(together[run, row], values[run, row, chosen[run, row]])


def test_only_the_chosen_component_has_a_gradient():
    values, chosen = normal(2, 4, 3), torch.tensor([2, 0])
    slopes = grad(lambda values: component(values, chosen).sum())(values)
    assert slopes[0, 2].tolist() == slopes[1, 0].tolist() == [1.0, 1.0, 1.0]
    assert slopes.sum().item() == 6.0


# Components that are not there: a run's network has outputs for more than the run has.

OUTPUTS = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.3, -0.5, 40.0]]  # mean, log-std, logit
PLAIN = Settings(squash_means=False)
every_place = pytest.mark.parametrize("place", [0, 1, 2])


def with_the_last_absent(place):
    """OUTPUTS with the last one in that place, components (3,), places of the first two."""
    order = [0, 1]
    order.insert(place, 2)
    outputs = torch.tensor([OUTPUTS[number] for number in order])
    components = torch.tensor([float(number < 2) for number in order])
    return outputs, components, [order.index(0), order.index(1)]


def mixture_of(outputs, components, size=1):
    """What a network that says `outputs` (M, 2 A + 1) gives for some observations."""
    params = [(torch.zeros(outputs.numel(), 1), outputs.flatten())]
    return mixture(params, torch.zeros(size, 1), components, PLAIN)


@every_place
def test_a_component_that_is_not_there_has_no_weight_and_the_others_theirs(place):
    """Though its output is e^40 times as much as the others', of weights 1/4 and 3/4."""
    outputs, components, there = with_the_last_absent(place)
    outputs[there[1], 2] = math.log(3)
    logits, means, stds = mixture_of(outputs, components, size=2)
    weights = logits.softmax(-1)
    assert weights[:, place].tolist() == [0.0, 0.0]
    assert_close(weights[:, there], torch.tensor([[0.25, 0.75]] * 2))
    alone = mixture_of(outputs[there], torch.ones(2), size=2)
    assert torch.equal(weights[:, there], alone[0].softmax(-1))
    assert torch.equal(means[:, there], alone[1])
    assert torch.equal(stds[:, there], alone[2])


@every_place
def test_the_outputs_of_a_component_that_is_not_there_have_no_gradient(place):
    """N(1, 1) and N(-1, 1) are as heavy; an action of 1 is e^2 times as likely of the first."""
    outputs, components, there = with_the_last_absent(place)

    def loss(outputs):
        return -mixture_log_prob(torch.ones(1, 1), *mixture_of(outputs, components)).mean()

    near, far = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    slopes = grad(loss)(outputs)
    assert slopes[place].tolist() == [0.0, 0.0, 0.0]
    # By share r of the density: of a mean -r (a - mean), of a log-std -r ((a - mean)^2 - 1), of a
    # logit weight - r.
    expected = [[0.0, near, 0.5 - near], [-2 * far, -3 * far, 0.5 - far]]
    assert_close(slopes[there], torch.tensor(expected))


def test_runs_of_a_batch_have_components_of_their_own(params):
    components = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    observations = normal(B, OBSERVATION_DIM)
    together = vmap(lambda own: mixture(params, observations, own, Settings())[0])(components)
    logits, _, _ = mixture(params, observations, torch.ones(M), Settings())
    for run, count in enumerate((2, 3)):
        weights = together[run].softmax(-1)
        assert_close(weights[:, :count], logits[:, :count].softmax(-1))
        assert (weights[:, count:] == 0).all()


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ([1.0, 1.0, 1.0], [3.0, -0.5]),
        ([1.0, 1.0, 0.0], [1.5, 2.25]),
        ([1.0, 0.0, 1.0], [3.5, -1.0]),
        ([0.0, 0.0, 1.0], [6.0, -6.0]),
    ],
)
def test_a_mean_over_components_is_over_those_that_are_there(components, expected):
    values = torch.tensor([[1.0, 2.0, 6.0], [4.0, 0.5, -6.0]])
    assert over_components(values, torch.tensor(components)).tolist() == expected


def test_a_mean_over_components_has_equal_slopes_where_they_are_and_none_elsewhere():
    components = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    slopes = vmap(grad(over_components))(normal(2, 3), components)
    assert_close(slopes, torch.tensor([[1 / 2, 1 / 2, 0.0], [1 / 3, 1 / 3, 1 / 3]]))
    assert slopes[0, 2].item() == 0.0
