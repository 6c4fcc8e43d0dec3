"""Steps per second of an evaluation, in line and with processes that step the environments.

Plays E episodes of each of R runs as training does: one call of the policies of all runs, then one
step of all environments. The policies are networks of the usual size with random weights. An
episode takes a fixed number of steps, also of a robot that has fallen, so that as many environments
are stepped throughout as with policies that are good. The time to start the processes, which is
once in a training, is apart. Rates are the median of several repeats with the smallest and the
largest beside it; compare them within one table only. They are also written to
results/benchmarks/evaluation.json.

    python benchmarks/evaluation.py                        4 runs on all three robots
    python benchmarks/evaluation.py Hopper-v4 --runs 32 --device cuda --workers 0 7 15
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from updates import hardware

from lom_exp import cores
from lom_exp.code_version import code_version
from lom_exp.envs import Environments, Stepped, make
from lom_exp.envs.parallel import ParallelEnvironments
from lom_exp.evaluation import Policy, evaluate
from lom_exp.files import write_atomically

ENVIRONMENTS = ("Hopper-v4", "HalfCheetah-v4", "Walker2d-v4")
WIDTH = 256  # of both hidden layers


class FixedLength:
    """Environments whose episodes end after `horizon` steps and not before."""

    def __init__(self, environments: Environments, horizon: int) -> None:
        self._environments, self.horizon = environments, horizon
        self.observation_dim = environments.observation_dim
        self.action_dim = environments.action_dim

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        self._step = 0
        return self._environments.reset(seeds)

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        self._step += 1
        stepped = self._environments.step(indices, actions)
        over = np.full(len(indices), self._step == self.horizon)
        return stepped._replace(terminations=np.zeros_like(over), truncations=over)


def random_policy(runs: int, environments: Environments, device: torch.device) -> Policy:
    """A network of two hidden layers for each run, all of them evaluated in one call."""
    generator = torch.Generator().manual_seed(0)
    sizes = (environments.observation_dim, WIDTH, WIDTH, environments.action_dim)
    weights = [
        (torch.randn(runs, *pair, generator=generator) / pair[0] ** 0.5).to(device)
        for pair in pairwise(sizes)
    ]

    @torch.no_grad()
    def act(observations: NDArray[np.float64], step: int) -> NDArray[np.float32]:
        hidden = torch.as_tensor(observations, dtype=torch.float32, device=device)
        for weight in weights[:-1]:
            hidden = (hidden @ weight).relu()
        actions: NDArray[np.float32] = (hidden @ weights[-1]).tanh().cpu().numpy()
        return actions

    return act


def measure(
    environment: str, workers: int, given: argparse.Namespace, device: torch.device
) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Rates with so many processes, 0 for none; and the returns (R, E), the same for any number."""
    seeds = np.arange(given.runs * given.episodes).reshape(given.runs, given.episodes)
    started = time.perf_counter()
    parallel = ParallelEnvironments(environment, workers) if workers else None
    with closing(parallel) if parallel else nullcontext():
        stepped = FixedLength(parallel or make(environment, seeds.size), given.steps)
        act = random_policy(given.runs, stepped, device)
        stepped.reset(seeds.ravel().tolist())
        start = time.perf_counter() - started
        rates = []
        for _ in range(given.repeats):
            started = time.perf_counter()
            episodes = evaluate(act, stepped, seeds)
            rates.append(int(episodes.lengths.sum()) / (time.perf_counter() - started))
    return {
        "environment": environment,
        "runs": given.runs,
        "episodes": given.episodes,
        "steps": given.steps,
        "workers": workers,
        "steps_per_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
        "start": start,  # seconds
    }, episodes.returns


def measurements(given: argparse.Namespace, device: torch.device) -> Iterator[dict[str, Any]]:
    """All cases, each with the gain over evaluation in line."""
    for environment in given.environments:
        in_line, returns = measure(environment, 0, given, device)
        for workers in given.workers:
            made, same = (
                measure(environment, workers, given, device) if workers else (in_line, returns)
            )
            if not np.array_equal(same, returns):
                sys.exit(f"error: {environment} with {workers} processes gives other returns")
            yield {**made, "gain": made["steps_per_second"] / in_line["steps_per_second"]}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count = len(cores.available())
    parser.add_argument("environments", nargs="*", default=ENVIRONMENTS)
    parser.add_argument("--runs", type=int, default=4, help="R (default: 4)")
    parser.add_argument("--episodes", type=int, default=10, help="E (default: 10)")
    parser.add_argument("--steps", type=int, default=200, help="of an episode (default: 200)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, *range(1, count + 1)])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=5, help="timed repeats (default: 5)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="(default: results)")
    return parser.parse_args()


def main() -> None:
    """Measure, print and keep."""
    given = parse()
    device = torch.device(given.device)
    commit, _ = code_version()
    machine = {
        "device": hardware(device),
        "processor": hardware(torch.device("cpu")),
        "cores": len(cores.available()),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "git_commit": commit,
        "time": time.time(),
    }
    sys.stdout.write(
        f"R={given.runs}, E={given.episodes}, {given.steps} steps; {machine['processor']}, "
        f"{machine['cores']} cores; policies on {machine['device']}, torch {torch.__version__}\n\n"
        "| environment | processes | steps/s (min-max) | gain | start, s |\n|---|---|---|---|---|\n"
    )
    rows = []
    for made in measurements(given, device):
        rows.append(made)
        sys.stdout.write(
            f"| {made['environment']} | {made['workers'] or 'in line'} "
            f"| {made['steps_per_second']:,.0f} ({made['slowest']:,.0f}-{made['fastest']:,.0f}) "
            f"| {made['gain']:.2f}x | {made['start']:.1f} |\n"
        )
        sys.stdout.flush()
    folder = given.results / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({**machine, "measurements": rows}, indent=1)
    write_atomically(folder / "evaluation.json", content.encode())


if __name__ == "__main__":
    main()
