"""Networks against torch.nn and torch.optim."""

import math

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.networks import (
    descend,
    init_mlp,
    init_mlps,
    init_orthogonal,
    mlp,
    network,
    polyak,
    select,
)
from lom_exp.random import Rng

SIZES = [5, 7, 6, 3]


def rng(seed=0):
    return Rng.of(torch.tensor(seed), "init", torch.tensor(0))


def module_of(layers):
    """The same network as a torch.nn.Module."""
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.load_state_dict({"weight": weight, "bias": bias})
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def inputs(rows, columns=SIZES[0]):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("float64")
def test_an_mlp_equals_torchs():
    layers = init_mlp(rng(), "critic", SIZES)
    x = inputs(8)
    assert_close(mlp(layers, x), module_of(layers)(x))
    assert_close(mlp(layers, x.view(2, 4, -1)), mlp(layers, x).view(2, 4, -1))


def adam_disagreement(learning_rate, steps=20):
    """The largest difference to torch.optim.Adam, relative to the distance travelled."""
    layers = init_mlp(rng(), "policy", SIZES)
    module, ours = module_of(layers), network(layers)
    adam = torch.optim.Adam(module.parameters(), lr=float(learning_rate))
    generator = torch.Generator().manual_seed(2)
    for step in range(steps):
        x = torch.randn(9, SIZES[0], generator=generator)
        y = torch.randn(9, SIZES[-1], generator=generator)

        def loss(params, x=x, y=y):
            return ((mlp(params, x) - y) ** 2).mean()

        their_loss = ((module(x) - y) ** 2).mean()
        adam.zero_grad()
        their_loss.backward()
        adam.step()
        ours, our_loss = descend(ours, loss, learning_rate)
        assert_close(our_loss, their_loss.detach())
        assert ours.updates.item() == step + 1
    start, end = tree_leaves(layers), tree_leaves(ours.params)
    theirs = [parameter.detach() for parameter in module.parameters()]
    travelled = max((a - b).abs().max().item() for a, b in zip(start, end, strict=True))
    return max((a - b).abs().max().item() for a, b in zip(end, theirs, strict=True)) / travelled


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("learning_rate", [0.01, torch.tensor(3e-4, dtype=torch.float64)])
def test_descending_equals_torchs_adam(learning_rate):
    assert adam_disagreement(learning_rate) < 1e-11


def test_descending_equals_torchs_adam_in_single_precision():
    assert adam_disagreement(0.01) < 1e-4


@pytest.mark.usefixtures("float64")
def test_the_first_step_of_adam_is_the_learning_rate_against_the_gradients_sign():
    net = network([torch.tensor([1.0, -2.0, 0.0])])
    after, loss = descend(net, lambda params: (params[0] ** 2).sum(), 0.1)
    assert loss.item() == 5.0
    assert_close(after.params[0], torch.tensor([0.9, -1.9, 0.0]), atol=1e-8, rtol=0)
    assert_close(after.first_moment[0], torch.tensor([0.2, -0.4, 0.0]))
    assert_close(after.second_moment[0], torch.tensor([0.004, 0.016, 0.0]))


def test_descending_leaves_the_network_it_was_given():
    net = network(init_mlp(rng(), "critic", SIZES))
    before = tree_map(torch.clone, net)
    descend(net, lambda params: mlp(params, inputs(4)).sum(), 0.1)
    assert_close(net, before, rtol=0, atol=0)


def test_no_two_leaves_of_a_network_share_memory():
    net = network(init_mlps(rng(), "critics", SIZES, 2))
    leaves = tree_leaves(net)
    assert len({leaf.data_ptr() for leaf in leaves}) == len(leaves)


def test_runs_share_no_memory_and_no_numbers():
    seeds = torch.tensor([3, 8])
    at_start = torch.zeros((), dtype=torch.int64)
    together = vmap(lambda seed: init_mlp(Rng.of(seed, "init", at_start), "critic", SIZES))(seeds)
    for leaf, third, eighth in zip(
        tree_leaves(together),
        tree_leaves(init_mlp(rng(3), "critic", SIZES)),
        tree_leaves(init_mlp(rng(8), "critic", SIZES)),
        strict=True,
    ):
        assert (leaf[0] == third).all()
        assert (leaf[1] == eighth).all()
        assert not (third == eighth).any()
        leaf[0].fill_(7)
        assert (leaf[1] == eighth).all()


def test_layers_are_initialized_like_torchs_linear():
    """Uniform in +-1/sqrt(fan in), weights and biases: extremes, variance and kurtosis agree."""
    torch.manual_seed(0)
    fan_in, fan_out = 30, 4000
    [(weight, bias)] = init_mlp(rng(), "policy", [fan_in, fan_out])
    linear = nn.Linear(fan_in, fan_out)
    for ours, theirs in ((weight, linear.weight), (bias, linear.bias)):
        assert ours.shape == theirs.shape
        bound = 1 / math.sqrt(fan_in)
        ours, theirs = ours.double() / bound, theirs.detach().double() / bound
        for values in (ours, theirs):
            assert values.abs().max() <= 1
            assert values.abs().max() > 0.99
            # five standard errors of a uniform's mean, second and fourth moment
            error = 5 / math.sqrt(values.numel())
            assert abs(values.mean().item()) < error * math.sqrt(1 / 3)
            assert abs((values**2).mean().item() - 1 / 3) < error * math.sqrt(4 / 45)
            assert abs((values**4).mean().item() - 1 / 5) < error * math.sqrt(16 / 225)


def test_layers_networks_and_members_start_with_numbers_of_their_own():
    same_sizes = [6, 6, 6]
    one, other = init_mlp(rng(), "one", same_sizes), init_mlp(rng(), "other", same_sizes)
    stacked = init_mlps(rng(), "critics", same_sizes, 2)
    for weight, bias in (*one, *other):
        assert not torch.isin(bias, weight).any()
    weights = [weight for layers in (one, other) for weight, _ in layers]
    weights += [weight[k] for weight, _ in stacked for k in range(2)]
    for i, first in enumerate(weights):
        for second in weights[i + 1 :]:
            assert not (first == second).any()


def test_an_ensemble_leads_with_its_members():
    ensemble = init_mlps(rng(), "critics", SIZES, 4)
    assert [tuple(leaf.shape) for leaf in tree_leaves(ensemble)] == [
        *((4, 7, 5), (4, 7)),
        *((4, 6, 7), (4, 6)),
        *((4, 3, 6), (4, 3)),
    ]
    larger = init_mlps(rng(), "critics", SIZES, 5)
    for leaf, larger_leaf in zip(tree_leaves(ensemble), tree_leaves(larger), strict=True):
        assert (leaf == larger_leaf[:4]).all()


def orthogonal(seed=0, name="critic", sizes=(4, 9, 6, 3), last_gain=0.01):
    return init_orthogonal(rng(seed), name, list(sizes), math.sqrt(2), last_gain)


@pytest.mark.usefixtures("float64")
def test_orthogonal_layers_have_orthogonal_rows_or_columns_as_long_as_their_gain():
    layers = orthogonal()
    assert [weight.shape for weight, _ in layers] == [(9, 4), (6, 9), (3, 6)]
    for (weight, bias), gain in zip(layers, (2**0.5, 2**0.5, 0.01), strict=True):
        fan_out, fan_in = weight.shape
        gram = weight @ weight.T if fan_out < fan_in else weight.T @ weight
        assert_close(gram, gain**2 * torch.eye(min(fan_in, fan_out)))
        assert bias.tolist() == [0.0] * fan_out


@pytest.mark.usefixtures("float64")
def test_orthogonal_layers_turn_no_corner_of_space_into_a_favorite():
    """Uniform over rotations and reflections (Haar): E w = 0, E w^2 = gain^2 / n, either det."""
    draws = [orthogonal(seed, sizes=[3, 3], last_gain=1.0)[0][0] for seed in range(2000)]
    weights = torch.stack(draws)
    error = 5 / math.sqrt(len(weights))
    assert weights.mean(0).abs().amax() < error * math.sqrt(1 / 3)
    # Var w^2 = E w^4 - 1 / 9 = 3 / (n (n + 2)) - 1 / 9 = 4 / 45
    assert ((weights**2).mean(0) - 1 / 3).abs().amax() < error * math.sqrt(4 / 45)
    assert torch.linalg.det(weights).sign().mean().abs() < error


def test_orthogonal_layers_are_the_same_for_the_same_name_and_no_others():
    for one, same, other, of_another_seed in zip(
        tree_leaves([weight for weight, _ in orthogonal()]),
        tree_leaves([weight for weight, _ in orthogonal()]),
        tree_leaves([weight for weight, _ in orthogonal(name="other")]),
        tree_leaves([weight for weight, _ in orthogonal(seed=8)]),
        strict=True,
    ):
        assert (one == same).all()
        assert not (one == other).any()
        assert not (one == of_another_seed).any()


@pytest.mark.usefixtures("float64")
def test_orthogonal_layers_of_runs_side_by_side_are_those_of_each_alone():
    seeds, at_start = torch.tensor([3, 8]), torch.zeros((), dtype=torch.int64)

    def init(seed):
        return init_orthogonal(Rng.of(seed, "init", at_start), "critic", [4, 9, 3], 2**0.5, 0.01)

    together = vmap(init)(seeds)
    for run, seed in enumerate(seeds.tolist()):
        alone = orthogonal(seed, sizes=[4, 9, 3])
        assert_close(tree_map(lambda leaf, run=run: leaf[run], together), alone)


def test_a_polyak_step_goes_a_share_of_the_way_to_the_online_network():
    target, online = [torch.tensor([1.0, 10.0])], [torch.tensor([2.0, -10.0])]
    assert polyak(target, online, 0.25)[0].tolist() == [1.25, 5.0]
    assert polyak(target, online, 0.0)[0].tolist() == [1.0, 10.0]
    assert polyak(target, online, 1.0)[0].tolist() == [2.0, -10.0]
    assert target[0].tolist() == [1.0, 10.0]


def test_selection_takes_a_whole_tree():
    new, old = (torch.ones(2), [torch.ones(3)]), (torch.zeros(2), [torch.zeros(3)])
    assert_close(select(torch.tensor(True), new, old), new)
    assert_close(select(torch.tensor(False), new, old), old)
    conditions = torch.tensor([True, False])
    first, _ = vmap(lambda condition: select(condition, new, old))(conditions)
    assert first.tolist() == [[1, 1], [0, 0]]
