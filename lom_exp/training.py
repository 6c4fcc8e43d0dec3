"""The training of one pack from its last common checkpoint to its runs' ends."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from lom_exp import checkpoints, envs
from lom_exp.algorithms import REGISTRY
from lom_exp.datasets import Dataset
from lom_exp.envs import Environments
from lom_exp.errors import SimulationError
from lom_exp.evaluation import episode_seeds, evaluate, score
from lom_exp.leases import LeaseLost
from lom_exp.progress import PackProgress
from lom_exp.runs import RunFolder
from lom_exp.runspec import ExecutionConfig, RunSpec
from lom_exp.trainer import Trainer

log = logging.getLogger(__name__)


class Interrupted(Exception):
    """Training was asked to stop and has left checkpoints."""


@dataclass
class Run:
    """A run on its way: what it is, its folder, and the data it is known by."""

    spec: RunSpec
    folder: RunFolder
    id: str
    data: str  # fingerprint
    error: str | None = None
    elsewhere: bool = False  # another process writes it


def _next_multiple(number: int, period: int) -> int:
    """The smallest multiple of the period above the number."""
    return (number // period + 1) * period


class PackTraining:
    """The runs of a pack, which differ in seed and float hyperparameters only.

    `should_stop` is asked after every update; when it says so, the runs leave checkpoints and
    Interrupted is raised. Raises SimulationError where data and environment do not fit.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        data: Dataset,
        execution: ExecutionConfig,
        device: torch.device,
        should_stop: Callable[[], bool],
    ) -> None:
        self.runs, self.data, self.execution = runs, data, execution
        self.device, self.should_stop = device, should_stop
        self.spec = runs[0].spec
        self.alive = [True] * len(runs)
        self.scores = [run.folder.position.get("score") for run in runs]  # of the last evaluation
        self.rate: float | None = None  # updates per second, of each run
        self.last_checkpoint = time.monotonic()
        self.environments = cache(partial(envs.make, self.spec.env.environment))
        self._check_dimensions(self.environments(1))
        self.trainer = Trainer(
            REGISTRY[self.spec.algorithm],
            [run.spec.config for run in runs],
            [run.spec.seed for run in runs],
            data.transitions,
            vectorize=execution.vectorizes(device),
            compile=execution.compile,
        )

    def _check_dimensions(self, environments: Environments) -> None:
        transitions = self.data.transitions
        for name, here, there in (
            ("observations", transitions.observations.shape[-1], environments.observation_dim),
            ("actions", transitions.actions.shape[-1], environments.action_dim),
        ):
            if here != there:
                raise SimulationError(
                    f"{self.spec.env.name}: the dataset's {name} have {here} numbers, those of "
                    f"{self.spec.env.environment} {there}; set env.environment or env.path so "
                    "that they belong together"
                )

    def run(self, step: int) -> None:
        """Go on from a step at which every run has a checkpoint (0: from the start)."""
        self.trainer.initialize()
        if step > 0:
            pairs = zip(self.runs, self.trainer.templates, strict=True)
            self.trainer.restore(
                [checkpoints.load(run.folder.checkpoints, step, state) for run, state in pairs]
            )
        for i, run in self._living():
            with self._unless_taken_over(i, run):
                run.folder.rewind(step)
        of_m = "" if self.spec.M is None else f" M{self.spec.M}"
        title = f"{self.spec.label} {self.spec.env.name}{of_m} x{len(self.runs)}"
        self.total, before = sum(self.spec.updates.values()), 0
        with PackProgress(title, self.total) as self.progress:
            for phase, length in self.spec.updates.items():
                # At the very end the last evaluation may still be missing.
                if step < before + length or phase == self.last_phase:
                    self._train(phase, before, max(step - before, 0))
                before += length
            if any(self.alive):
                position = self._position(self.last_phase, length, self.total)
                self._evaluate(position, self.spec.evaluation.final_episodes, final=True)
                self._write_status("finished", position)

    @property
    def last_phase(self) -> str:
        """The phase that trains what is evaluated."""
        return list(self.spec.updates)[-1]

    def _train(self, phase: str, before: int, update: int) -> None:
        """Do a phase's updates from `update` on; `before` updates were done in earlier phases."""
        length, evaluation = self.spec.updates[phase], self.spec.evaluation
        while any(self.alive):
            position = self._position(phase, update, before + update)
            # First, as a run that goes on may have been stopped while it was evaluated.
            if phase == self.last_phase and update > 0 and update % evaluation.every == 0:
                self._evaluate(position, evaluation.episodes, final=False)
            if update == length:
                return
            self._write_status("running", position)
            goal = min(length, _next_multiple(update, self.execution.log_every))
            if phase == self.last_phase:
                goal = min(goal, _next_multiple(update, evaluation.every))
            started, first = time.perf_counter(), update
            update = self.trainer.advance(phase, update, goal, self.should_stop)
            position = self._position(phase, update, before + update)
            if update == goal:
                self.rate = (update - first) / (time.perf_counter() - started)
                self._log(position, self.rate)
            if self.should_stop():
                self._stop(position)
            due = time.monotonic() - self.last_checkpoint >= self.execution.checkpoint_every
            if due or update == length:
                self._checkpoint(position)

    def _stop(self, position: dict[str, Any]) -> NoReturn:
        """Leave checkpoints of this moment, and training."""
        self._checkpoint(position)
        self._write_status("interrupted", position)
        raise Interrupted

    @staticmethod
    def _position(phase: str, update: int, step: int) -> dict[str, Any]:
        return {"phase": phase, "update": update, "step": step}

    def _living(self) -> list[tuple[int, Run]]:
        return [(i, run) for i, run in enumerate(self.runs) if self.alive[i]]

    @contextmanager
    def _unless_taken_over(self, i: int, run: Run) -> Iterator[None]:
        """For what writes a run's files: where another process has them now, it is given up."""
        try:
            yield
        except LeaseLost as error:
            self.alive[i], run.elsewhere, run.error = False, True, str(error)
            log.warning("%s", error)

    def _write_status(self, status: str, position: dict[str, Any]) -> None:
        for i, run in self._living():
            self._write_status_of(i, run, status, position)

    def _write_status_of(
        self, i: int, run: Run, status: str, position: dict[str, Any], error: str | None = None
    ) -> None:
        measured = {"score": self.scores[i], "updates_per_second": self.rate}
        with self._unless_taken_over(i, run):
            run.folder.write_status(status, position | {"total": self.total} | measured, error)

    def _log(self, position: dict[str, Any], rate: float) -> None:
        """Journal the metrics since the last time; a run they show to be lost is given up."""
        table, finite = self.trainer.take_metrics(), self.trainer.finite()
        for i, run in self._living():
            metrics = table[i]
            bad = [name for name, value in metrics.items() if not math.isfinite(value)]
            entry = {**position, "time": time.time(), "updates_per_second": rate}
            run.folder.append("metrics.jsonl", {**entry, "metrics": metrics})
            if bad or not finite[i]:
                self.alive[i] = False
                run.error = (
                    f"diverged in the {position['phase']} phase by update {position['update']}: "
                    f"{', '.join(bad) or 'a parameter'} is not finite. The last good checkpoint is "
                    "kept; a lower learning rate or a higher algo.min_log_std may help"
                )
                self._write_status_of(i, run, "diverged", position, run.error)
        self.progress.update(position["phase"], position["step"], rate)

    def _checkpoint(self, position: dict[str, Any]) -> None:
        snapshots, finite = self.trainer.snapshots(), self.trainer.finite()
        for i, run in self._living():
            if not finite[i]:  # between two logs: it must not push out the last good checkpoint
                continue
            with self._unless_taken_over(i, run):
                folder, step = run.folder.checkpoints, position["step"]
                checkpoints.save(folder, run.id, step, snapshots[i], run.folder.lease.check)
        self.last_checkpoint = time.monotonic()

    def _evaluate(self, position: dict[str, Any], episodes: int, *, final: bool) -> None:
        """Play episodes with every living run and journal each return, unless asked to stop."""
        living, step = self._living(), position["step"]
        rows = [i for i, _ in living]
        environments = self.environments(len(living) * episodes)

        def policy(observations: NDArray[np.float64], time_step: int) -> NDArray[np.float32]:
            if self.should_stop():
                self._stop(position)
            scaled = self.data.normalizer(
                torch.as_tensor(observations, dtype=torch.get_default_dtype(), device=self.device)
            )
            padded = scaled.new_zeros(len(self.runs), *scaled.shape[1:])
            padded[rows] = scaled
            actions = self.trainer.act(padded, step * environments.horizon + time_step)
            in_the_box = self.data.action_normalizer.invert(actions[rows]).clamp(-1, 1)
            return in_the_box.cpu().numpy()

        seeds = [episode_seeds(run.spec.seed, step, episodes) for _, run in living]
        played = evaluate(policy, environments, np.array(seeds))
        env = self.spec.env
        scores = score(played.returns, env.random_return, env.expert_return)
        for row, (i, run) in enumerate(living):
            self.scores[i] = float(scores[row].mean())
            entry = {
                **position,
                "time": time.time(),
                "final": final,
                "returns": played.returns[row].tolist(),
                "lengths": played.lengths[row].tolist(),
                "scores": scores[row].tolist(),
                "final_rewards": played.final_rewards[row].tolist(),
            }
            run.folder.append("evaluations.jsonl", entry)
        self.progress.scored(scores.mean(-1).tolist())
