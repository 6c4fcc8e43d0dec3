"""Updates per second of each phase of LOM at its authors' setting, on random data.

Prints, for packs of R runs, the updates per second of all runs together, in both layouts of the
trainer (one run after the other, and all in one vmap), eager and compiled. Rates are the median of
several repeats with the smallest and the largest beside it; compare them within one table only.
Needs torch alone: no simulator, no Hydra, no MLflow.

    python benchmarks/updates.py --runs 1 4 20 --device cpu --threads 1
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from lom_exp.algorithms import lom
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


def cases(arguments: argparse.Namespace) -> Iterator[tuple[int, bool, bool]]:
    """Runs, vectorize, compile: the slow-starting last."""
    for compile in (False, True) if arguments.compile else (False,):
        for num_runs in arguments.runs:
            for vectorize in (False, True):
                yield num_runs, vectorize, compile


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4, 20], help="pack sizes R")
    parser.add_argument("--components", type=int, default=10, help="M (default: 10)")
    parser.add_argument("--hyper-critic", default="heads", choices=["heads", "one_hot"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: 5)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each repeat (default: 2)")
    parser.add_argument(
        "--no-compile", dest="compile", action="store_false", help="leave torch.compile out"
    )
    return parser.parse_args()


def main() -> None:
    """Measure and print as it goes."""
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    config = lom.Config(num_components=arguments.components, hyper_critic=arguments.hyper_critic)
    write = sys.stdout.write
    write(
        f"LOM, M={config.num_components}, hyper-Q {config.hyper_critic}, batches "
        f"{config.critic_batch_size} / {config.hyper_critic_batch_size} / "
        f"{config.policy_batch_size}, S={OBSERVATION_DIM}, A={ACTION_DIM}; torch "
        f"{torch.__version__}, {name}, {torch.get_num_threads()} threads\n\n"
        "| R | layout | mode | phase | updates/s of all runs (min-max) | first update, s |\n"
        "|---|---|---|---|---|---|\n"
    )
    data = random_transitions(device)
    for num_runs, vectorize, compile in cases(arguments):
        trainer = Trainer(
            lom,
            [config] * num_runs,
            list(range(num_runs)),
            data,
            vectorize=vectorize,
            compile=compile,
        )
        trainer.initialize()
        for phase in lom.phases:
            rate = measure(trainer, phase, arguments.repeats, arguments.seconds)
            write(
                f"| {num_runs} | {'vmap' if vectorize else 'one by one'} "
                f"| {'compiled' if compile else 'eager'} | {phase} "
                f"| {rate.median:.1f} ({rate.low:.1f}-{rate.high:.1f}) "
                f"| {rate.first_update:.1f} |\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
