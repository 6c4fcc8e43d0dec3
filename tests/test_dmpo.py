"""DMPO's and infoDMPO's updates against an independent implementation, update by update."""

import oracle_dmpo
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    assert_same,
    assert_same_metrics,
    members,
    rng,
    scaled,
    transitions,
)
from oracle_lom import layers_of
from torch.testing import assert_close

from lom_exp.algorithms import dmpo, infodmpo
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 6  # three of them move the policy; Adam's moments and corrections matter


def configuration(algorithm, **changes):
    """Settings under which every bound binds on some row and on some it does not."""
    settings = {
        "num_latents": 4,
        "inverse_temperature": 2.0,
        "kl_weight": 0.7,
        "smoothing_clip": 0.15,
        "discount": 0.9,
        "tau": 0.1,
        "critic_learning_rate": 0.03,
        "policy_learning_rate": 0.02,
        "batch_size": 7,
        "hidden_sizes": (11, 12),
    }
    if algorithm is infodmpo:
        settings["information_learning_rate"] = 0.04
    return algorithm.Config(**{**settings, **changes})


def initial_state(algorithm, config):
    """Twice torch's weights, so that latents matter; targets of their own, so that they do too."""

    def made(seed):
        numbers = Rng.of(torch.tensor(seed), "init", torch.tensor(0))
        return scaled(algorithm.init(OBSERVATION_DIM, ACTION_DIM, config, numbers), 2)

    other = made(4)
    return made(3)._replace(target_critics=other.target_critics, target_actor=other.target_actor)


def oracle_of(algorithm, config, data, state, oracles=oracle_dmpo):
    actor, posterior = state.policy.params
    networks = {
        "critics": members(state.critics.params),
        "target_critics": members(state.target_critics),
        "actor": actor,
        "target_actor": state.target_actor,
        "posterior": posterior,
    }
    if algorithm is dmpo:
        return oracles.Dmpo(config, data._asdict(), **networks)
    _, discriminator = state.information.params
    return oracles.InfoDmpo(config, data._asdict(), **networks, discriminator=discriminator)


def actor_of(module):
    [embedding] = layers_of(module.embedding)
    return embedding, layers_of(module.body)


def assert_same_parameters(state, oracle):
    actor, posterior = state.policy.params
    assert_same("critics", members(state.critics.params), [layers_of(c) for c in oracle.critics])
    assert_same(
        "targets", members(state.target_critics), [layers_of(c) for c in oracle.target_critics]
    )
    assert_same("actor", actor, actor_of(oracle.actor))
    assert_same("target actor", state.target_actor, actor_of(oracle.target_actor))
    assert_same("posterior", posterior, layers_of(oracle.posterior))
    if isinstance(state, infodmpo.State):
        _, discriminator = state.information.params
        assert_same("discriminator", discriminator, layers_of(oracle.discriminator))


def assert_same_training(algorithm, config, oracles=oracle_dmpo):
    """Train both; after every update compare metrics and parameters."""
    data, state = transitions(), initial_state(algorithm, config)
    oracle = oracle_of(algorithm, config, data, state, oracles)
    size = config.batch_size
    for update in range(UPDATES):
        numbers, ours = rng(update), {}
        for apply_update in algorithm.phases["policy"]:
            state, metrics = apply_update(state, data, config, numbers)
            ours |= metrics
        rows = numbers.integers("batch", SIZE, (size,))
        noise = numbers.normal("smoothing", (size, ACTION_DIM))
        theirs = oracle.update_critics(update, rows, noise)
        if algorithm is infodmpo:
            high = config.num_latents - (config.information_loss == "released")
            latents = numbers.integers("latent", high, (size,))
            theirs |= oracle.update_information(update, rows, latents)
        uniforms = numbers.uniform("gumbel", (size, config.num_latents))
        theirs |= oracle.update_policy(update, rows, uniforms)
        assert_same_metrics(ours, theirs)
        assert_same_parameters(state, oracle)


SWITCHES = [
    *(
        {"advantage_weight": weight, "target_selection": selection}
        for weight in ("normalized_mean", "normalized")
        for selection in ("online", "target")
    ),
    {"num_latents": 1},
    {"kl_weight": 0.0},
    {"gumbel_temperature": 2.0},
    {"smoothing_std": 0.0},
    {"policy_period": 1},
    {"policy_period": 3},
    {"batch_size": 1},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_dmpos_training_equals_the_oracles(changes):
    assert_same_training(dmpo, configuration(dmpo, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"information_loss": "released"},
        {"information_loss": "released", "num_latents": 2, "policy_period": 1},
        {"num_latents": 1},
        {"policy_period": 3, "advantage_weight": "normalized", "target_selection": "target"},
    ],
    ids=str,
)
def test_infodmpos_training_equals_the_oracles(changes):
    assert_same_training(infodmpo, configuration(infodmpo, **changes))


@pytest.mark.parametrize("algorithm", [dmpo, infodmpo])
def test_evaluation_acts_as_the_oracle_does(algorithm):
    config, data = configuration(algorithm), transitions()
    state = initial_state(algorithm, config)
    oracle = oracle_of(algorithm, config, data, state)
    expected = torch.stack([oracle.act(observation) for observation in data.observations])
    for number in (0, 9):
        actions = algorithm.act(state, data.observations, config, rng(number, phase="act"))
        assert_close(actions, expected)


def train(algorithm, config, updates=UPDATES):
    data, state = transitions(), initial_state(algorithm, config)
    for update in range(updates):
        for apply_update in algorithm.phases["policy"]:
            state, _ = apply_update(state, data, config, rng(update))
    return state


def test_infodmpo_without_an_information_step_is_dmpo_to_the_bit():
    plain = train(dmpo, configuration(dmpo))
    informed = train(infodmpo, configuration(infodmpo, information_learning_rate=0.0))
    for field in dmpo.State._fields:
        assert_close(getattr(informed, field), getattr(plain, field), rtol=0, atol=0)
    told_apart = train(infodmpo, configuration(infodmpo))
    assert not (told_apart.target_actor[0][0] == plain.target_actor[0][0]).all()
