"""LAPO against an independent implementation, and against numbers worked out by hand."""

import math

import oracle_lapo
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    Silent,
    assert_same,
    assert_same_metrics,
    members,
    rng,
    scaled,
    transitions,
    with_mistake,
)
from lom_by_hand import constant, dataset
from oracle_lom import layers_of
from test_validation import assert_refused
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.algorithms import lapo
from lom_exp.errors import ConfigError
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 6  # Adam's moments and corrections matter
BATCH = 6


def configuration(**changes):
    """Settings under which every bound binds on some row and on some it does not."""
    settings = {
        "discount": 0.5,
        "tau": 0.1,
        "expectile": 0.8,
        "kl_weight": 0.3,
        "pessimism": 0.7,
        "latent_bound": 1.5,
        "smoothing_std": 0.3,
        "smoothing_clip": 0.2,
        "critic_learning_rate": 0.02,
        "autoencoder_learning_rate": 0.03,
        "policy_learning_rate": 0.04,
        "batch_size": BATCH,
        "hidden_sizes": (11, 12),
    }
    return lapo.Config(**{**settings, **changes})


def initial_state(config):
    """Twice torch's weights, thrice where the range of returns is to be left; other targets."""
    state = scaled(lapo.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init")), 2)
    return state._replace(
        target_critics=scaled(state.critics.params, 1.5),
        value=network(scaled(state.value.params, 1.5)),
        target_autoencoder=scaled(state.autoencoder.params, 0.9),
        target_policy=scaled(state.policy.params, 0.9),
    )


def data():
    """Small rewards: the target critics leave the range of returns on both sides."""
    return transitions()._replace(rewards=0.05 * transitions().rewards)


def assert_same_training(config, oracle_class=oracle_lapo.Lapo):
    """Train both; after every update compare metrics and parameters."""
    state = initial_state(config)
    oracle = oracle_class(
        config,
        data()._asdict(),
        (
            members(state.critics.params),
            state.value.params,
            *state.autoencoder.params,
            state.policy.params,
        ),
        (members(state.target_critics), *state.target_autoencoder, state.target_policy),
    )
    latents = BATCH, config.latents_per_action * ACTION_DIM
    for number in range(UPDATES):
        ours, numbers = {}, rng(number)
        for update in lapo.phases["policy"]:
            state, metrics = update(state, data(), config, numbers)
            ours |= metrics
        rows = numbers.integers("batch", SIZE, (BATCH,))
        theirs = (
            oracle.update_critics(rows, numbers.normal("smoothing", latents))
            | oracle.update_autoencoder(rows, numbers.normal("latent", latents))
            | oracle.update_policy(rows)
        )
        assert_same_metrics(ours, theirs)
        assert_same("critics", members(state.critics.params), list(map(layers_of, oracle.critics)))
        targets = list(map(layers_of, oracle.target_critics))
        assert_same("target critics", members(state.target_critics), targets)
        assert_same("value", state.value.params, layers_of(oracle.value))
        expected = layers_of(oracle.encoder), layers_of(oracle.decoder)
        assert_same("autoencoder", state.autoencoder.params, expected)
        expected = layers_of(oracle.target_encoder), layers_of(oracle.target_decoder)
        assert_same("target autoencoder", state.target_autoencoder, expected)
        assert_same("policy", state.policy.params, layers_of(oracle.policy))
        assert_same("target policy", state.target_policy, layers_of(oracle.target_policy))
    return state, oracle


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pessimism": 1.0},
        {"pessimism": 0.0},
        {"latents_per_action": 1},
        {"latents_per_action": 3},
        {"kl_weight": 0.0},
        {"smoothing_std": 0.0},
        {"discount": 0.99},
        {"expectile": 0.5},
        {"hidden_sizes": (5, 6, 7)},
    ],
    ids=str,
)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


MISTAKES = [
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 1:',
        "if False:",
    ),
    (
        "no discount",
        "+ self.settings.discount * value",
        "+ value",
    ),
    (
        "the pessimism upside down",
        "pessimism * min(values) + (1 - pessimism) * max(values)",
        "pessimism * max(values) + (1 - pessimism) * min(values)",
    ),
    (
        "critics as their own targets",
        "action) for critic in self.target_critics]",
        "action) for critic in self.critics]",
    ),
    (
        "the target of a dataset's action",
        "v_target = self.mixed_target_q(observation, latent)",
        'critics, action = self.target_critics, self.data["actions"][row]\n'
        "                v_target = min(self.q(each, observation, action) for each in critics)",
    ),
    (
        "the online policy in the value's target",
        "latent = self.latent(self.target_policy, observation) + noise",
        "latent = self.latent(self.policy, observation) + noise",
    ),
    (
        "smoothing noise without a bound",
        "noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)",
        "pass",
    ),
    (
        "smoothing before the bound of the latents",
        "latent = self.latent(self.target_policy, observation) + noise",
        "latent = self.latent(lambda o: self.target_policy(o) + noise, observation)",
    ),
    (
        "a value's target without a floor",
        "clip(v_target, lowest, highest)",
        "clip(v_target, -1e9, highest)",
    ),
    (
        "a value's target without a ceiling",
        "clip(v_target, lowest, highest)",
        "clip(v_target, lowest, 1e9)",
    ),
    (
        "bounds of the batch alone",
        'settings, rewards = self.settings, self.data["rewards"]',
        'settings, rewards = self.settings, self.data["rewards"][rows]',
    ),
    (
        "a bounded target of the critics",
        "q_targets.append(self.bootstrapped(row, next_value))",
        "q_targets.append(clip(self.bootstrapped(row, next_value), lowest, highest))",
    ),
    (
        "a gradient through the critics' target",
        "with torch.no_grad():\n            for b, row",
        "with torch.enable_grad():\n            for b, row",
    ),
    (
        "the critics' summed error",
        "q_loss + error**2 / len(rows)",
        "q_loss + error**2",
    ),
    (
        "half the value's error",
        "self.step(self.critic_optimizer, q_loss + v_loss)",
        "self.step(self.critic_optimizer, q_loss + 0.5 * v_loss)",
    ),
    (
        "an advantage of the online policy",
        "next_latent = self.latent(self.target_policy, next_observation)",
        "next_latent = self.latent(self.policy, next_observation)",
    ),
    (
        "an advantage of the next value",
        "next_value = self.mixed_target_q(next_observation, next_latent)",
        "next_value = self.value(next_observation)[0]",
    ),
    (
        "weights upside down",
        "settings.expectile if advantage > 0 else 1 - settings.expectile",
        "1 - settings.expectile if advantage > 0 else settings.expectile",
    ),
    (
        "a divergence that is not weighted",
        "weight * cost / len(rows)",
        "(weight * distance + settings.kl_weight * divergence) / len(rows)",
    ),
    (
        "a sum over the batch",
        "weight * cost / len(rows)",
        "weight * cost",
    ),
    (
        "a mean over action dimensions",
        "sum((reconstructed - action) ** 2)",
        "sum((reconstructed - action) ** 2) / len(action)",
    ),
    (
        "a reconstruction of the target decoder",
        "self.decode(self.decoder, observation, latent)",
        "self.decode(self.target_decoder, observation, latent)",
    ),
    (
        "the variance in place of the standard deviation",
        "torch.sqrt(torch.exp(log_variance))",
        "torch.exp(log_variance)",
    ),
    (
        "a policy that is decoded online",
        "action = self.decode(self.target_decoder, observation, latent)\n            loss",
        "action = self.decode(self.decoder, observation, latent)\n            loss",
    ),
    (
        "a policy that follows the smaller critic",
        "self.q(self.critics[0], observation, action) / len(rows)",
        "min(self.q(critic, observation, action) for critic in self.critics) / len(rows)",
    ),
    (
        "a policy that follows a target critic",
        "self.q(self.critics[0], observation, action) / len(rows)",
        "self.q(self.target_critics[0], observation, action) / len(rows)",
    ),
    (
        "latents without a bound",
        "self.settings.latent_bound * torch.tanh(policy(observation))",
        "policy(observation)",
    ),
    (
        "the Polyak average upside down",
        "(1 - tau) * slow + tau * fast",
        "tau * slow + (1 - tau) * fast",
    ),
    (
        "a target policy that never moves",
        "self.follow(self.target_policy, self.policy)\n",
        "pass\n",
    ),
    (
        "a target encoder that never moves",
        "self.follow(self.target_encoder, self.encoder)\n",
        "pass\n",
    ),
    (
        "targets that move before the policy's step",
        "        loss = 0.0\n        for row in rows:\n",
        "        self.follow(self.target_decoder, self.decoder)\n"
        "        loss = 0.0\n        for row in rows:\n",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_lapo, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Lapo)


class CriticsLast(oracle_lapo.Lapo):
    """The advantage is of the value before its step."""

    def update_critics(self, *drawn):
        self.drawn = drawn
        return {}

    def update_autoencoder(self, *drawn):
        metrics = super().update_autoencoder(*drawn)
        return metrics | super().update_critics(*self.drawn)


class PolicyFirst(oracle_lapo.Lapo):
    """The policy follows the first critic before its step."""

    def update_critics(self, *drawn):
        metrics = super().update_policy(drawn[0])
        return metrics | super().update_critics(*drawn)

    def update_policy(self, rows):
        return {}


@pytest.mark.parametrize("oracle_class", [CriticsLast, PolicyFirst])
def test_another_order_of_the_steps_is_noticed(oracle_class):
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), oracle_class)


def test_the_online_policys_latent_is_decoded_by_the_target_decoder():
    state, oracle = assert_same_training(configuration())
    observations = transitions().next_observations[:7]
    expected = torch.stack([oracle.act(observation).detach() for observation in observations])
    assert_close(lapo.act(state, observations, configuration(), rng(9)), expected)


# Numbers worked out by hand.


def hand_made(q=(0.0, 0.0), value=0.0, latent_mean=0.0, log_variance=0.0, latent_dim=2):
    """Networks that say the same whatever they are asked: one observation and action dimension."""
    critics = tree_map(
        lambda *leaves: torch.stack(leaves), *(constant([each], inputs=2) for each in q)
    )
    encoder = constant([latent_mean] * latent_dim + [log_variance] * latent_dim, inputs=2)
    autoencoder = encoder, constant([0.0], inputs=1 + latent_dim)
    policy = constant([0.0] * latent_dim)
    return lapo.State(
        critics=network(critics),
        target_critics=critics,
        value=network(constant([value])),
        autoencoder=network(autoencoder),
        target_autoencoder=autoencoder,
        policy=network(policy),
        target_policy=policy,
    )


def test_the_weight_of_an_advantage_of_0_is_that_of_a_negative_one():
    """Advantages -1, 0 and 1 weigh 0.1, 0.1 and 0.9; the squared errors are 1, 4 and 16."""
    rows = dataset([[1.0], [2.0], [4.0]], rewards=[-1.0, 0.0, 1.0])
    config = configuration(expectile=0.9, batch_size=3)
    _, metrics = lapo.update_autoencoder(hand_made(), rows, config, Silent())
    assert metrics["autoencoder/advantage"].item() == pytest.approx(0.0)
    assert metrics["autoencoder/weight"].item() == pytest.approx(1.1 / 3)
    assert metrics["autoencoder/loss"].item() == pytest.approx((0.1 * 1 + 0.1 * 4 + 0.9 * 16) / 3)


@pytest.mark.parametrize("termination", [0.0, 1.0])
def test_the_advantage_is_of_the_target_critics_mixture_after_the_reward(termination):
    """1 + 0.5 (0.7 * 1 + 0.3 * 3) - 2 = -0.2, and of an end 1 - 2 = -1."""
    rows = dataset([[1.0]], rewards=[1.0], terminations=[termination])
    state = hand_made(q=(3.0, 1.0), value=2.0)._replace(critics=network(constant([7.0], 2)))
    _, metrics = lapo.update_autoencoder(state, rows, configuration(batch_size=1), Silent())
    expected = -1.0 if termination else -0.2
    assert metrics["autoencoder/advantage"].item() == pytest.approx(expected)


@pytest.mark.parametrize(("pessimism", "target"), [(1.0, 1.0), (0.7, 1.6), (0.0, 3.0)])
def test_the_values_target_lies_between_the_critics(pessimism, target):
    """0.7 * 1 + 0.3 * 3 = 1.6; V = 0."""
    rows = dataset([[1.0], [1.0]], rewards=[-9.0, 9.0])
    config = configuration(pessimism=pessimism, batch_size=2)
    _, metrics = lapo.update_critics(hand_made(q=(3.0, 1.0)), rows, config, Silent())
    assert metrics["value/loss"].item() == pytest.approx(target**2)


@pytest.mark.parametrize(
    ("q", "target"), [(-500.0, -200.0), (-30.0, -30.0), (70.0, 70.0), (500.0, 100.0)]
)
def test_the_values_target_stays_in_the_range_of_returns(q, target):
    """Rewards of -2 to 1 for ever, at a discount of 0.99: -200 to 100."""
    rows = dataset([[1.0], [1.0], [1.0]], rewards=[0.5, -2.0, 1.0])
    config = configuration(discount=0.99, batch_size=3)
    _, metrics = lapo.update_critics(hand_made(q=(q, q)), rows, config, Silent())
    assert metrics["value/loss"].item() == pytest.approx(target**2)


def test_the_critics_regress_on_the_next_value_and_are_not_kept_in_that_range():
    """1 + 0.5 * 10 = 6 and, of an end, 1; against Q of 1 and 2: 25 + 0 and 16 + 1, halved."""
    rows = dataset([[1.0], [1.0]], rewards=[1.0, 1.0], terminations=[0.0, 1.0])
    config = configuration(batch_size=2)
    state = hand_made(q=(1.0, 2.0), value=10.0)
    _, metrics = lapo.update_critics(state, rows, config, Silent())
    assert metrics["critics/target_q"].item() == pytest.approx(3.5)
    assert metrics["critics/loss"].item() == pytest.approx((25 + 0) / 2 + (16 + 1) / 2)


def test_the_divergence_of_twelve_latents_of_mean_1_is_6_nats():
    rows = dataset([[0.0]], rewards=[0.0])
    state = hand_made(latent_mean=1.0, latent_dim=12)
    config = configuration(kl_weight=1.0, latents_per_action=12, expectile=0.9, batch_size=1)
    _, metrics = lapo.update_autoencoder(state, rows, config, Silent())
    assert metrics["autoencoder/loss"].item() == pytest.approx(0.1 * 6)


def test_a_constant_decoder_ends_at_the_weighted_mean_of_the_actions():
    """Weights 0.9, 0.1 and 0.1 of 2, -1 and 0.5: (1.8 - 0.1 + 0.05) / 1.1."""
    rows = dataset([[2.0], [-1.0], [0.5]], rewards=[1.0, -1.0, 0.0])
    state = hand_made()
    for update in range(400):
        rate = 0.05 if update < 300 else 0.002
        config = configuration(
            expectile=0.9, kl_weight=0.0, autoencoder_learning_rate=rate, batch_size=3
        )
        state, _ = lapo.update_autoencoder(state, rows, config, Silent())
    state = state._replace(target_autoencoder=state.autoencoder.params)
    action = lapo.act(state, torch.zeros(1, 1), config, rng())
    assert action.item() == pytest.approx(1.75 / 1.1, abs=1e-3)  # and not clipped to the box


def test_the_policys_step_changes_no_other_network_but_the_targets():
    config = configuration()
    state = initial_state(config)
    after, _ = lapo.update_policy(state, data(), config, rng())
    for name in ("critics", "value", "autoencoder"):
        for one, other in zip(
            tree_leaves(getattr(state, name)), tree_leaves(getattr(after, name)), strict=True
        ):
            assert torch.equal(one, other)
    changed = zip(tree_leaves(state.policy.params), tree_leaves(after.policy.params), strict=True)
    assert not any(torch.equal(one, other) for one, other in changed)


def test_latents_stay_in_their_box_with_noise_up_to_its_bound():
    """The decoder shows the latents: of a policy at the edge, 2, the noisy ones reach 2.2."""
    rows = dataset([[0.0]] * 500, rewards=torch.linspace(-9, 9, 500))
    config = configuration(
        latents_per_action=1, latent_bound=2.0, smoothing_std=0.1, smoothing_clip=0.2
    )
    state = hand_made(latent_dim=1)
    decoder = [(torch.tensor([[0.0, 1.0]]), torch.zeros(1))]
    critics = [(torch.tensor([[[0.0, 1.0]]]).expand(2, 1, 2), torch.zeros(2, 1))]
    state = state._replace(
        target_autoencoder=(None, decoder),
        target_critics=critics,
        target_policy=constant([50.0]),
        policy=network(constant([-50.0])),
    )
    assert lapo.act(state, torch.zeros(1, 1), config, rng()).item() == pytest.approx(-2.0)
    _, metrics = lapo.update_critics(state, rows, config, rng())
    noise = (0.1 * rng().normal("smoothing", (500, 1))).clamp(-0.2, 0.2)
    assert noise.abs().amax().item() == pytest.approx(0.2)
    assert metrics["value/loss"].item() == pytest.approx(((2 + noise) ** 2).mean().item())


def test_networks_have_the_authors_parameter_counts():
    def count(params):
        return sum(leaf.numel() for leaf in tree_leaves(params))

    state = lapo.init(17, 6, lapo.Config(), rng(phase="init"))
    assert count(state.policy.params) == 139_276
    assert count(state.autoencoder.params) == 284_702
    assert count(state.critics.params) + count(state.value.params) == 412_419
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)
    assert_close(state.target_autoencoder, state.autoencoder.params, rtol=0, atol=0)
    assert_close(state.target_policy, state.policy.params, rtol=0, atol=0)


@pytest.mark.parametrize(
    "setting",
    [
        {"expectile": 1.5},
        {"expectile": -0.1},
        {"pessimism": 1.1},
        {"pessimism": -0.1},
        {"latent_bound": 0.0},
        {"latents_per_action": 0},
        {"kl_weight": -1.0},
        {"smoothing_std": -0.1},
        {"smoothing_clip": -0.1},
        {"discount": 1.5},
        {"discount": math.nan},
        {"tau": 0.0},
        {"batch_size": 0},
        {"critic_learning_rate": 0.0},
        {"autoencoder_learning_rate": -2e-4},
        {"policy_learning_rate": math.inf},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(lapo.Config, **setting)


def test_a_discount_of_1_would_leave_the_values_unbounded():
    with pytest.raises(ConfigError, match=r"discount=1\.0 cannot be used: it must be .*below 1"):
        lapo.Config(discount=1.0)
    assert lapo.Config(discount=0.999).discount == 0.999
