"""Mixtures' parts that test_lom_known_numbers.py leaves: shapes, a run's own bounds, choices."""

from typing import NamedTuple

import pytest
import torch
from torch.func import grad, vmap
from torch.testing import assert_close

from lom_exp.mixtures import component, init_mixture, mixture
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

B, OBSERVATION_DIM, A, M = 6, 5, 3, 4  # batch, observation, action, components


class Settings(NamedTuple):
    num_components: int = M
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
    logits, means, stds = mixture(params, stacked, Settings())
    assert logits.shape == (2, B, M)
    assert means.shape == stds.shape == (2, B, M, A)
    one = mixture(params, stacked[1], Settings())
    assert_close((logits[1], means[1], stds[1]), one)
    single = mixture(params, stacked[1, 3], Settings())
    assert_close((logits[1, 3], means[1, 3], stds[1, 3]), single)


def test_the_outputs_of_a_component_are_its_own():
    """A mean, std or weight changes with one output of the network and no other."""
    outputs = torch.arange(M * (2 * A + 1)) / 100

    def flat(outputs):
        params = [(torch.zeros(len(outputs), 1), outputs)]
        logits, means, stds = mixture(params, torch.zeros(1, 1), Settings())
        return torch.cat((means.flatten(), stds.flatten(), logits.flatten()))

    slopes = torch.func.jacrev(flat)(outputs)
    assert_close(slopes, slopes.diagonal().diag())
    assert (slopes.diagonal() > 0).all()


def test_log_stds_are_clamped_to_bounds_that_may_be_a_runs_own(params):
    lows, highs = torch.tensor([-0.3, -0.05]), torch.tensor([0.0, 0.2])
    observations = 4 * normal(B, OBSERVATION_DIM)

    def stds_within(low, high):
        return mixture(params, observations, Settings(min_log_std=low, max_log_std=high))[2]

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
        return mixture(params, torch.zeros(1, 1), Settings(num_components=1))[2].sum()

    for log_std, slope in [(-3.5, 0.0), (0.0, 1.0), (1.5, 0.0)]:
        outputs = torch.tensor([0.0, log_std, 0.0])  # mean, log-std, logit
        assert grad(widths)(outputs).tolist() == [0.0, slope, 0.0]


def test_squashed_means_keep_clear_of_the_boxs_faces_and_others_need_not(params):
    far = 1e3 * normal(B, OBSERVATION_DIM)
    assert mixture(params, far, Settings())[1].abs().amax().item() == 0.9999
    assert mixture(params, far, Settings(squash_means=False))[1].abs().amax() > 10


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
