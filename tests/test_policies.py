"""Heads of policies: bounds, shapes and numbers worked out by hand."""

import math

import pytest
import torch
from torch.func import grad, vmap
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from lom_exp.networks import init_mlp, mlp
from lom_exp.policies import bounded_gaussian, init_gaussian, tanh_action, tanh_mean
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

B, OBSERVATION_DIM, A = 6, 5, 3


def rng():
    return Rng.of(torch.tensor(4), "init", torch.tensor(0))


def observations(scale=1.0):
    return scale * torch.randn(B, OBSERVATION_DIM, generator=torch.Generator().manual_seed(0))


def constant(*outputs):
    """Layers that say `outputs` of every observation (1)."""
    return [(torch.zeros(len(outputs), 1), torch.tensor(outputs))]


def test_a_gaussian_starts_with_torchs_layers_and_a_std_of_one():
    layers, log_std = init_gaussian(rng(), [OBSERVATION_DIM, 7, A])
    assert_close(layers, init_mlp(rng(), "policy", [OBSERVATION_DIM, 7, A]), rtol=0, atol=0)
    assert log_std.tolist() == [0.0] * A


def test_a_tanh_mean_is_the_tanh_of_the_layers_and_no_log_std_changes_it():
    layers, log_std = init_gaussian(rng(), [OBSERVATION_DIM, 7, A])
    means = tanh_mean((layers, log_std), observations())
    assert_close(means, torch.tanh(mlp(layers, observations())))
    assert_close(tanh_mean((layers, log_std + 3), observations()), means, rtol=0, atol=0)
    assert_close(tanh_action(layers, observations()), means, rtol=0, atol=0)


def test_actions_stay_in_the_box_however_far_the_observation():
    layers = init_mlp(rng(), "policy", [OBSERVATION_DIM, 7, A])
    actions = tanh_action(layers, observations(1e6))
    assert actions.abs().amax() == 1
    assert actions.shape == (B, A)


def test_leading_axes_are_free():
    layers = init_mlp(rng(), "policy", [OBSERVATION_DIM, 7, 2 * A])
    stacked = torch.stack((observations(), observations(2.0)))
    means, stds = bounded_gaussian(layers, stacked, -5.0, 2.0)
    assert means.shape == stds.shape == (2, B, A)
    assert_close((means[1], stds[1]), bounded_gaussian(layers, stacked[1], -5.0, 2.0))
    assert_close(tanh_action(layers, stacked)[1], tanh_action(layers, stacked[1]))


def test_the_first_outputs_are_means_and_the_others_stds():
    """Between -5 and 0 an output of 0 is a log-std of -2.5, one of atanh(0.6) of -1."""
    layers = constant(0.5, -0.3, 0.0, math.atanh(0.6))
    means, stds = bounded_gaussian(layers, torch.zeros(1, 1), -5.0, 0.0)
    assert_close(means, torch.tensor([[0.5, -0.3]]).tanh())
    assert_close(stds, torch.tensor([[0.082085, 0.367879]]), atol=1e-6, rtol=0)


def test_log_stds_reach_their_bounds_and_do_not_pass_them():
    layers = constant(0.0, 0.0, -1e3, 1e3)
    _, stds = bounded_gaussian(layers, torch.zeros(1, 1), -5.0, 2.0)
    assert_close(stds.log(), torch.tensor([[-5.0, 2.0]]))


def test_a_larger_output_is_a_larger_std_and_has_a_gradient_between_the_bounds():
    def log_std(output):
        layers = [(torch.zeros(2, 1), torch.stack((torch.zeros(()), output)))]
        return bounded_gaussian(layers, torch.zeros(1, 1), -5.0, 2.0)[1].log().squeeze()

    outputs = torch.linspace(-4, 4, 33)
    assert (vmap(log_std)(outputs).diff() > 0).all()
    # d/dx of 3.5 (tanh(x) + 1) is 3.5 (1 - tanh(x)^2)
    assert_close(vmap(grad(log_std))(outputs), 3.5 * (1 - outputs.tanh() ** 2))


def test_bounds_may_be_a_runs_own():
    layers = init_mlp(rng(), "policy", [OBSERVATION_DIM, 7, 2 * A])
    lows, highs = torch.tensor([-5.0, -3.0]), torch.tensor([0.0, 2.0])
    given = observations()
    means, stds = vmap(lambda low, high: bounded_gaussian(layers, given, low, high))(lows, highs)
    for i, (low, high) in enumerate([(-5.0, 0.0), (-3.0, 2.0)]):
        alone = bounded_gaussian(layers, given, low, high)
        assert_close((means[i], stds[i]), alone)


def test_every_parameter_of_a_bounded_gaussian_has_a_gradient():
    layers = init_mlp(rng(), "policy", [OBSERVATION_DIM, 7, 2 * A])

    def total(layers):
        means, stds = bounded_gaussian(layers, observations(), -5.0, 0.0)
        return means.sum() + stds.log().sum()

    assert all(leaf.abs().sum() > 0 for leaf in tree_leaves(grad(total)(layers)))
