"""DMPO against numbers worked out by hand, and the properties it must have."""

import math
from types import SimpleNamespace

import oracle_dmpo
import pytest
import torch
from dmpo_by_hand import line, small, state_of
from lom_by_hand import constant, dataset, rng
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.algorithms import dmpo, infodmpo
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")

SATURATED = 50.0  # its tanh is 1


def count(params):
    return sum(leaf.numel() for leaf in tree_leaves(params))


@pytest.mark.parametrize(
    ("dims", "hidden_sizes", "actor", "critics", "posterior"),
    [
        ((17, 6), (256, 256), 76_447, 144_386, 73_992),
        ((29, 8), (256, 256), 83_213, 151_554, 77_576),
        ((29, 8), (256, 256, 256), 149_005, 283_138, 143_368),
    ],
)
def test_networks_at_the_papers_widths_have_its_parameter_counts(
    dims, hidden_sizes, actor, critics, posterior
):
    state = infodmpo.init(*dims, infodmpo.Config(hidden_sizes=hidden_sizes), rng())
    assert [count(params) for params in state.policy.params] == [actor, posterior]
    assert [count(params) for params in state.information.params] == [actor, posterior]
    assert count(state.critics.params) == count(state.target_critics) == critics
    assert count(state.target_actor) == actor


def test_targets_start_as_their_networks():
    state = dmpo.init(5, 3, dmpo.Config(hidden_sizes=(6, 7)), rng())
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)
    assert_close(state.target_actor, state.policy.params[0], rtol=0, atol=0)


# The advantage's weight (Eq. 19).

ADVANTAGES = (0.0, 1.0, 2.0, 4.0)


def weights(advantages, alpha, advantage_weight="normalized_mean"):
    config = dmpo.Config(inverse_temperature=alpha, advantage_weight=advantage_weight)
    return dmpo.advantage_weights(torch.tensor(advantages), config)


@pytest.mark.parametrize(
    ("alpha", "advantage_weight", "expected"),
    [
        (10.0, "normalized", [4.54e-5, 5.531e-4, 6.738e-3, 1.0]),
        (10.0, "normalized_mean", [1.8028e-4, 2.1962e-3, 2.67555e-2, 3.970868]),
        (5.0, "normalized", [6.738e-3, 2.35175e-2, 8.20850e-2, 1.0]),
        (5.0, "normalized_mean", [2.42298e-2, 8.45703e-2, 0.2951793, 3.596020]),
    ],
)
def test_the_weights_of_four_advantages(alpha, advantage_weight, expected):
    ours = weights(ADVANTAGES, alpha, advantage_weight)
    assert_close(ours, torch.tensor(expected), rtol=1e-4, atol=0)


@pytest.mark.parametrize("advantage_weight", ["normalized", "normalized_mean"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (400.0, -7.0)])
def test_weights_do_not_depend_on_the_advantages_scale_or_offset(advantage_weight, scale, shift):
    changed = [scale * advantage + shift for advantage in ADVANTAGES]
    ours = weights(changed, 5.0, advantage_weight)
    assert_close(ours, weights(ADVANTAGES, 5.0, advantage_weight), rtol=1e-9, atol=0)


def test_weights_have_a_mean_of_one_or_a_maximum_of_one_and_the_same_ratio():
    divided, plain = weights(ADVANTAGES, 3.0), weights(ADVANTAGES, 3.0, "normalized")
    assert divided.mean().item() == pytest.approx(1)
    assert plain.amax().item() == 1
    for ours in (divided, plain):
        assert (ours.amax() / ours.amin()).item() == pytest.approx(math.exp(3))


@pytest.mark.parametrize("advantage_weight", ["normalized", "normalized_mean"])
@pytest.mark.parametrize("advantages", [(2.5,), (-3.0, -3.0, -3.0)])
def test_equal_advantages_weigh_one(advantage_weight, advantages):
    assert weights(advantages, 10.0, advantage_weight).tolist() == [1.0] * len(advantages)


def policy_loss(state, data, **settings):
    config = dmpo.Config(num_latents=len(state.target_actor[0][0][0]), **settings)
    _, metrics = dmpo.update_policy(state, data, config, rng())
    return metrics["policy/loss"].item()


@pytest.mark.parametrize(
    ("advantage_weight", "loss"), [("normalized", 4 / 3), ("normalized_mean", 2.0)]
)
def test_errors_are_summed_over_dimensions_weighted_and_averaged_over_rows(advantage_weight, loss):
    """Errors (1, 2) and (0, 1), weights in the ratio 1 : 3; of 1 and 3 the loss would be 4."""
    embedding = torch.zeros(1, 1), torch.zeros(1)
    saturated = embedding, [(torch.zeros(2, 2), torch.full((2,), SATURATED))]
    critics = [(torch.tensor([[[0.0, 1.0, 0.0]]]).repeat(2, 1, 1), torch.zeros(2, 1))]
    state = dmpo.State(
        network(critics), critics, network((saturated, constant([0.0], inputs=3))), saturated
    )
    data = dataset([[0.0, -1.0], [1.0, 0.0]])
    settings = {"inverse_temperature": math.log(3), "advantage_weight": advantage_weight}
    assert policy_loss(state, data, **settings) == pytest.approx(loss)


def divergence(state, weight=1.0):
    """The share of the loss on one row, whose weight is 1, that is the divergence."""
    data = dataset([[0.0]])
    return policy_loss(state, data, kl_weight=weight) - policy_loss(state, data, kl_weight=0.0)


def test_the_divergence_of_an_even_posterior_from_values_of_zero_and_log_three():
    """The prior is (1/4, 3/4), the divergence log(4 / 3) / 2."""
    state = state_of([0.0, 0.5], slopes=(2 * math.log(3), 9.0))
    assert divergence(state) == pytest.approx(0.143841, abs=1e-6)
    assert divergence(state, weight=2.0) == pytest.approx(0.287682, abs=1e-6)


def test_the_divergence_from_a_prior_of_one_latent_is_bounded_by_the_epsilon():
    """An even posterior of eight: 7/8 (log 1/8 + 27.631) + 1/8 log 1/8."""
    state = state_of([*torch.linspace(0.0, 0.6, 7).tolist(), 0.9], slopes=(1e4, 1e4))
    assert divergence(state) == pytest.approx(22.0977, abs=1e-4)


class Uniform:
    """Random numbers that are what they are told to be."""

    update = torch.tensor(1)

    def __init__(self, *values):
        self.values = values

    def uniform(self, stream, shape):
        return torch.tensor(self.values).expand(shape)


def test_gumbel_noise_is_as_wide_as_its_epsilons_and_floats_allow():
    """From -log(27.631) to 16.636: at a temperature of the width, latents differ by a logit of 1.

    The second latent's action is tanh(0.8 * 0.731059).
    """
    largest, smallest = -math.log(-math.log(1 - 2**-24)), -math.log(-math.log(1e-12))
    assert (smallest, largest) == pytest.approx((-3.32, 16.64), abs=5e-3)
    config = dmpo.Config(num_latents=2, gumbel_temperature=largest - smallest, kl_weight=0.0)
    state = state_of([0.0, math.tanh(0.8)])
    extremes = Uniform(0.0, 1 - 2**-24)
    _, metrics = dmpo.update_policy(state, dataset([[0.0]]), config, extremes)
    expected = math.tanh(0.8 / (1 + math.exp(-1))) ** 2
    assert metrics["policy/loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_in_single_precision_the_extremes_of_the_noise_are_finite(uniform):
    state = tree_map(lambda leaf: leaf.float(), state_of([0.0, 0.5], (1.0, 1.0), [60.0, -60.0]))
    data = dataset([[0.3]])._replace(actions=torch.tensor([[0.3]], dtype=torch.float32))
    data = type(data)(*(column.float() for column in data))
    torch.set_default_dtype(torch.float32)
    after, _ = dmpo.update_policy(state, data, dmpo.Config(num_latents=2), Uniform(uniform, 0.5))
    assert all(leaf.isfinite().all() for leaf in tree_leaves(after))


# The gating policy and the critics' targets.


def test_the_oracles_gating_policy_takes_the_best_of_the_lesser_values():
    """Critics -(a - 2)^2 and 0.1 a less; sub-policies s + k."""
    oracle = oracle_dmpo.Dmpo.__new__(oracle_dmpo.Dmpo)
    oracle.settings = SimpleNamespace(num_latents=3)

    def sub_policy(observation, latent):
        return observation + latent.argmax()

    critics = [
        lambda pair: -((pair[1:] - 2) ** 2),
        lambda pair: -((pair[1:] - 2) ** 2) - 0.1 * pair[1:],
    ]
    for observation, best, value in [(0.0, 2, -0.2), (2.0, 0, -0.2)]:
        k, least = oracle.select(sub_policy, critics, torch.tensor([observation]))
        assert (k, least.item()) == (best, pytest.approx(value))


def test_the_policy_takes_the_latent_of_the_best_lesser_value():
    """Actions 0.1, 0.5 and 0.9; critics -|a - 0.6| and 0.5 a less: -0.55, -0.35, -0.75."""
    hidden = torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.tensor([-0.6, 0.6])
    # Without its second hidden unit, ReLU(0.6 - a), the other critic would be 0 below 0.6.
    outer = torch.tensor([[-1.0, -1.0]]), torch.zeros(1)
    steeper = torch.tensor([[-1.5, -0.5]]), torch.tensor([-0.3])
    critics = [
        (torch.stack((hidden[0], hidden[0])), torch.stack((hidden[1], hidden[1]))),
        (torch.stack((outer[0], steeper[0])), torch.stack((outer[1], steeper[1]))),
    ]
    state = state_of([0.1, 0.5, 0.9], critics=network(critics))
    actions = dmpo.act(state, torch.zeros(2, 1), dmpo.Config(num_latents=3), rng())
    assert_close(actions, torch.full((2, 1), 0.5))


def target(state, data=None, **settings):
    settings = {"num_latents": 2, "smoothing_std": 0.0, "discount": 0.5, **settings}
    data = dataset([[0.0]], rewards=[1.0]) if data is None else data
    _, metrics = dmpo.update_critics(state, data, dmpo.Config(**settings), rng())
    return metrics["critics/target_q"].item()


@pytest.mark.parametrize(("target_selection", "value"), [("online", 1.3), ("target", 1.9)])
def test_online_critics_choose_the_next_latent_and_target_critics_judge_it(target_selection, value):
    """Actions 0.3 and 0.9; online the smaller is better, by the targets, 2 a, the larger."""
    state = state_of([0.3, 0.9], slopes=(-1.0, -1.0), target_critics=line(2.0, 3.0))
    assert target(state, target_selection=target_selection) == pytest.approx(value)


def test_after_a_termination_the_target_is_the_reward():
    data = dataset([[0.0]], rewards=[1.0], next_observations=[[1e6]], terminations=[1.0])
    assert target(state_of([0.3, 0.9], slopes=(1e9, 1e9)), data) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_a_contraction_in_the_largest_difference_of_values(seed):
    """Theorem 5.1, with the paper's choice of latents and the least of two critics."""
    config = dmpo.Config(hidden_sizes=(9,), target_selection="target", smoothing_std=0.0)
    one, other = (dmpo.init(3, 2, config, rng()._replace(key=rng().key + i)) for i in (0, seed + 1))
    other = other._replace(target_actor=one.target_actor)
    for next_observation in torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)):
        data = dataset(torch.zeros(1, 2), observations=torch.zeros(1, 3))
        data = data._replace(next_observations=next_observation[None])
        targets = [
            dmpo.update_critics(state, data, config, rng())[1]["critics/target_q"]
            for state in (one, other)
        ]
        embedding, layers = one.target_actor
        embedded = torch.relu(embedding[0].T + embedding[1])  # (K, O)
        repeated = next_observation.expand(len(embedded), -1)
        actions = torch.tanh(mlp(layers, torch.cat((repeated, embedded), -1)))
        pairs = torch.cat((repeated, actions), -1)
        largest = max(
            (critic_value(one, j, pairs) - critic_value(other, j, pairs)).abs().amax().item()
            for j in range(2)
        )
        assert abs((targets[0] - targets[1]).item()) <= 0.99 * largest + 1e-12


def critic_value(state, j, pairs):
    return mlp([(weight[j], bias[j]) for weight, bias in state.target_critics], pairs)


@pytest.mark.parametrize("target_selection", ["online", "target"])
def test_critics_converge_to_the_values_of_always_taking_the_best_latent(target_selection):
    """Theorem 5.2: rewards of 1 or 0, forever, at a discount of 1/2: 2, and 0 + 2 / 2 = 1."""
    settings = {"num_latents": 2, "smoothing_std": 0.0, "discount": 0.5}
    state = state_of([0.0, 0.5], slopes=(0.3, -0.3))
    data = dataset([[0.0], [0.5]], rewards=[0.0, 1.0])
    for update in range(200):
        rate = 0.1 if update < 150 else 0.01
        config = dmpo.Config(
            target_selection=target_selection, critic_learning_rate=rate, **settings
        )
        state, _ = dmpo.update_critics(state, data, config, rng(update))
        state = state._replace(target_critics=state.critics.params)
    [(weight, bias)] = state.target_critics
    values = weight[:, 0, 1:] * torch.tensor([0.0, 0.5]) + bias
    assert_close(values, torch.tensor([[1.0, 2.0], [1.0, 2.0]]), atol=0.02, rtol=0)


# What moves when.


def test_policy_and_targets_move_at_every_second_update():
    config, data, start = small(dmpo)
    state = start
    for update in range(2):
        for apply_update in dmpo.phases["policy"]:
            state, _ = apply_update(state, data, config, rng(update))
        if update == 0:
            assert_close(state.policy, start.policy, rtol=0, atol=0)
            assert_close(state.target_critics, start.target_critics, rtol=0, atol=0)
            assert_close(state.target_actor, start.target_actor, rtol=0, atol=0)
            assert not (state.critics.params[0][0] == start.critics.params[0][0]).all()

    def moved(before, after):
        return tree_map(lambda old, new: 0.8 * old + 0.2 * new, before, after)

    assert state.policy.updates == 1
    assert_close(state.target_critics, moved(start.critics.params, state.critics.params))
    assert_close(state.target_actor, moved(start.policy.params[0], state.policy.params[0]))


def test_with_one_latent_the_loss_is_the_weighted_squared_error():
    config = dmpo.Config(num_latents=1, inverse_temperature=1.0)
    data = dataset([[0.0], [0.4], [1.0]])
    state = state_of([0.6], slopes=(1.0, 1.0))
    _, metrics = dmpo.update_policy(state, data, config, rng())
    errors = torch.tensor([0.36, 0.04, 0.16])
    expected = (weights((0.0, 0.4, 1.0), 1.0) * errors).mean()
    assert_close(metrics["policy/loss"], expected)


def test_a_row_without_weight_teaches_nothing():
    """At an inverse temperature of 10,000 all weight is the better row's, to the last bit."""
    config = dmpo.Config(num_latents=2, inverse_temperature=1e4, policy_period=1)
    after = []
    for worse in ([-0.5], [-0.9]):
        state = state_of([0.2, 0.6], slopes=(1.0, 1.0), logits=[0.3, -0.3])
        state, _ = dmpo.update_policy(state, dataset([worse, [0.7]]), config, rng())
        after.append(state.policy)
    assert_close(after[0], after[1], rtol=0, atol=0)
