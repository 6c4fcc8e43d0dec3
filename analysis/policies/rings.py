"""Points on the plane of the two rings: the dataset's, and those a trained model makes of states.

Evaluation plays the mean of a Gaussian and the action of a generator for no noise. Here an action
is drawn from all that a model has learned of a state, and nothing clips it to the box.

Shapes: P points, B states, M components, A = 1 action.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.policies import selection
from lom_exp.algorithms import lom, onestep, wcgan, wcvae
from lom_exp.envs.rings import ACTION_SCALE, is_rewarded, on_rings
from lom_exp.errors import ConfigError
from lom_exp.mixtures import component, mixture
from lom_exp.precision import default_dtype
from lom_exp.random import Rng
from lom_exp.trained import TrainedRun

Floats = NDArray[np.float64]

TOLERANCE = 0.02  # in radius, of a point that counts as on a ring


class Shares(NamedTuple):
    """How much of some points is where, in [0, 1]."""

    on_rings: float
    rewarded: float  # in the first or third quadrant, on a ring or not


def shares(points: Floats) -> Shares:
    """Of points (P, 2)."""
    return Shares(
        float(on_rings(points, TOLERANCE).mean()),
        float(is_rewarded(points).mean()),
    )


def data(run: TrainedRun, sha256: str) -> Floats:
    """All points (P, 2) of the dataset that a run was trained on.

    Raises DataError where they are not there any more.
    """
    rows = selection.rows_of(run, sha256)
    points = np.concatenate((rows.observations, ACTION_SCALE * rows.actions), axis=-1)
    return points.astype(np.float64)


def sample(run: TrainedRun, states: Floats, best: int | None = None) -> Floats:
    """Points (B, 2): an action drawn at each of the states (B,), the same at every call.

    Args:
        best: of LOM's mixture keep at each state so many components, those of highest hyper-Q.

    Raises:
        ConfigError: a run of an algorithm whose distribution is not known here, or whose mixture
            has no more components than are to be kept.
    """
    with default_dtype(run.spec.dtype), torch.no_grad():
        given = torch.as_tensor(states[:, None], dtype=torch.get_default_dtype())
        seed = torch.tensor(run.spec.seed)
        rng = Rng.of(seed, "figure5", torch.zeros_like(seed))
        actions = run.actions.invert(_draw(run, run.observations(given), rng, best))
    return np.stack((states, ACTION_SCALE * actions[:, 0].double().numpy()), axis=-1)


def _draw(run: TrainedRun, observations: Tensor, rng: Rng, best: int | None) -> Tensor:
    """An action (B, A) at each of the scaled observations (B, 1)."""
    state, config = run.trainer.snapshots()[0].state, run.spec.config
    match run.spec.algorithm:
        case "onestep":
            means, stds = onestep.gaussian(state.policy.params, observations, config)
            return means + stds * rng.normal("action", means.shape)
        case "wcvae":
            return wcvae.act(state, observations, replace(config, evaluation_latent="random"), rng)
        case "wcgan":
            return wcgan.act(state, observations, replace(config, evaluation_noise="random"), rng)
        case "lom":
            logits, means, stds = mixture(
                state.behavior.params, observations, state.components, config
            )
            if best is not None:
                if best >= config.num_components:
                    raise ConfigError(
                        f"{run.name}: M={config.num_components} leaves none out of the {best} "
                        "components to keep; give a run of more, such as M=20"
                    )
                hyper_qs = lom.hyper_q(
                    state.hyper_critic.params, observations, state.components, config
                )
                logits = only_best(logits, hyper_qs, best)
            return draw_mixture(logits, means, stds, rng)
        case other:
            raise ConfigError(
                f"{run.name}: how to draw from all that {other} has learned is not known here; "
                "give a run of onestep, wcvae, wcgan or lom"
            )


def only_best(logits: Tensor, hyper_qs: Tensor, count: int) -> Tensor:
    """Logits (B, M) of the mixtures of the `count` components of highest hyper-Q (B, M) alone."""
    kept = torch.zeros_like(logits, dtype=torch.bool)
    kept = kept.scatter(-1, hyper_qs.topk(count).indices, True)
    return logits.masked_fill(~kept, -torch.inf)


def draw_mixture(logits: Tensor, means: Tensor, stds: Tensor, rng: Rng) -> Tensor:
    """An action (B, A) of each mixture: a component by its weight, then of that one."""
    uniform = rng.uniform("component", logits.shape)
    chosen = (logits - (-uniform.log()).log()).argmax(-1)  # drawn by weight (Gumbel, 1954)
    mean, std = component(means, chosen), component(stds, chosen)
    return mean + std * rng.normal("action", mean.shape)
