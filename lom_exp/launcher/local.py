"""Workers on this machine: as many at once as it has GPUs, or cores."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lom_exp import cores
from lom_exp.errors import ConfigError
from lom_exp.handover import INTERRUPTED, LOG_VARIABLE, PARENT_VARIABLE
from lom_exp.launcher import snapshot
from lom_exp.launcher.attempts import Attempts
from lom_exp.slurm import JobState
from lom_exp.sweeps import SweepFolder

log = logging.getLogger(__name__)


class Slot(NamedTuple):
    """A share of this machine: a GPU and the cores that serve it, or None for any core."""

    gpu: str | None
    cores: tuple[int, ...] | None = None


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    slot: Slot
    attempts: Attempts


def require_count(name: str, value: Any) -> None:
    """Raise ConfigError for a setting of a launcher that is no whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}={value!r} cannot be used: it must be a whole number above 0")


def slots(device: str, threads: int | None, workers: int | None) -> list[Slot]:
    """As many as there are GPUs for the device, or else cores; `workers` at most, if given."""
    usable, names = cores.available(), _gpus(device)[:workers]
    if names:
        # Beside each GPU the simulator is stepped, so that its cores have to be its own.
        shares = cores.shares(usable, len(names))
        return [Slot(name, tuple(share)) for name, share in zip(names, shares, strict=True)]
    return [Slot(None)] * (workers or max(1, len(usable) // (threads or 1)))


def _gpus(device: str) -> list[str]:
    """The GPUs that workers may use, as CUDA_VISIBLE_DEVICES names them; empty for a CPU."""
    if device == "cpu":
        return []
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = (visible.split(",") if visible else [str(i) for i in range(count)])[:count]
    index = device.partition(":")[2]
    return names[int(index) :][:1] if index else names


class LocalQueue:
    """Packs that wait for a slot, and the workers that train the others."""

    scheduler = "local"
    longest_pause = 0.5  # seconds between two looks at the workers

    def __init__(self, sweep: SweepFolder, code: Path, slots: Sequence[Slot], retries: int) -> None:
        self._sweep, self._code, self._retries = sweep, code, retries
        self._free = list(slots)
        self._since = time.time()
        self._waiting: list[Attempts] = []
        self._workers: dict[str, _Worker] = {}  # by job
        self._ended: dict[str, JobState] = {}
        self._stopping = False

    def put(self, packs: Mapping[str, Sequence[str]]) -> None:
        """Add packs, given as the names of the runs of each; `poll` starts them."""
        self._sweep.note_intent(self.scheduler, [[pack] for pack in packs], packs)
        self._runs = packs
        self._waiting += [Attempts(self._sweep, pack, self._retries, self._since) for pack in packs]

    @property
    def runs(self) -> set[str]:
        """The names of the runs that an earlier command has given to this queue: none."""
        return set()

    @property
    def busy(self) -> bool:
        """Whether there is something left to train."""
        return bool(self._waiting or self._workers)

    def poll(self) -> dict[str, JobState]:
        """Look after the workers: start what is due, and again what was lost; all jobs' states."""
        for job, worker in list(self._workers.items()):
            code = worker.process.poll()
            if code is None:
                continue
            del self._workers[job]
            self._free.append(worker.slot)
            self._ended[job] = JobState("COMPLETED" if code == 0 else "FAILED", "", "")
            if self._stopping and code == -signal.SIGTERM:  # before it could listen to signals
                code = INTERRUPTED
            if worker.attempts.again(job, code):
                self._waiting.insert(0, worker.attempts)
        while self._waiting and self._free and not self._stopping:
            self._start(self._waiting.pop(0), self._free.pop(0))
        running = dict.fromkeys(self._workers, JobState("RUNNING", "", ""))
        return self._ended | running

    def stop(self) -> dict[str, JobState]:
        """Have the workers leave checkpoints, and wait until they have."""
        self._stopping = True
        for worker in self._workers.values():
            worker.process.send_signal(signal.SIGTERM)
        while self._workers:
            self.poll()
            time.sleep(0.05)
        return self.poll()

    def _start(self, attempts: Attempts, slot: Slot) -> None:
        pack = attempts.pack
        token = self._sweep.note_intent(self.scheduler, [[pack]], {pack: self._runs[pack]})
        [log_path, *_] = self._sweep.logs(pack, "")[1:]
        log_path.parent.mkdir(exist_ok=True)
        environment = os.environ | snapshot.environment(self._code, os.environ)
        environment |= {
            LOG_VARIABLE: str(log_path),
            PARENT_VARIABLE: str(os.getpid()),
        }
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
        path = self._sweep.path / "packs" / f"{pack}.json"
        with log_path.open("ab") as output, cores.pinned(slot.cores or cores.available()):
            process = subprocess.Popen(
                [sys.executable, "-m", "lom_exp.worker", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the launcher, which then tells the workers
            )
        job = f"pid {process.pid}"
        self._workers[job] = _Worker(process, slot, attempts)
        attempts.started(job)
        self._sweep.note_jobs(token, [job])
