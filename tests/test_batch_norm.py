"""Batch normalization against torch.nn.BatchNorm1d: outputs, gradients and running statistics."""

import math

import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from lom_exp.batch_norm import Statistics, init_batch_norm, normalize, normalize_batch

pytestmark = pytest.mark.usefixtures("float64")

B, F, STEPS = 6, 4, 5  # batch, features, and batches one after another


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def params(seed=3):
    """A scale and a shift that are neither 1 nor 0."""
    return 1 + 0.5 * normal(F, seed=seed), normal(F, seed=seed + 1)


def module_of(params):
    scale, shift = params
    module = nn.BatchNorm1d(F)
    module.load_state_dict({"weight": scale, "bias": shift}, strict=False)
    return module


def batches(seed=7):
    """Batches (STEPS, B, F) whose moments are far from a standard normal's."""
    return 3 * normal(STEPS, B, F, seed=seed) + torch.arange(F)


def trained(params, inputs):
    """Outputs and statistics after every one of the batches (T, B, F)."""
    statistics, outputs, history = init_batch_norm(F)[1], [], []
    for batch in inputs:
        output, statistics = normalize_batch(params, statistics, batch)
        outputs.append(output)
        history.append(statistics)
    return torch.stack(outputs), tree_map(lambda *leaves: torch.stack(leaves), *history)


def test_it_starts_as_torchs():
    (scale, shift), statistics = init_batch_norm(F)
    module = nn.BatchNorm1d(F)
    assert_close(scale, module.weight.detach())
    assert_close(shift, module.bias.detach())
    assert_close(statistics.mean, module.running_mean)
    assert_close(statistics.variance, module.running_var)


def test_training_equals_torchs_batch_after_batch():
    module, inputs = module_of(params()), batches()
    outputs, history = trained(params(), inputs)
    for step, batch in enumerate(inputs):
        assert_close(outputs[step], module(batch).detach())
        assert_close(history.mean[step], module.running_mean)
        assert_close(history.variance[step], module.running_var)


def test_evaluation_equals_torchs_and_treats_every_row_alone():
    module, inputs = module_of(params()), batches()
    for batch in inputs:
        module(batch)
    module.eval()
    _, history = trained(params(), inputs)
    statistics = tree_map(lambda leaf: leaf[-1], history)
    rows = normal(2, 9, F)
    ours = normalize(params(), statistics, rows)
    assert_close(ours[1], module(rows[1]).detach())
    assert_close(ours[0, 3], normalize(params(), statistics, rows[0, 3]))


def test_the_gradient_goes_through_the_batchs_own_moments():
    inputs, coefficients = batches()[0], normal(B, F, seed=9)
    theirs = inputs.clone().requires_grad_()
    module = module_of(params())
    (coefficients * module(theirs) ** 2).sum().backward()

    def loss(params, inputs):
        outputs, _ = normalize_batch(params, init_batch_norm(F)[1], inputs)
        return (coefficients * outputs**2).sum()

    (scale_slope, shift_slope), slope = grad(loss, argnums=(0, 1))(params(), inputs)
    assert_close(slope, theirs.grad)
    assert_close(scale_slope, module.weight.grad)
    assert_close(shift_slope, module.bias.grad)


def test_runs_side_by_side_are_normalized_by_their_own_batches():
    runs = [params(3), params(13)]
    stacked = tree_map(lambda *leaves: torch.stack(leaves), *runs)
    inputs = torch.stack((batches(7), batches(17)))
    outputs, history = vmap(trained)(stacked, inputs)
    for run in range(2):
        expected_outputs, expected_history = trained(runs[run], inputs[run])
        assert_close(outputs[run], expected_outputs)
        assert_close(tree_map(lambda leaf, run=run: leaf[run], history), expected_history)


def test_a_batch_of_two_by_hand():
    """0 and 4: mean 2, variance 4, unbiased 8; the statistics go a tenth of the way there."""
    statistics = Statistics(torch.tensor([0.0]), torch.tensor([1.0]))
    one = torch.ones(1), torch.zeros(1)
    outputs, moved = normalize_batch(one, statistics, torch.tensor([[0.0], [4.0]]))
    assert_close(outputs, torch.tensor([[-1.0], [1.0]]) * 2 / math.sqrt(4 + 1e-5))
    assert moved.mean.item() == pytest.approx(0.2)
    assert moved.variance.item() == pytest.approx(1.7)
    assert statistics.variance.item() == 1.0


def test_outputs_have_the_shift_as_mean_and_the_scale_as_std():
    scale, shift = params()
    outputs, _ = normalize_batch((scale, shift), init_batch_norm(F)[1], 100 * batches()[0])
    assert_close(outputs.mean(0), shift)
    assert_close(outputs.std(0, correction=0), scale.abs(), rtol=1e-6, atol=0)


def test_the_scale_and_place_of_inputs_does_not_matter():
    one, _ = normalize_batch(params(), init_batch_norm(F)[1], 100 * batches()[0])
    other, _ = normalize_batch(params(), init_batch_norm(F)[1], 300 * batches()[0] - 1e3)
    assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_a_feature_without_variance_becomes_the_shift_with_a_finite_gradient():
    scale, shift = params()
    constant = torch.full((B, F), 5.0)
    outputs, moved = normalize_batch((scale, shift), init_batch_norm(F)[1], constant)
    assert_close(outputs, shift.expand(B, F))
    assert_close(moved.variance, torch.full((F,), 0.9))

    def loss(inputs):
        return (normalize_batch((scale, shift), init_batch_norm(F)[1], inputs)[0] ** 3).sum()

    assert grad(loss)(constant).isfinite().all()


def test_statistics_that_see_one_distribution_end_at_its_moments():
    generator = torch.Generator().manual_seed(0)
    statistics, seen = init_batch_norm(1)[1], []
    for _ in range(400):
        inputs = 2 + 3 * torch.randn(256, 1, generator=generator)
        _, statistics = normalize_batch(init_batch_norm(1)[0], statistics, inputs)
        seen.append(statistics)
    late = seen[100:]
    assert sum(s.mean.item() for s in late) / 300 == pytest.approx(2, abs=0.05)
    assert sum(s.variance.item() for s in late) / 300 == pytest.approx(9, abs=0.3)
