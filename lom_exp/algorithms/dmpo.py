"""DMPO: a deterministic mixture policy (Osa, Hayashi, Deo, Morihira and Yoshiike, TMLR 2023).

K deterministic sub-policies share a network that takes a one-hot latent; the critics choose among
them, and a conditional autoencoder with that discrete latent imitates the dataset's actions,
weighted by normalized advantage, so that each sub-policy imitates its own share of them.

The defaults follow the authors' released code. Departures from it and from the paper:

- `advantage_weight`: Eq. 19 divided by its batch mean (code), or Eq. 19 itself. Neither guards
  against advantages that are all equal, which give 0 / 0; here the range is at least 1e-8.
- `target_selection`: the online critics choose the next latent and the target critics value it
  (code), or the target critics do both (Eq. 17). Eq. 47 puts the smoothing noise inside the
  maximum; here, as in the code, it comes after the choice.
- Eq. 17 has no terminal mask; here, as in the code, there is one.
- Eq. 46 leaves open which critic it means: the least of the online ones, as in the code.
- Eq. 11's reconstruction is the squared error summed over actions, its weight against the
  divergence is 1 and its prior (Eq. 9) a softmax of raw Q at temperature 1: all the code's.
- EPSILON stands inside the logarithms of Eq. 18 and of the divergence, as in the code. It bounds
  the divergence near 27.6, which it reaches where the Q of the latents are far apart.

Shapes: B batch, O observation, A action, K latents. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from lom_exp import validation
from lom_exp.critics import init_critics, min_q, regress, smoothed, td_target
from lom_exp.mixtures import component
from lom_exp.networks import Network, Params, descend, init_mlp, mlp, network, polyak, select
from lom_exp.policies import tanh_action
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

EPSILON = 1e-12


@dataclass(frozen=True)
class Config:
    """Hyperparameters of DMPO; the paper's Table 10 where it prints them, else the code's."""

    num_latents: int = 8  # K
    inverse_temperature: float = 10.0  # multiplies advantages of range 1: Eq. 19's alpha
    advantage_weight: str = "normalized_mean"  # or normalized
    target_selection: str = "online"  # or target: whose critics choose the next latent
    kl_weight: float = 1.0  # of the posterior's divergence
    gumbel_temperature: float = 0.67  # of the relaxed latent (Eq. 18)
    smoothing_std: float = 0.2  # of the noise on next actions, 0 for none
    smoothing_clip: float = 0.5  # bound of that noise
    policy_period: int = 2  # updates from one step of policy and targets to the next
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics and of the target actor
    critic_learning_rate: float = 3e-4
    policy_learning_rate: float = 3e-4  # of the actor and the posterior
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "num_latents", "inverse_temperature", "gumbel_temperature")
        validation.positive(self, "policy_period", "batch_size")
        validation.positive(self, "critic_learning_rate", "policy_learning_rate")
        validation.non_negative(self, "kl_weight", "smoothing_std", "smoothing_clip")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes")
        validation.one_of(self, "advantage_weight", ("normalized_mean", "normalized"))
        validation.one_of(self, "target_selection", ("online", "target"))


class State(NamedTuple):
    critics: Network  # two: every leaf leads with 2
    target_critics: Params
    policy: Network  # of (actor, posterior's layers)
    target_actor: Params  # (latent's embedding, layers)


Updated = tuple[State, Metrics]


def actor_action(actor: Params, observations: Tensor, latents: Tensor) -> Tensor:
    """The sub-policies' action: (..., O), one-hot or relaxed (..., K) -> (..., A) in [-1, 1]."""
    embedding, layers = actor
    embedded = torch.relu(linear(latents, *embedding))  # (..., O)
    return tanh_action(layers, torch.cat((observations, embedded), -1))


def candidates(
    actor: Params, critics: Params, observations: Tensor, config: Config
) -> tuple[Tensor, Tensor]:
    """Actions (B, K, A) of all sub-policies and their least Q (B, K)."""
    k = config.num_latents
    repeated = observations.unsqueeze(1).expand(-1, k, -1)
    latents = torch.eye(k, device=observations.device).expand(len(observations), -1, -1)
    actions = actor_action(actor, repeated, latents)
    return actions, min_q(critics, repeated, actions)


def best_action(actor: Params, critics: Params, observations: Tensor, config: Config) -> Tensor:
    """The action (B, A) of the sub-policy that the critics prefer (Eq. 3)."""
    actions, values = candidates(actor, critics, observations, config)
    return component(actions, values.argmax(-1))


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; targets start as their networks.

    The latent's embedding is as wide as an observation.
    """
    k, hidden = config.num_latents, config.hidden_sizes
    critics = init_critics(rng, observation_dim, action_dim, hidden)
    [embedding] = init_mlp(rng, "embedding", [k, observation_dim])
    actor = embedding, init_mlp(rng, "policy", [2 * observation_dim, *hidden, action_dim])
    posterior = init_mlp(rng, "posterior", [observation_dim + action_dim, *hidden, k])
    return State(
        critics=network(critics),
        target_critics=critics,
        policy=network((actor, posterior)),
        target_actor=actor,
    )


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Clipped double Q-learning over the target actor's sub-policies (Eq. 16, 17 and 47)."""
    batch = data.sample(rng, "batch", config.batch_size)
    online = config.target_selection == "online"
    choosing = state.critics.params if online else state.target_critics
    best = best_action(state.target_actor, choosing, batch.next_observations, config)
    next_actions = smoothed(best, rng, config.smoothing_std, config.smoothing_clip)
    next_q = min_q(state.target_critics, batch.next_observations, next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    state = state._replace(critics=critics)
    return state, {"critics/loss": loss, "critics/target_q": target_q.mean()}


def advantage_weights(advantages: Tensor, config: Config) -> Tensor:
    """Weights (B,) of the batch's advantages (B,), in its own range (Eq. 19)."""
    highest = advantages.amax()
    width = (highest - advantages.amin()).clamp(min=1e-8)
    weights = (config.inverse_temperature * (advantages - highest) / width).exp()
    return weights / weights.mean() if config.advantage_weight == "normalized_mean" else weights


def kl_divergence(posterior: Tensor, prior: Tensor) -> Tensor:
    """Of probabilities (B, K) from probabilities (B, K): (B,)."""
    return (posterior * ((posterior + EPSILON) / (prior + EPSILON)).log()).sum(-1)


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Every policy_period updates: autoencode actions, weighted by advantage; move the targets."""
    batch = data.sample(rng, "batch", config.batch_size)
    critics = state.critics.params
    _, target_values = candidates(state.target_actor, critics, batch.observations, config)
    advantages = min_q(critics, batch.observations, batch.actions) - target_values.amax(-1)
    weights = advantage_weights(advantages, config)  # (B,)

    _, values = candidates(state.policy.params[0], critics, batch.observations, config)
    prior = values.softmax(-1)  # (B, K), Eq. 9
    uniform = rng.uniform("gumbel", values.shape)
    gumbel = -(EPSILON - (uniform + EPSILON).log()).log()

    def weighted_autoencoding(params: Params) -> Tensor:
        actor, posterior_layers = params
        logits = mlp(posterior_layers, torch.cat((batch.observations, batch.actions), -1))
        posterior = logits.softmax(-1)
        perturbed = (posterior + EPSILON).log() + gumbel
        latents = (perturbed / config.gumbel_temperature).softmax(-1)  # Eq. 18
        errors = actor_action(actor, batch.observations, latents) - batch.actions
        divergence = kl_divergence(posterior, prior)
        return (weights * ((errors**2).sum(-1) + config.kl_weight * divergence)).mean()

    policy, loss = descend(state.policy, weighted_autoencoding, config.policy_learning_rate)
    target_critics = polyak(state.target_critics, critics, config.tau)
    target_actor = polyak(state.target_actor, policy.params[0], config.tau)
    policy, target_critics, target_actor = select(
        (rng.update + 1) % config.policy_period == 0,
        (policy, target_critics, target_actor),
        (state.policy, state.target_critics, state.target_actor),
    )
    state = state._replace(policy=policy, target_critics=target_critics, target_actor=target_actor)
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/effective_share": weights.mean() ** 2 / (weights**2).mean(),
        "policy/latent_spread": values.amax(-1).mean() - values.amin(-1).mean(),
    }
    return state, metrics


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The action of the sub-policy that the critics prefer."""
    return best_action(state.policy.params[0], state.critics.params, observations, config)


phases: Phases = {"policy": (update_critics, update_policy)}
