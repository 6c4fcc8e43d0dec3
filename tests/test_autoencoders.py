"""Conditional autoencoders: sizes, halves of outputs, and the divergence against torch's."""

import pytest
import torch
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as torch_kl_divergence
from torch.func import grad
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from lom_exp.autoencoders import decode, encode, init_autoencoder, kl_divergence
from lom_exp.networks import mlp
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

B, OBSERVATION_DIM, A, L = 6, 5, 3, 4  # batch, observation, action, latent


def rng():
    return Rng.of(torch.tensor(4), "init", torch.tensor(0))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def params(float64):
    return init_autoencoder(rng(), OBSERVATION_DIM, A, L, (7, 8))


def test_the_encoder_doubles_the_latent_and_the_decoder_gives_an_action(params):
    encoder, decoder = params
    assert [weight.shape for weight, _ in encoder] == [(7, OBSERVATION_DIM + A), (8, 7), (2 * L, 8)]
    assert [weight.shape for weight, _ in decoder] == [(7, OBSERVATION_DIM + L), (8, 7), (A, 8)]


def test_encoder_and_decoder_start_with_numbers_of_their_own():
    encoder, decoder = init_autoencoder(rng(), 2, 2, 2, (6, 6))
    assert not torch.isin(encoder[1][0], decoder[1][0]).any()


def test_the_encoders_first_outputs_are_means_and_the_others_log_variances(params):
    encoder, _ = params
    observations, actions = normal(B, OBSERVATION_DIM), normal(B, A, seed=1)
    means, log_variances = encode(params, observations, actions)
    outputs = mlp(encoder, torch.cat((observations, actions), -1))
    assert_close(means, outputs[:, :L])
    assert_close(log_variances, outputs[:, L:])


def test_what_is_decoded_depends_on_the_observation_and_the_latent_and_is_unbounded(params):
    observations, latents = normal(B, OBSERVATION_DIM), normal(B, L, seed=1)
    actions = decode(params, observations, latents)
    assert actions.shape == (B, A)
    assert not torch.isclose(actions, decode(params, observations, latents + 1)).any()
    assert not torch.isclose(actions, decode(params, observations + 1, latents)).any()
    assert decode(params, observations, 1e3 * latents).abs().amax() > 10


def test_decoding_takes_further_leading_axes(params):
    observations, latents = normal(2, B, OBSERVATION_DIM), normal(2, B, L, seed=1)
    actions = decode(params, observations, latents)
    assert_close(actions[1], decode(params, observations[1], latents[1]))


@pytest.mark.parametrize(
    ("mean", "log_variance", "nats"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 0.5), (0.0, 1.0, 0.359141), (0.0, -1.0, 0.183940)],
)
def test_the_divergence_of_one_latent_by_hand(mean, log_variance, nats):
    """(mean^2 + variance - log variance - 1) / 2."""
    divergence = kl_divergence(torch.tensor([[mean]]), torch.tensor([[log_variance]]))
    assert divergence.tolist() == pytest.approx([nats], abs=1e-6)


def test_the_divergence_is_summed_over_the_latent():
    assert kl_divergence(torch.ones(3, 12), torch.zeros(3, 12)).tolist() == [6.0, 6.0, 6.0]


def test_the_divergence_equals_torchs():
    means, log_variances = normal(B, L), normal(B, L, seed=1)
    theirs = torch_kl_divergence(
        Normal(means, (0.5 * log_variances).exp()), Normal(torch.zeros(L), torch.ones(L))
    )
    assert_close(kl_divergence(means, log_variances), theirs.sum(-1))


def test_the_divergence_is_least_at_the_standard_normal():
    slopes = grad(lambda args: kl_divergence(*args).sum())((torch.zeros(1, L), torch.zeros(1, L)))
    assert all(slope.abs().amax() == 0 for slope in slopes)
    assert (kl_divergence(normal(50, L), normal(50, L, seed=1)) > 0).all()


def test_every_parameter_is_reached_by_the_reconstruction_of_a_drawn_latent(params):
    observations, actions = normal(B, OBSERVATION_DIM), normal(B, A, seed=1)

    def loss(params):
        means, log_variances = encode(params, observations, actions)
        latents = means + (0.5 * log_variances).exp() * normal(B, L, seed=2)
        return ((decode(params, observations, latents) - actions) ** 2).mean()

    assert all(leaf.abs().sum() > 0 for leaf in tree_leaves(grad(loss)(params)))
