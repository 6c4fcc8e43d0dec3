"""infoDMPO: DMPO whose latents are told apart by their actions (Osa et al., TMLR 2023, Eq. 12-13).

Besides DMPO's updates, a discriminator learns to guess the latent from observation and action, and
the actor to be guessed right: a variational lower bound on the mutual information of the two.

The defaults follow the paper, in the order of the authors' code. Departures:

- The code does this before the imitation of DMPO's update, with the same batch; Algorithm 1 after.
- As in the code and in Table 10, the weight lambda of Eq. 13 is a learning rate instead. The code's
  second Adam takes the actor, too, although Table 10 names the discriminator's rate only.
- `information_loss`: `intended` draws the latents of Eq. 13 from all K and takes the logarithm of
  their probability. The released code never draws the last latent, and takes a softmax of
  probabilities, which damps the gradients and bounds the loss: `released`.

State has DMPO's fields by name and one more, and Config all of DMPO's: its updates serve as they
are. Shapes: B batch, O observation, A action, K latents. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.algorithms import dmpo
from lom_exp.errors import ConfigError
from lom_exp.networks import Network, Params, descend, init_mlp, mlp, network, select
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config(dmpo.Config):
    """Hyperparameters of DMPO and two of its mutual information, after the paper's Table 10."""

    information_learning_rate: float = 5e-7  # of discriminator and actor; 0 is DMPO
    information_loss: str = "intended"  # or released

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.non_negative(self, "information_learning_rate")
        validation.one_of(self, "information_loss", ("intended", "released"))
        if self.information_loss == "released" and self.num_latents == 1:
            raise ConfigError(
                "num_latents=1 cannot be used with information_loss=released, which never draws "
                "the last latent: it must be above 1"
            )


class State(NamedTuple):
    critics: Network  # two: every leaf leads with 2
    target_critics: Params
    policy: Network  # of (actor, posterior's layers)
    target_actor: Params
    information: Network  # of (actor, discriminator's layers)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """DMPO's networks and a discriminator with torch's default initialization."""
    state = dmpo.init(observation_dim, action_dim, config, rng)
    actor, _ = state.policy.params
    sizes = [observation_dim + action_dim, *config.hidden_sizes, config.num_latents]
    discriminator = init_mlp(rng, "discriminator", sizes)
    return State(*state, information=network((actor, discriminator)))


def update_information(
    state: State, data: Transitions, config: Config, rng: Rng
) -> tuple[State, Metrics]:
    """Every policy_period updates: make latents guessable from the actions they lead to (Eq. 13).

    The actor has a second Adam here: its moments are in `information`, its parameters the policy's.
    """
    observations = data.sample(rng, "batch", config.batch_size).observations
    k = config.num_latents
    drawn = k if config.information_loss == "intended" else k - 1
    latents = torch.eye(k, device=observations.device)[
        rng.integers("latent", drawn, (config.batch_size,))
    ]

    def cross_entropy(params: Params) -> Tensor:
        actor, discriminator = params
        actions = dmpo.actor_action(actor, observations, latents)
        outputs = mlp(discriminator, torch.cat((observations, actions), -1))
        if config.information_loss == "released":
            outputs = outputs.softmax(-1)
        return -(latents * outputs.log_softmax(-1)).sum(-1).mean()

    actor, posterior = state.policy.params
    _, discriminator = state.information.params
    information, loss = descend(
        state.information._replace(params=(actor, discriminator)),
        cross_entropy,
        config.information_learning_rate,
    )
    moved_actor, _ = information.params
    information, actor = select(
        (rng.update + 1) % config.policy_period == 0,
        (information, moved_actor),
        (state.information, actor),
    )
    policy = state.policy._replace(params=(actor, posterior))
    return state._replace(policy=policy, information=information), {"information/loss": loss}


act = dmpo.act
phases: Phases = {"policy": (dmpo.update_critics, update_information, dmpo.update_policy)}
