"""The training of one pack from its last common checkpoint to its runs' ends."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch

from lom_exp import checkpoints
from lom_exp.algorithms import REGISTRY
from lom_exp.checkpoints import Snapshot
from lom_exp.datasets import Dataset
from lom_exp.envs import Environments
from lom_exp.errors import SimulationError
from lom_exp.evaluation import Episodes, episode_seeds, score
from lom_exp.evaluator import Evaluator, Stopped
from lom_exp.leases import LeaseLost
from lom_exp.progress import PackProgress
from lom_exp.runs import RunFolder
from lom_exp.runspec import ExecutionConfig, RunSpec
from lom_exp.trainer import Frozen, Trainer

_POLL = 0.1  # seconds between two looks at whether training is to stop
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


class _Pending(NamedTuple):
    """An evaluation under way: of which runs, as they were where."""

    position: dict[str, Any]
    final: bool
    living: list[tuple[int, Run]]
    frozen: Frozen
    played: Future[Episodes]


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
        workers = execution.num_evaluation_workers(device)
        environment = self.spec.env.environment
        self.evaluator = Evaluator(environment, workers, data, device, should_stop)
        self.pending: _Pending | None = None
        self._check_dimensions(self.evaluator.environments(1))
        self.trainer = Trainer(
            REGISTRY[self.spec.algorithm],
            [run.spec.config for run in runs],
            [run.spec.seed for run in runs],
            data.transitions,
            vectorize=execution.vectorizes(device),
            compile=execution.compiles(device),
            share=execution.share,
            capture=execution.cuda_graphs,
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
        with closing(self.evaluator):
            self._run(step)

    def _run(self, step: int) -> None:
        self.trainer.initialize()
        if step > 0:
            pairs = zip(self.runs, self.trainer.templates, strict=True)
            self.trainer.restore(
                [checkpoints.load(run.folder.checkpoints, step, state) for run, state in pairs]
            )
        for i, run in self._living():
            with self._unless_taken_over(i, run):
                run.folder.rewind(step)
        sizes = sorted({run.spec.M for run in self.runs if run.spec.M is not None})
        of_m = f" M{','.join(map(str, sizes))}" if sizes else ""
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
                self._collect()
                self._log(position, self.rate)
            if self.should_stop():
                self._stop(position)
            due = time.monotonic() - self.last_checkpoint >= self.execution.checkpoint_every
            if due or update == length:
                self._checkpoint(position)

    def _stop(self, position: dict[str, Any]) -> NoReturn:
        """Leave checkpoints of this moment, and training.

        Where an evaluation is still under way, they are of its moment, so that it is made again.
        """
        self._collect()
        if self.pending is None:
            snapshots = self.trainer.snapshots()
        else:
            position, snapshots = self.pending.position, self.pending.frozen.snapshots()
        self._save(position, snapshots)
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
        bad = [
            [name for name, value in metrics.items() if not math.isfinite(value)]
            for metrics in table
        ]
        lost = {i for i, _ in self._living() if bad[i] or not finite[i]}
        if lost:  # their last scores belong beside what is said of their end
            self._join()
        for i, run in self._living():
            entry = {**position, "time": time.time(), "updates_per_second": rate}
            run.folder.append("metrics.jsonl", {**entry, "metrics": table[i]})
            if i in lost:
                self.alive[i] = False
                run.error = (
                    f"diverged in the {position['phase']} phase by update {position['update']}: "
                    f"{', '.join(bad[i]) or 'a parameter'} is not finite. The last good checkpoint "
                    "is kept; a lower learning rate or a higher algo.min_log_std may help"
                )
                self._write_status_of(i, run, "diverged", position, run.error)
        self.progress.update(position["phase"], position["step"], rate)

    def _checkpoint(self, position: dict[str, Any]) -> None:
        """Checkpoint the runs as they are, every evaluation up to here being journaled."""
        self._join()
        self._save(position, self.trainer.snapshots())

    def _save(self, position: dict[str, Any], snapshots: Sequence[Snapshot]) -> None:
        for i, run in self._living():
            if not snapshots[i].finite:  # it must not push out the last good checkpoint
                continue
            with self._unless_taken_over(i, run):
                folder, step = run.folder.checkpoints, position["step"]
                checkpoints.save(folder, run.id, step, snapshots[i], run.folder.lease.check)
        self.last_checkpoint = time.monotonic()

    def _evaluate(self, position: dict[str, Any], episodes: int, *, final: bool) -> None:
        """Play episodes with every living run as it is, beside training unless they are final."""
        self._join()
        living, step = self._living(), position["step"]
        seeds = np.array([episode_seeds(run.spec.seed, step, episodes) for _, run in living])
        frozen, rows = self.trainer.freeze(), [i for i, _ in living]
        played = self.evaluator.start(frozen, len(self.runs), rows, seeds, step)
        self.pending = _Pending(position, final, living, frozen, played)
        if final or played.done():
            self._join()

    def _join(self) -> None:
        """Wait for the evaluation under way, if there is one, and journal it."""
        while self.pending is not None and not self.pending.played.done():
            if self.should_stop():
                self._stop(self.pending.position)
            wait([self.pending.played], timeout=_POLL)
        self._collect()
        if self.pending is not None:  # it has heard first
            self._stop(self.pending.position)

    def _collect(self) -> None:
        """Journal each return of the evaluation under way, if it has come to its end."""
        if self.pending is None or not self.pending.played.done():
            return
        position, final, living, _, future = self.pending
        try:
            played = future.result()
        except Stopped:
            return
        self.pending = None
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
