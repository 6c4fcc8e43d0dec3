"""What an update of each algorithm costs: its GFLOP, and updates per second, on random data.

Prints, for every phase of the algorithms at their papers' sizes and for packs of R runs, the
operations of one update of one run (matrix products, counted by torch as they happen) and the
updates per second of all runs together, in both layouts of the trainer (one run after the other,
and all in one vmap), eager and, with --compile, compiled. Rates are the median of several repeats
with the smallest and the largest beside it; compare them within one table only.
They are also kept in results/benchmarks/updates.json, from which `python launch.py --dry-run` takes
its estimate of hours. Needs torch alone: no simulator, no Hydra, no MLflow.

    python benchmarks/updates.py                                  every algorithm
    python benchmarks/updates.py lom --runs 1 4 20 --compile      one of them
    python benchmarks/updates.py lom --set num_components=20 hyper_critic=one_hot
"""

import argparse
import ast
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from lom_exp import rates
from lom_exp.algorithms import REGISTRY
from lom_exp.code_version import code_version
from lom_exp.errors import LomExpError
from lom_exp.rates import Measurement
from lom_exp.trainer import Trainer
from lom_exp.types import Transitions

NUM_TRANSITIONS, OBSERVATION_DIM, ACTION_DIM = 100_000, 11, 3  # Hopper's sizes


class Rate(NamedTuple):
    """Updates per second of all runs together, over the repeats, and the seconds of the first."""

    median: float
    low: float
    high: float
    first_update: float


def random_transitions(device: torch.device) -> Transitions:
    """Transitions of Hopper's sizes; what they hold does not change the time an update takes."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    n, o, a = NUM_TRANSITIONS, OBSERVATION_DIM, ACTION_DIM
    actions = [normal(n, a).clamp(-1, 1) for _ in range(2)]
    ends = (normal(n) > 3).float()
    return Transitions(normal(n, o), actions[0], normal(n), normal(n, o), actions[1], ends)


def count_gflop(name: str, phase: str, config: Any, data: Transitions) -> float:
    """10^9 floating-point operations of the matrix products of one update, gradients included."""
    trainer = Trainer(REGISTRY[name], [config], [0], data, vectorize=False)
    trainer.initialize()
    with FlopCounterMode(display=False) as counter:
        trainer.advance(phase, 0, 1)
    return counter.get_total_flops() / 1e9


def measure(trainer: Trainer, phase: str, repeats: int, seconds: float) -> Rate:
    """Time a phase: as many updates as fit into `seconds`, `repeats` times."""

    def timed(count: int) -> float:
        _synchronize()
        start = time.perf_counter()
        trainer.advance(phase, 0, count)
        trainer.take_metrics()
        _synchronize()
        return time.perf_counter() - start

    first_update = timed(1)
    timed(2)
    count = max(1, round(seconds / timed(1)))
    rates = [count * trainer.num_runs / timed(count) for _ in range(repeats)]
    return Rate(statistics.median(rates), min(rates), max(rates), first_update)


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def hardware(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()  # not every system has it
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cases(arguments: argparse.Namespace) -> Iterator[tuple[int, bool, bool]]:
    """Runs, vectorize, compile: the slow-starting last."""
    for compile in (False, True) if arguments.compile else (False,):
        for num_runs in arguments.runs:
            for vectorize in (False, True):
                yield num_runs, vectorize, compile


def algorithm(name: str) -> str:
    """A name in the registry."""
    if name not in REGISTRY:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(REGISTRY)}")
    return name


def setting(text: str) -> tuple[str, Any]:
    """field=value, the value a Python literal or else a word."""
    field, _, value = text.partition("=")
    try:
        return field, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return field, value


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("algorithms", nargs="*", type=algorithm, help="default: all")
    parser.add_argument("--set", nargs="+", type=setting, default=[], metavar="FIELD=VALUE")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8], help="pack sizes R")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: slow to start")
    parser.add_argument("--results", type=Path, default=Path("results"), help="(default: results)")
    return parser.parse_args()


def measurements(
    name: str, arguments: argparse.Namespace, data: Transitions
) -> Iterator[Measurement]:
    """Every phase of an algorithm in every case, as it is measured."""
    config = REGISTRY[name].Config(**dict(arguments.set))
    gflop = {phase: count_gflop(name, phase, config, data) for phase in REGISTRY[name].phases}
    device = data.observations.device
    commit, _ = code_version()
    for num_runs, vectorize, compile in cases(arguments):
        trainer = Trainer(
            REGISTRY[name],
            [config] * num_runs,
            list(range(num_runs)),
            data,
            vectorize=vectorize,
            compile=compile,
        )
        trainer.initialize()
        for phase in REGISTRY[name].phases:
            rate = measure(trainer, phase, arguments.repeats, arguments.seconds)
            yield Measurement(
                device=device.type,
                hardware=hardware(device),
                threads=torch.get_num_threads(),
                algorithm=name,
                phase=phase,
                runs=num_runs,
                vectorized=vectorize,
                settings=rates.settings(config, "float32", compile),
                gflop=gflop[phase],
                updates_per_second=rate.median,
                slowest=rate.low,
                fastest=rate.high,
                first_update=rate.first_update,
                versions={"python": platform.python_version(), "torch": torch.__version__},
                git_commit=commit,
                time=time.time(),
            )


def row(made: Measurement) -> str:
    """A line of the table."""
    cells = (
        made.algorithm,
        made.phase,
        f"{made.gflop:.3g}",
        str(made.runs),
        "vmap" if made.vectorized else "one by one",
        "compiled" if made.settings["compile"] else "eager",
        f"{made.updates_per_second:.1f} ({made.slowest:.1f}-{made.fastest:.1f})",
        f"{made.first_update:.1f}",
    )
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Measure, print and keep as it goes."""
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    rates.record(arguments.results, [])  # where it cannot be kept, better to know now
    sys.stdout.write(
        f"S={OBSERVATION_DIM}, A={ACTION_DIM}, float32; torch {torch.__version__}, "
        f"{hardware(device)}, {torch.get_num_threads()} threads\n\n"
        "| algorithm | phase | GFLOP | R | layout | mode | updates/s of all runs (min-max) "
        "| first update, s |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    data = random_transitions(device)
    for name in arguments.algorithms or REGISTRY:
        for made in measurements(name, arguments, data):
            sys.stdout.write(row(made))
            sys.stdout.flush()
            rates.record(arguments.results, [made])


if __name__ == "__main__":
    try:
        main()
    except LomExpError as error:
        sys.exit(f"error: {error}")
