"""Log-probabilities against torch.distributions and against numbers worked out by hand."""

import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    Normal,
    TanhTransform,
    TransformedDistribution,
)
from torch.func import grad
from torch.testing import assert_close

from lom_exp.distributions import (
    component_log_probs,
    gaussian_log_prob,
    mixture_log_prob,
    tanh_gaussian_log_prob,
)

pytestmark = pytest.mark.usefixtures("float64")

B, M, A = 5, 3, 2


@pytest.fixture
def mixture(float64):
    """Actions (B, A), logits (B, M), means and stds (B, M, A)."""
    generator = torch.Generator().manual_seed(0)
    actions, logits, means, log_stds = (
        torch.randn(*shape, generator=generator) for shape in [(B, A), (B, M), (B, M, A), (B, M, A)]
    )
    return actions, 2 * logits, means, log_stds.exp()


def test_a_standard_normal_at_its_mean_and_one_std_away():
    zeros, ones = torch.zeros(1), torch.ones(1)
    assert gaussian_log_prob(zeros, zeros, ones).item() == pytest.approx(-0.9189385332046727)
    assert gaussian_log_prob(ones, zeros, ones).item() == pytest.approx(-1.4189385332046727)


def test_six_dimensions_at_their_mean_with_a_std_of_a_twelfth():
    """6 (2.5 - log(2 pi) / 2): the middle of the log-std's range in DMPO's AWAC."""
    means, stds = torch.linspace(-0.5, 0.5, 6), torch.full((6,), math.exp(-2.5))
    assert gaussian_log_prob(means, means, stds).item() == pytest.approx(9.486369, abs=1e-6)


def test_a_diagonal_gaussian_is_summed_over_its_dimensions(mixture):
    actions, _, means, stds = mixture
    ours = gaussian_log_prob(actions, means[:, 0], stds[:, 0])
    assert_close(ours, Normal(means[:, 0], stds[:, 0]).log_prob(actions).sum(-1))
    assert ours.shape == (B,)


def test_components_are_judged_one_by_one(mixture):
    actions, _, means, stds = mixture
    ours = component_log_probs(actions, means, stds)
    for i in range(M):
        assert_close(ours[:, i], Normal(means[:, i], stds[:, i]).log_prob(actions).sum(-1))


def test_the_mixture_equals_torchs(mixture):
    actions, logits, means, stds = mixture
    components = Independent(Normal(means, stds), 1)
    expected = MixtureSameFamily(Categorical(logits=logits), components).log_prob(actions)
    assert_close(mixture_log_prob(actions, logits, means, stds), expected)


@pytest.mark.parametrize(
    ("std", "action", "log_prob"), [(1.0, 0.0, -1.418939), (0.1, 0.9, 0.190499)]
)
def test_two_equal_components_at_one_and_minus_one(std, action, log_prob):
    means = torch.tensor([[[1.0], [-1.0]]])
    stds = torch.full_like(means, std)
    ours = mixture_log_prob(torch.tensor([[action]]), torch.zeros(1, 2), means, stds)
    assert ours.item() == pytest.approx(log_prob, abs=1e-6)


def test_one_component_is_a_gaussian(mixture):
    actions, logits, means, stds = mixture
    one = mixture_log_prob(actions, logits[:, :1], means[:, :1], stds[:, :1])
    assert_close(one, gaussian_log_prob(actions, means[:, 0], stds[:, 0]))


def test_the_order_of_components_does_not_matter(mixture):
    actions, logits, means, stds = mixture
    order = [2, 0, 1]
    shuffled = mixture_log_prob(actions, logits[:, order], means[:, order], stds[:, order])
    assert_close(shuffled, mixture_log_prob(actions, logits, means, stds))


def test_the_logits_gradient_is_weights_less_responsibilities(mixture):
    actions, logits, means, stds = mixture

    def loss(logits):
        return -mixture_log_prob(actions, logits, means, stds).sum()

    joint = logits.softmax(-1) * component_log_probs(actions, means, stds).exp()
    responsibilities = joint / joint.sum(-1, keepdim=True)
    assert_close(grad(loss)(logits), logits.softmax(-1) - responsibilities)


def test_the_density_integrates_to_one():
    grid = torch.linspace(-12, 12, 4001)[:, None]
    logits = torch.tensor([0.3, -1.0]).expand(len(grid), -1)
    means = torch.tensor([[-1.0], [2.0]]).expand(len(grid), -1, -1)
    stds = torch.tensor([[0.5], [1.5]]).expand(len(grid), -1, -1)
    density = mixture_log_prob(grid, logits, means, stds).exp()
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1)


def test_an_action_far_from_every_component_has_a_finite_log_prob_and_gradient():
    """Its density underflows: exp(-5e5) is 0."""
    logits, means, stds = torch.zeros(1, 2), torch.zeros(1, 2, 1), torch.full((1, 2, 1), 1e-3)
    action = torch.ones(1, 1)
    expected = -0.5e6 + math.log(1e3) - 0.5 * math.log(2 * math.pi)
    assert mixture_log_prob(action, logits, means, stds).item() == pytest.approx(expected)
    slopes = grad(lambda means: mixture_log_prob(action, logits, means, stds).sum())(means)
    assert slopes.isfinite().all()


def test_the_squashed_gaussian_equals_torchs(mixture):
    actions, _, means, stds = mixture
    base = Normal(means[:, 0], stds[:, 0])
    theirs = TransformedDistribution(base, TanhTransform()).log_prob(actions.tanh()).sum(-1)
    assert_close(tanh_gaussian_log_prob(actions, means[:, 0], stds[:, 0]), theirs)


@pytest.mark.parametrize(
    ("unsquashed", "mean", "std", "log_prob"),
    [
        (0.0, 0.0, 1.0, -0.918939),  # tanh is steepest there, with slope 1
        (0.0, 0.0, 0.1, 1.383647),
        (math.atanh(0.5), 0.0, 1.0, -0.782125),  # - 0.918939 - atanh(0.5)^2 / 2 - log 0.75
        (-math.atanh(0.5), 0.0, 1.0, -0.782125),
        (20.0, 20.0, 1.0, 37.694767),  # - 0.918939 + 40 - 2 log 2
    ],
)
def test_the_squashed_gaussian_of_one_dimension_by_hand(unsquashed, mean, std, log_prob):
    values = [torch.tensor([value]) for value in (unsquashed, mean, std)]
    assert tanh_gaussian_log_prob(*values).item() == pytest.approx(log_prob, abs=1e-6)


def test_the_squashed_density_integrates_to_one_over_the_box():
    unsquashed = torch.linspace(-9, 9, 20_001)[:, None]
    density = tanh_gaussian_log_prob(unsquashed, torch.tensor([0.4]), torch.tensor([0.9])).exp()
    assert torch.trapezoid(density, unsquashed[:, 0].tanh()).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_squashed_gaussian_is_finite_where_tanh_has_saturated(dtype):
    """There log(1 - tanh(x)^2) is log 0, and its gradient 0 / 0; in truth 2 log 2 - 2 |x|."""
    unsquashed = torch.tensor([[-300.0], [-50.0], [50.0], [300.0]], dtype=dtype)
    assert (unsquashed.tanh().abs() == 1).all()
    std = torch.ones(1, dtype=dtype)
    log_probs = tanh_gaussian_log_prob(unsquashed, unsquashed, std)
    expected = -0.5 * math.log(2 * math.pi) - 2 * math.log(2) + 2 * unsquashed.abs().squeeze(-1)
    assert_close(log_probs, expected)
    slopes = grad(lambda x: tanh_gaussian_log_prob(x, unsquashed, std).sum())(unsquashed)
    assert_close(slopes, 2 * unsquashed.sign())
