"""The actions that a trained run gives a state: as distributions, and as played.

A Gaussian policy is a mixture of one component, so that all are drawn and sampled alike. Samples
are not clipped to the box [-1, 1]^A unless it is said: they show what was learned, and how much of
it lies outside.

Shapes: O observation, n samples, A action, M components.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lom_exp.algorithms import awac, lom
from lom_exp.critics import q
from lom_exp.errors import ConfigError
from lom_exp.mixtures import mixture
from lom_exp.policies import tanh_mean
from lom_exp.precision import default_dtype
from lom_exp.trained import TrainedRun

Floats = NDArray[np.float64]


class Mixture(NamedTuple):
    """A mixture of diagonal Gaussians over actions."""

    weights: Floats  # (M,), sum 1
    means: Floats  # (M, A)
    stds: Floats  # (M, A)

    def only(self, component: int) -> Mixture:
        """One component alone."""
        at = slice(component, component + 1)
        return Mixture(np.ones(1), self.means[at], self.stds[at])

    def sample(self, count: int, generator: np.random.Generator) -> Floats:
        """Actions (n, A), unclipped."""
        drawn = generator.choice(len(self.weights), count, p=self.weights)
        noise = generator.standard_normal((count, self.means.shape[-1]))
        return self.means[drawn] + self.stds[drawn] * noise


class Evaluated(NamedTuple):
    """LOM's mixture at a state, and what its hyper-Q makes of it."""

    mixture: Mixture
    hyper_qs: Floats  # (M,)
    chosen: int  # the component that LOM imitates
    highest: int  # of highest hyper-Q; not the chosen one where that is below min_component_weight


class Imitated(NamedTuple):
    """Actions that LOM's policy is to imitate at a state."""

    actions: Floats  # (n, A), in the box
    weights: Floats  # (n,), exp(inverse temperature * advantage), at most max_weight


@contextmanager
def _at(run: TrainedRun, observation: Floats) -> Iterator[tuple[lom.State, Tensor]]:
    """The run's state and the observation (O,) as a scaled batch of one, in the run's dtype."""
    with default_dtype(run.spec.dtype), torch.no_grad():
        given = torch.as_tensor(observation, dtype=torch.get_default_dtype())
        yield run.trainer.snapshots()[0].state, run.observations(given)[None]


def _numbers(*tensors: Tensor) -> list[Floats]:
    return [tensor.double().numpy() for tensor in tensors]


def _mixture(logits: Tensor, means: Tensor, stds: Tensor) -> Mixture:
    """Of the network's outputs for one state."""
    # In double precision, in which the weights' sum is 1 for numpy's purposes, too.
    return Mixture(*_numbers(logits.double().softmax(-1)[0], means[0], stds[0]))


def distribution(run: TrainedRun, observation: Floats) -> Mixture:
    """What a run of bc, mdn or awac has learned of the actions at `observation` (O,), unclipped.

    Raises ConfigError for a run whose policy is no Gaussian mixture.
    """
    spec = run.spec
    with _at(run, observation) as (state, scaled):
        if spec.algorithm == "mdn":
            return _mixture(*mixture(state.policy.params, scaled, state.components, spec.config))
        if spec.algorithm == "bc":
            means, log_std = tanh_mean(state.policy.params, scaled), state.policy.params[1]
            return Mixture(np.ones(1), *_numbers(means, log_std.exp().expand_as(means)))
        if spec.algorithm == "awac":
            means, std = awac.gaussian(state.policy.params, scaled, spec.config)
            return Mixture(np.ones(1), *_numbers(means, std.expand_as(means)))
    raise ConfigError(
        f"{run.name}: a policy of {spec.algorithm} is no Gaussian mixture whose samples could be "
        "drawn; give a run of bc, mdn or awac"
    )


def evaluated(run: TrainedRun, observation: Floats) -> Evaluated:
    """The components of a run of LOM at `observation` (O,), and the one it imitates.

    Raises ConfigError where another algorithm, or not the hyper-Q, chooses.
    """
    _check_lom(run)
    with _at(run, observation) as (state, scaled):
        logits, means, stds = mixture(
            state.behavior.params, scaled, state.components, run.spec.config
        )
        hyper_qs = lom.hyper_q(state.hyper_critic.params, scaled, state.components, run.spec.config)
        chosen, _ = lom.choose_component(hyper_qs, logits, run.spec.config)
        highest = int(hyper_qs.argmax())
        return Evaluated(
            _mixture(logits, means, stds), *_numbers(hyper_qs[0]), int(chosen), highest
        )


def _check_lom(run: TrainedRun) -> None:
    algorithm = run.spec.algorithm
    choice = run.spec.config.component_choice if algorithm == "lom" else None
    if choice != "hyper_critic":
        what = f"algo.component_choice={choice}" if choice else f"a run of {algorithm}"
        raise ConfigError(
            f"{run.name}: {what} has no component of highest hyper-Q that it imitates; give a run "
            "of algo=lom algo.component_choice=hyper_critic"
        )


def sampled_q(run: TrainedRun, observation: Floats, actions: Floats) -> Floats:
    """Q, by the critic that labels LOM's hyper-Q, of actions (n, A) at `observation`: (n,)."""
    _check_lom(run)
    with _at(run, observation) as (state, scaled):
        given = torch.as_tensor(actions, dtype=scaled.dtype)
        return _numbers(q(lom.first_critic(state), scaled.expand(len(given), -1), given))[0]


def imitated(
    run: TrainedRun, observation: Floats, count: int, generator: np.random.Generator
) -> Imitated:
    """Actions that a run of LOM imitates at `observation` (O,), weighted as Eq. 18 does."""
    found, config = evaluated(run, observation), run.spec.config
    component = found.mixture.only(found.chosen)
    actions = component.sample(count, generator).clip(-1, 1)
    actions += config.action_noise_std * generator.standard_normal(actions.shape)
    if config.baseline == "policy":
        baseline = sampled_q(run, observation, played(run, observation)[None])
    elif config.baseline == "component_mean":
        baseline = sampled_q(run, observation, component.means)
    else:
        baseline = found.hyper_qs[[found.chosen]]
    advantages = sampled_q(run, observation, actions) - baseline
    weights = np.exp(np.minimum(config.inverse_temperature * advantages, np.log(config.max_weight)))
    return Imitated(actions, weights)


def played(run: TrainedRun, observation: Floats) -> Floats:
    """The action (A,) that evaluation plays at `observation` (O,) in an episode's first step."""
    act = run.policy(1, 1)
    return np.asarray(act(observation[None, None], 0)[0, 0], dtype=np.float64)
