"""One case of a benchmark: some runs of an algorithm that train together, timed on random data."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from benchmarks import floor, overheads
from benchmarks.machine import Memory, clock, hardware, synchronize, versions
from lom_exp import rates
from lom_exp.algorithms import REGISTRY
from lom_exp.code_version import code_version
from lom_exp.rates import Measurement
from lom_exp.trainer import Trainer
from lom_exp.types import Algorithm, Transitions

OBSERVATION_DIM, ACTION_DIM = 11, 3  # Hopper's
TRANSITIONS = 100_000


@dataclass(frozen=True)
class Case:
    """What is timed; JSON throughout."""

    algorithm: str
    runs: int  # R
    vectorize: bool
    compile: bool
    device: str
    section: str = "updates"  # or shares, growth: what it is measured for
    label: str = ""  # of growth: what is not the authors' setting
    settings: dict[str, Any] = field(default_factory=dict)  # of the algorithm's Config
    transitions: int = TRANSITIONS
    threads: int | None = None  # of torch
    repeats: int = 3
    seconds: float = 1.0  # of each repeat

    def __str__(self) -> str:
        layout = "vmap" if self.vectorize else "one by one"
        mode = "compiled" if self.compile else "eager"
        parts = [self.section, self.algorithm, f"R={self.runs}", layout, mode, self.label]
        return ", ".join(part for part in parts if part)


class Rate(NamedTuple):
    """Updates per second of all runs together, over the repeats."""

    median: float
    low: float
    high: float


def random_transitions(count: int, device: torch.device) -> Transitions:
    """Transitions of Hopper's sizes; what they hold does not change the time an update takes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    n, o, a = count, OBSERVATION_DIM, ACTION_DIM
    actions = [normal(n, a).clamp(-1, 1) for _ in range(2)]
    ends = (normal(n) > 3).float()
    return Transitions(normal(n, o), actions[0], normal(n), normal(n, o), actions[1], ends)


def measurement(result: dict[str, Any]) -> Measurement:
    """What of a result --dry-run reads."""
    return Measurement(**{entry.name: result[entry.name] for entry in fields(Measurement)})


def taken_apart(algorithm: Any) -> Algorithm:
    """The algorithm with every update a phase of its own, named by its function."""
    updates = {
        update.__name__.removeprefix("update_"): (update,)
        for phase in algorithm.phases.values()
        for update in phase
    }
    return SimpleNamespace(**{**vars(algorithm), "phases": updates})


class Timing:
    """A case on its way: made ready by `warm_up`, then timed by `measure`."""

    def __init__(self, case: Case) -> None:
        if case.threads:
            torch.set_num_threads(case.threads)
        self.case, self.device = case, torch.device(case.device)
        self.clock = clock(self.device)
        torch.backends.cuda.matmul.allow_tf32 = True  # as runs do, unless tf32=false
        self.algorithm = REGISTRY[case.algorithm]
        self.config = self.algorithm.Config(**_tuples(case.settings))
        self.data = random_transitions(case.transitions, self.device)
        if case.section == "shares":
            self.algorithm = taken_apart(self.algorithm)
        # Captured updates are replayed many at a time; a GPU's clock is read after many.
        self.unit = 1 if self.device.type == "cpu" else 100 if case.compile else 10
        self.starts: dict[str, tuple[float, float]] = {}
        synchronize(self.device)
        self.memory = Memory(self.device)

    def warm_up(self) -> None:
        """Start every phase: what compiles, captures or allocates does it here."""
        case, started = self.case, time.perf_counter()
        self.trainer = Trainer(
            self.algorithm,
            [self.config] * case.runs,
            list(range(case.runs)),
            self.data,
            vectorize=case.vectorize,
            compile=case.compile,
        )
        self.trainer.initialize()
        synchronize(self.device)
        self.initialize_seconds = time.perf_counter() - started
        for phase in self.algorithm.phases:
            started = time.perf_counter()  # the compiler works in processes of its own, too
            self._timed(phase, 1)
            first_update = time.perf_counter() - started
            self._timed(phase, self.unit)
            self.starts[phase] = first_update, time.perf_counter() - started

    def measure(self) -> Iterator[dict[str, Any]]:
        """Each phase: a Measurement, as JSON, and what else was found."""
        found = []
        for phase in self.starts:  # all of them first: what follows takes memory, too
            rate = self._rate(phase)
            found.append((phase, rate, self.memory.peak(), self.memory.reserved()))
        for phase, rate, peak, reserved in found:
            work = floor.work(self.algorithm, phase, self.config, self.data)
            first_update, start = self.starts[phase]
            yield {
                **asdict(self._measurement(phase, rate, work.gflop, first_update)),
                "section": self.case.section,
                "label": self.case.label,
                "transitions": self.case.transitions,
                "bytes": work.bytes,
                "precision": "float32" if _exact(self.device) else "tf32",
                "initialize_seconds": self.initialize_seconds,
                "start_seconds": start,
                "peak_bytes": peak,
                "reserved_bytes": reserved,
            }
        if self.case.section == "shares":
            yield {
                "section": "overheads",
                "compile": self.case.compile,
                **overheads.measure(self.trainer, self.case.runs, self.device),
            }

    def _measurement(
        self, phase: str, rate: Rate, gflop: float, first_update: float
    ) -> Measurement:
        case, (commit, _) = self.case, code_version()
        return Measurement(
            device=self.device.type,
            hardware=hardware(self.device),
            threads=torch.get_num_threads(),
            algorithm=case.algorithm,
            phase=phase,
            runs=case.runs,
            vectorized=case.vectorize,
            settings=rates.settings(self.config, "float32", case.compile),
            gflop=gflop,
            updates_per_second=rate.median,
            slowest=rate.low,
            fastest=rate.high,
            first_update=first_update,
            versions=versions(),
            git_commit=commit,
            time=time.time(),
        )

    def _rate(self, phase: str) -> Rate:
        """As many updates as fit into the case's seconds, `repeats` times."""
        self._timed(phase, self.unit)  # the phases take turns: what the last one evicted comes back
        once = self._timed(phase, self.unit)
        count = self.unit * max(1, round(self.case.seconds / once))
        found = [
            count * self.case.runs / self._timed(phase, count) for _ in range(self.case.repeats)
        ]
        return Rate(statistics.median(found), min(found), max(found))

    def _timed(self, phase: str, count: int) -> float:
        synchronize(self.device)
        start = self.clock()
        self.trainer.advance(phase, 0, count)
        self.trainer.take_metrics()
        synchronize(self.device)
        return self.clock() - start


def _exact(device: torch.device) -> bool:
    """Whether matrix products are made in float32, as they are unless somebody chose otherwise."""
    return device.type == "cpu" or torch.get_float32_matmul_precision() == "highest"


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists where a Config has tuples."""
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
