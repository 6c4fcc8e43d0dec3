"""Plays the evaluations of a pack in line or beside training, to the same bits.

Beside training, frozen policies act in a thread, for all runs at once and on a GPU in a stream of
their own, while environments are stepped in processes of their own.

Shapes: L runs of a pack that are evaluated, E episodes of each, O, A.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lom_exp import envs
from lom_exp.datasets import Dataset
from lom_exp.envs.parallel import ParallelEnvironments, WorkerLost
from lom_exp.evaluation import Episodes, Policy, evaluate
from lom_exp.trainer import Frozen

log = logging.getLogger(__name__)


class Stopped(Exception):
    """An evaluation was asked to stop before its episodes were over."""


class _InLine(Executor):
    """Has done what is submitted when it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Evaluator:
    """Plays episodes of one environment with policies trained on `data`, one evaluation at a time.

    With `workers` processes that step environments it plays beside training, with none in line. It
    has to be closed. `should_stop` is asked before every step, in whatever thread that is.
    """

    def __init__(
        self,
        environment: str,
        workers: int,
        data: Dataset,
        device: torch.device,
        should_stop: Callable[[], bool],
    ) -> None:
        self._data, self._device, self._should_stop = data, device, should_stop
        self.environments = cache(partial(envs.make, environment))  # of this process, by number
        self._start_workers = partial(ParallelEnvironments, environment, workers)
        self._workers: ParallelEnvironments | None = None
        self._beside = workers > 0
        self._executor: Executor = _InLine()
        if self._beside:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="evaluation")
        self._closed = False
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":  # ahead of training: environments wait for each small piece of it
            self._stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def start(
        self,
        frozen: Frozen,
        num_runs: int,
        living: Sequence[int],
        seeds: NDArray[np.integer],
        step: int,
    ) -> Future[Episodes]:
        """Play an episode from each of `seeds` (L, E) with the runs `living` (L,) of `num_runs`.

        `step` is that of the snapshot, and numbers the draws of policies that act at random. In
        line the future is done on return. It raises Stopped where it was asked to stop,
        SimulationError, and what a policy raises.
        """
        if self._stream is not None:  # the copy may still be on its way
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
        if self._beside and self._workers is None:
            self._workers = self._start_workers()
        before = step * self.environments(1).horizon
        rows = list(living)

        def policy(observations: NDArray[np.float64], time_step: int) -> NDArray[np.float32]:
            if self._closed or self._should_stop():
                raise Stopped
            scaled = self._data.normalizer(
                torch.as_tensor(observations, dtype=torch.get_default_dtype(), device=self._device)
            )
            padded = scaled.new_zeros(num_runs, *scaled.shape[1:])
            padded[rows] = scaled
            actions = frozen.act(padded, before + time_step)
            in_the_box = self._data.action_normalizer.invert(actions[rows]).clamp(-1, 1)
            return in_the_box.cpu().numpy()

        return self._executor.submit(self._play, policy, seeds)

    def _play(self, policy: Policy, seeds: NDArray[np.integer]) -> Episodes:
        stream = torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext()
        with stream:
            if self._workers is not None:
                try:
                    return evaluate(policy, self._workers, seeds)
                except WorkerLost as error:
                    if self._closed:
                        raise Stopped from error
                    log.warning("%s; the evaluation is played again in this process", error)
                    self._workers.close()
                    self._workers = None  # the next evaluation has others
            return evaluate(policy, self.environments(seeds.size), seeds)

    def close(self) -> None:
        """End the processes, and what is being played."""
        self._closed = True
        if (workers := self._workers) is not None:
            workers.close()
        self._executor.shutdown()
