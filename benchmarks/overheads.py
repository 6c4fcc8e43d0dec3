"""What a pack's training costs beside its updates: logging, checkpoints and evaluation.

Done as lom_exp.training does them, into a temporary folder. What cannot be measured here, as
evaluation without a simulator, is left out and the reason kept.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import clock, synchronize
from lom_exp import checkpoints, envs
from lom_exp.envs import Environments, Stepped
from lom_exp.evaluation import evaluate
from lom_exp.trainer import Trainer

ENVIRONMENT, EPISODES = "Hopper-v4", 10
STEPS, EPISODE_STEPS = 50, 1000  # of an episode: played here, and at most
REPEATS = 3


class Endless:
    """Environments whose episodes go on, fallen or not, until STEPS: an untrained Hopper falls."""

    def __init__(self, environments: Environments) -> None:
        self._environments = environments
        self.horizon = STEPS
        self.observation_dim = environments.observation_dim
        self.action_dim = environments.action_dim

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        self._step = 0
        return self._environments.reset(seeds)

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        self._step += 1
        stepped = self._environments.step(indices, actions)
        return stepped._replace(
            terminations=np.zeros(len(indices), bool),
            truncations=np.full(len(indices), self._step >= STEPS),
        )


def measure(trainer: Trainer, runs: int, device: torch.device) -> dict[str, Any]:
    """Seconds of one logging, one checkpoint and one evaluation of all runs. JSON."""
    seconds, left_out = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs: dict[str, Callable[[], None]] = {
            "logging": lambda: _log(trainer, folder),
            "checkpoint": lambda: _checkpoint(trainer, folder),
            "evaluation": _evaluation(trainer, runs, device),
        }
        for job, work in jobs.items():
            try:
                best = min(_timed(work, trainer, device) for _ in range(REPEATS))
                seconds[job] = best * (EPISODE_STEPS / STEPS if job == "evaluation" else 1)
            except Exception as error:  # whatever it is, the rest is still worth having
                left_out[job] = f"{type(error).__name__}: {error}"
    return {"runs": runs, "seconds": seconds, "left_out": left_out}


def _timed(work: Callable[[], None], trainer: Trainer, device: torch.device) -> float:
    trainer.advance("policy", 0, 1)  # something to be logged
    synchronize(device)
    now = clock(device)
    start = now()
    work()
    synchronize(device)
    return now() - start


def _log(trainer: Trainer, folder: Path) -> None:
    table, _ = trainer.take_metrics(), trainer.finite()
    for i, metrics in enumerate(table):
        line = json.dumps({"phase": "policy", "step": 0, "time": time.time(), "metrics": metrics})
        with (folder / f"{i}.jsonl").open("ab", buffering=0) as journal:
            journal.write(f"{line}\n".encode())


def _checkpoint(trainer: Trainer, folder: Path) -> None:
    snapshots, _ = trainer.snapshots(), trainer.finite()
    for i, snapshot in enumerate(snapshots):
        (folder / str(i)).mkdir(exist_ok=True)
        checkpoints.save(folder / str(i), "benchmark", 0, snapshot)


def _evaluation(trainer: Trainer, runs: int, device: torch.device) -> Callable[[], None]:
    made: list[Environments] = []  # once a pack, so not in the time of an evaluation

    def policy(observations: NDArray[np.float64], step: int) -> NDArray[np.float32]:
        scaled = torch.as_tensor(observations, dtype=torch.get_default_dtype(), device=device)
        return trainer.act(scaled, step).clamp(-1, 1).cpu().numpy()

    def play() -> None:
        if not made:
            made.append(Endless(envs.make(ENVIRONMENT, runs * EPISODES)))
        evaluate(policy, made[0], np.arange(runs * EPISODES).reshape(runs, EPISODES))

    return play
