"""Conditional variational autoencoders of actions (Kingma and Welling, 2014; Sohn et al., 2015).

Parameters are (encoder layers, decoder layers). Shapes: B batch, O observation, A action, L latent.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lom_exp.networks import Params, init_mlp, mlp
from lom_exp.random import Rng


def init_autoencoder(
    rng: Rng, observation_dim: int, action_dim: int, latent_dim: int, hidden_sizes: Sequence[int]
) -> Params:
    """Encoder O + A -> 2 L and decoder O + L -> A, torch's default initialization."""
    encoder = [observation_dim + action_dim, *hidden_sizes, 2 * latent_dim]
    decoder = [observation_dim + latent_dim, *hidden_sizes, action_dim]
    return init_mlp(rng, "encoder", encoder), init_mlp(rng, "decoder", decoder)


def encode(params: Params, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log-variances (B, L) of the latent; the log-variances are unbounded."""
    encoder, _ = params
    means, log_variances = mlp(encoder, torch.cat((observations, actions), -1)).chunk(2, -1)
    return means, log_variances


def decode(params: Params, observations: Tensor, latents: Tensor) -> Tensor:
    """The decoder's output (..., A) for latents (..., L); nothing bounds it."""
    _, decoder = params
    return mlp(decoder, torch.cat((observations, latents), -1))


def kl_divergence(means: Tensor, log_variances: Tensor) -> Tensor:
    """Of N(means, variances) from the standard normal, summed over the latent's axis: (B,)."""
    return -0.5 * (1 + log_variances - means**2 - log_variances.exp()).sum(-1)
