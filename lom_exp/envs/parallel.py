"""Environments of one task in processes of their own, each pinned to its share of the cores.

The processes are started anew and not forked, which CUDA could not bear, and import nothing but
numpy and the simulator. They do not listen to the signals that ask a trainer to stop, and end when
it is gone, however it went: then their line to it, a socket in the place of their input, is closed.

A request and its reply are one message each of plain numbers. With a few kilobytes in it, what a
message costs is waking the other side and not the copy, so shared memory would gain nothing.

Shapes: E environments, n of them stepped at once, O, A; P processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from lom_exp import cores
from lom_exp.envs import make
from lom_exp.envs.protocol import Stepped
from lom_exp.errors import SimulationError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)  # for the trainer alone
_RESET, _STEP = b"r", b"s"  # the first byte of a request
_DONE, _UNFIT, _FAILED = b"+", b"!", b"?"  # that of a reply


class WorkerLost(Exception):
    """A process that steps environments is gone: killed, out of memory or never started."""


class _Layout:
    """How the rows of a request to step and of its reply lie in memory."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        self.request = np.dtype([("indices", np.int64), ("actions", np.float32, (action_dim,))])
        self.reply = np.dtype(
            [
                ("observations", np.float64, (observation_dim,)),  # as in Stepped
                ("rewards", np.float64),
                ("terminations", np.bool_),
                ("truncations", np.bool_),
            ]
        )


class ParallelEnvironments:
    """Any number of environments of one task, stepped in P processes as they would be in one.

    There are as many as the last `reset` had seeds. Environment e is stepped by process e % P, so
    that each has its part of every run's. The first core is left to this process where there are
    more cores than others need. A method raises SimulationError where the task cannot be made, and
    WorkerLost, as soon as it is noticed, when a process is gone; it then has to be closed.
    """

    def __init__(self, environment: str, workers: int) -> None:
        usable = cores.available()
        spare = 1 if workers < len(usable) else 0
        self._workers = [
            _Worker(environment, share) for share in cores.shares(usable[spare:], workers)
        ]

    @cached_property
    def _dims(self) -> tuple[int, int, int]:
        """What each process says when it is ready: O, A and the horizon."""
        [*_, said] = [np.frombuffer(worker.receive(), np.int64) for worker in self._workers]
        observation_dim, action_dim, horizon = said.tolist()
        return observation_dim, action_dim, horizon

    @cached_property
    def _layout(self) -> _Layout:
        return _Layout(self.observation_dim, self.action_dim)

    @property
    def observation_dim(self) -> int:
        return self._dims[0]

    @property
    def action_dim(self) -> int:
        return self._dims[1]

    @property
    def horizon(self) -> int:
        """Steps after which an episode is truncated."""
        return self._dims[2]

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        observations = np.empty((len(seeds), self.observation_dim))
        count = len(self._workers)
        busy = self._workers[: len(seeds)]
        for i, worker in enumerate(busy):
            worker.send(_RESET + np.array(seeds[i::count], np.int64).tobytes())
        for i, worker in enumerate(busy):
            received = np.frombuffer(worker.receive(), np.float64)
            observations[i::count] = received.reshape(-1, self.observation_dim)
        return observations

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1]."""
        rows_there, owners = np.divmod(indices, len(self._workers))
        order = np.argsort(owners, kind="stable")
        request = np.empty(len(indices), self._layout.request)
        request["indices"], request["actions"] = rows_there[order], actions[order]
        ends = np.bincount(owners, minlength=len(self._workers)).cumsum().tolist()
        busy = []
        for worker, start, end in zip(self._workers, [0, *ends], ends, strict=False):
            if start < end:
                worker.send(_STEP + request[start:end].tobytes())
                busy.append(worker)
        replies = b"".join([worker.receive() for worker in busy])
        table = np.empty(len(indices), self._layout.reply)
        table[order] = np.frombuffer(replies, self._layout.reply)
        return Stepped(**{name: table[name].copy() for name in Stepped._fields})

    def close(self) -> None:
        """End the processes; a method that waits for one in another thread raises WorkerLost."""
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process, and this end of the line to it."""

    def __init__(self, environment: str, share: Sequence[int]) -> None:
        self._line, theirs = Pipe()
        # Packages are to be found where this process found them, and the working folder is not
        # searched before them: it may hold other code.
        paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-P", "-m", __name__, environment]
        with theirs, cores.pinned(share), _signals_blocked():
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=theirs.fileno(), env=paths
            )

    def send(self, request: bytes) -> None:
        try:
            self._line.send_bytes(request)
        except OSError as error:
            raise self._lost() from error

    def receive(self) -> bytes:
        try:
            reply = self._line.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        kind, content = reply[:1], reply[1:]
        if kind == _UNFIT:
            raise SimulationError(content.decode())
        if kind == _FAILED:
            raise RuntimeError(f"in a process that steps environments:\n{content.decode()}")
        return content

    def _lost(self) -> WorkerLost:
        code = self.end(patience=1.0)  # it is on its way out
        return WorkerLost(f"a process that steps environments ended with exit code {code}")

    def end(self, patience: float = 0.0) -> int:
        """Wait for the process, then kill it; its exit code, or minus the signal it died of."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes that this thread starts in the context never get the trainer's signals.

    Unlike a handler of their own, this is so from their first moment. A signal that comes meanwhile
    is for another thread, or waits.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(line: Connection, environment: str) -> None:
    """Answer requests until the other side is gone."""
    made = cache(partial(make, environment))
    environments = made(1)
    dims = (environments.observation_dim, environments.action_dim, environments.horizon)
    layout = _Layout(*dims[:2])
    line.send_bytes(_DONE + np.array(dims, np.int64).tobytes())
    while True:
        message = line.recv_bytes()
        kind, content = message[:1], message[1:]
        if kind == _RESET:
            seeds = np.frombuffer(content, np.int64).tolist()
            environments = made(len(seeds))
            reply = environments.reset(seeds).tobytes()
        else:
            request = np.frombuffer(content, layout.request)
            stepped = environments.step(request["indices"].copy(), request["actions"].copy())
            table = np.empty(len(request), layout.reply)
            for name, column in stepped._asdict().items():
                table[name] = column
            reply = table.tobytes()
        line.send_bytes(_DONE + reply)


def _main(environment: str) -> None:
    line = Connection(sys.stdin.fileno())
    try:
        _serve(line, environment)
    except (EOFError, ConnectionError):  # the other side is gone
        pass
    except SimulationError as error:
        line.send_bytes(_UNFIT + str(error).encode())
    except Exception:
        line.send_bytes(_FAILED + traceback.format_exc().encode())


if __name__ == "__main__":
    _main(sys.argv[1])
