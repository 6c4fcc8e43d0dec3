"""infoDMPO against numbers worked out by hand; test_dmpo.py compares its updates with an oracle."""

import math

import pytest
import torch
from dmpo_by_hand import actor, small, state_of
from lom_by_hand import constant, dataset, rng
from torch.testing import assert_close

from lom_exp.algorithms import infodmpo
from lom_exp.errors import ConfigError
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")


def information_loss(logits, loss, rows):
    """With a discriminator that says the same of every pair."""
    k = len(logits)
    config = infodmpo.Config(num_latents=k, information_loss=loss, batch_size=rows)
    plain = state_of([0.0] * k)
    information = network((plain.policy.params[0], constant(logits, inputs=2)))
    state = infodmpo.State(*plain, information)
    data = dataset(torch.zeros(rows, 1))
    _, metrics = infodmpo.update_information(state, data, config, rng(1))
    return metrics["information/loss"].item()


@pytest.mark.parametrize(
    ("logits", "intended", "released"),
    [
        ([5.0, *[0.0] * 7], 0.0461, 1.3114),
        ([0.0] * 8, 2.0794, 2.0794),
        ([500.0, *[0.0] * 7], 0.0, 1.2740),
        ([0.0, 500.0, *[0.0] * 6], 500.0, 2.2740),
    ],
)
def test_the_cross_entropy_of_logits_and_of_probabilities_taken_for_logits(
    logits, intended, released
):
    """The logits are given with the drawn label's first; log 8 = 2.0794 is chance."""
    for loss, high, expected in [("intended", 8, intended), ("released", 7, released)]:
        label = rng(1).integers("latent", high, (1,)).item()
        turned = torch.tensor(logits).roll(label).tolist()
        assert information_loss(turned, loss, rows=1) == pytest.approx(expected, abs=6e-5)


def test_every_latent_is_drawn_as_often_as_any_other():
    """One that the discriminator thinks impossible costs 800 nats, and an eighth have it."""
    rows = 4000
    for k in range(8):
        logits = [-800.0 if i == k else 0.0 for i in range(8)]
        cost = information_loss(logits, "intended", rows) - math.log(7)
        assert cost == pytest.approx(100, rel=5 * math.sqrt(7 / rows))


def test_the_released_loss_never_draws_the_last_latent():
    """All rows cost the same: the probabilities are 1/7 seven times, and 0."""
    expected = -math.log(math.exp(1 / 7) / (7 * math.exp(1 / 7) + 1))
    logits = [*[0.0] * 7, -800.0]
    assert information_loss(logits, "released", rows=4000) == pytest.approx(expected)


def test_released_labels_need_a_second_latent():
    with pytest.raises(ConfigError, match="num_latents"):
        infodmpo.Config(num_latents=1, information_loss="released")


def test_the_discriminator_starts_with_numbers_of_its_own_and_the_actor_with_the_policys():
    state = infodmpo.init(5, 3, infodmpo.Config(hidden_sizes=(6, 7)), rng(phase="init"))
    (policy, posterior), (copy, discriminator) = state.policy.params, state.information.params
    assert_close(copy, policy, rtol=0, atol=0)
    for (ours, _), (theirs, _) in zip(posterior, discriminator, strict=True):
        assert ours.shape == theirs.shape
        assert not (ours == theirs).any()


def test_a_step_of_information_moves_actor_and_discriminator_and_nothing_else():
    config, data, start = small(infodmpo, information_learning_rate=0.01)
    state, _ = infodmpo.update_information(start, data, config, rng(1))
    for field in ("critics", "target_critics", "target_actor"):
        assert_close(getattr(state, field), getattr(start, field), rtol=0, atol=0)
    (moved, posterior), (resting, old_posterior) = state.policy.params, start.policy.params
    assert_close(posterior, old_posterior, rtol=0, atol=0)
    assert_close(state.policy.first_moment, start.policy.first_moment, rtol=0, atol=0)
    assert not (moved[1][0][0] == resting[1][0][0]).all()
    discriminator, old_discriminator = state.information.params[1], start.information.params[1]
    assert not (discriminator[0][0] == old_discriminator[0][0]).all()


def test_when_it_is_not_the_policys_turn_nothing_moves():
    config, data, start = small(infodmpo, information_learning_rate=0.01)
    state, _ = infodmpo.update_information(start, data, config, rng(0))
    assert_close(state.policy, start.policy, rtol=0, atol=0)
    assert_close(state.information.params[1], start.information.params[1], rtol=0, atol=0)
    assert state.information.updates == 0


def test_information_drives_the_sub_policies_apart():
    """By a discriminator that takes large actions for the second latent's."""
    config = infodmpo.Config(num_latents=2, information_learning_rate=0.01, batch_size=64)
    plain = state_of([0.4, 0.5])
    judge = [(torch.tensor([[0.0, 0.0], [0.0, 5.0]]), torch.tensor([0.0, -2.25]))]
    state = infodmpo.State(*plain, network((actor(0.4, 0.5), judge)))
    state, _ = infodmpo.update_information(state, dataset(torch.zeros(64, 1)), config, rng(1))
    (weight, _), _ = state.policy.params[0]
    (old_weight, _), _ = plain.policy.params[0]
    assert_close(weight - old_weight, torch.tensor([[-0.01, 0.01]]), rtol=1e-4, atol=0)


def test_steps_of_information_have_moments_of_their_own():
    """The policy's step does not wear out the momentum that the information's has gathered."""
    config, data, state = small(infodmpo, information_learning_rate=0.01, policy_period=1)
    for update in range(3):
        for apply_update in infodmpo.phases["policy"]:
            state, _ = apply_update(state, data, config, rng(update))
    assert state.information.updates == state.policy.updates == 3
    (_, [(moment, _), _]), _ = state.information.first_moment
    (_, [(policys_moment, _), _]), _ = state.policy.first_moment
    assert not (moment == policys_moment).all()
