"""A trained run read back from its folder, to act again as it did when it was evaluated.

Of its dataset only sizes and scales are needed, which record.json holds; the file itself is read
only where actions were standardized, as their scale is not recorded.

Shapes: E episodes, O observation, A action.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from lom_exp import checkpoints, datasets
from lom_exp.algorithms import REGISTRY
from lom_exp.datasets import Normalizer
from lom_exp.datasets.transitions import normalizer_of
from lom_exp.errors import CheckpointError, ConfigError, DataError
from lom_exp.evaluation import Policy
from lom_exp.packfiles import spec_of
from lom_exp.precision import default_dtype
from lom_exp.runs import RunFolder
from lom_exp.runspec import RunSpec
from lom_exp.trainer import Trainer
from lom_exp.types import Transitions


@dataclass(frozen=True)
class TrainedRun:
    """A run as its newest checkpoint has it, on the CPU."""

    name: str  # of its folder
    spec: RunSpec
    step: int  # updates done, of all phases
    trainer: Trainer  # of this one run
    observations: Normalizer
    actions: Normalizer

    def policy(self, episodes: int, horizon: int) -> Policy:
        """What `evaluate` plays E = `episodes` episodes of at most `horizon` steps with.

        On a CPU its actions are those of the run's own evaluation after this step, to the bit.
        """
        # The last bits of a matrix product depend on the number of its rows, so there are as many
        # as in that evaluation; those too many are zeros.
        ended = self.step == sum(self.spec.updates.values())
        evaluation = self.spec.evaluation
        rows = max(episodes, evaluation.final_episodes if ended else evaluation.episodes)

        def act(observations: NDArray[np.float64], time_step: int) -> NDArray[np.floating]:
            with default_dtype(self.spec.dtype):
                given = torch.as_tensor(observations, dtype=torch.get_default_dtype())
                padded = torch.zeros(1, rows, observations.shape[-1])
                padded[:, :episodes] = self.observations(given)
                actions = self.trainer.act(padded, self.step * horizon + time_step)
                return self.actions.invert(actions[:, :episodes]).clamp(-1, 1).numpy()

        return act


def load(path: Path) -> TrainedRun:
    """The run in a folder, which may still be in training, with its newest intact checkpoint.

    Raises ConfigError where there is no run, or none that this version of the code can run,
    CheckpointError where there is no checkpoint, DataError where a scale cannot be had.
    """
    folder = RunFolder(path)
    record = folder.record
    if "id" not in record:
        raise ConfigError(_no_run(path))
    spec = _read_spec(path, record)
    steps = checkpoints.steps(folder.checkpoints, record["id"])
    if not steps:
        raise CheckpointError(
            f"{path} has no intact checkpoint; its status is {folder.status}. In training one is "
            "written every checkpoint_every seconds, when a phase ends and when it is stopped"
        )
    with default_dtype(spec.dtype):
        observations, actions = _normalizers(spec, record)
        trainer = Trainer(
            REGISTRY[spec.algorithm],
            [spec.config],
            [spec.seed],
            _stand_in(record["dataset"]),
            vectorize=False,
        )
        trainer.initialize()
        [template] = trainer.templates
        trainer.restore([checkpoints.load(folder.checkpoints, steps[-1], template)])
    return TrainedRun(path.resolve().name, spec, steps[-1], trainer, observations, actions)


def _no_run(path: Path) -> str:
    others = [each.parent.name for each in path.absolute().parent.glob("*/record.json")]
    nearest = difflib.get_close_matches(path.name, others, n=1, cutoff=0.3)
    hint = f"did you mean {path.parent / nearest[0]}?" if nearest else "runs are in results/runs/"
    return f"{path} is no run's folder, or of one that has not started: no record.json; {hint}"


def _read_spec(path: Path, record: dict[str, Any]) -> RunSpec:
    """The spec whose resolved config is in config.yaml."""
    try:
        config = yaml.safe_load((path / "config.yaml").read_text())
        plain = {field.name: config.get(field.name) for field in fields(RunSpec)}
        updates = {phase: config["updates"][phase] for phase in REGISTRY[plain["algorithm"]].phases}
        changes = {"config": config["algo"], "updates": updates}
        return spec_of({**plain, **changes, "sources": record["sources"], "resolved": config})
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ConfigError(
            f"{path / 'config.yaml'} was written by another version of the code, or is damaged "
            f"({error!r}); use the commit that record.json names: {record.get('git_commit')}"
        ) from error


def _normalizers(spec: RunSpec, record: dict[str, Any]) -> tuple[Normalizer, Normalizer]:
    """How observations and actions are scaled."""
    described, dtype = record["dataset"], torch.get_default_dtype()
    if spec.preprocessing.actions == "raw":
        mean, std = (np.array(described[f"observation_{name}"]) for name in ("mean", "std"))
        none = np.zeros(described["action_dim"])
        return (
            normalizer_of(mean, std, spec.preprocessing.observations, dtype),
            normalizer_of(none, none, "none", dtype),
        )
    data = datasets.load(spec.env, spec.preprocessing, "cpu")
    if data.record["sha256"] != described["sha256"]:
        raise DataError(
            f"the data of {spec.env.name} are not those the run was trained on any more: sha256 "
            f"{data.record['sha256']}, not {described['sha256']}; bring the file back, which "
            f"holds the scale of its actions (it was {described['path']})"
        )
    return data.normalizer, data.action_normalizer


def _stand_in(described: dict[str, Any]) -> Transitions:
    """Zeros of a dataset's shapes, which take no memory: to act, no number of it is needed."""

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(()).expand(described["transitions"], *shape)

    observations, actions = (zeros(described[f"{kind}_dim"]) for kind in ("observation", "action"))
    return Transitions(observations, actions, zeros(), observations, actions, zeros())
