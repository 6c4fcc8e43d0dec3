"""What an update of each algorithm costs: its GFLOP, and updates per second, on random data.

Prints, for every phase of the algorithms at their papers' sizes and for packs of R runs, the
operations of one update of one run (matrix products, counted by torch as they happen), the updates
per second of all runs together, how many times as long an update takes as its floor on this machine
(benchmarks/floor.py), the peak of memory and the seconds until updates come at that rate, compiling
included. Both layouts of the trainer (one run after the other, and all in one vmap), eager and,
with --compile, compiled. Rates are the median of several repeats with the smallest and the largest
beside it; compare them within one table only.
They are also kept in results/benchmarks/updates.json, from which `python launch.py --dry-run` takes
its estimate of hours. Needs torch alone: no simulator, no Hydra, no MLflow.

    python benchmarks/updates.py                                  every algorithm
    python benchmarks/updates.py lom --runs 1 4 20 --compile      one of them
    python benchmarks/updates.py lom --set num_components=20 hyper_critic=one_hot
"""

import argparse
import ast
import math
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs where it is not installed, too

import torch

from benchmarks import floor, runner, tables
from benchmarks.cases import Case, measurement
from benchmarks.machine import describe
from lom_exp import rates
from lom_exp.algorithms import REGISTRY
from lom_exp.errors import LomExpError


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
    parser.add_argument(
        "--runs", type=int, nargs="+", help="pack sizes R (default: 1 4; on a GPU 1 4 8 20 64)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats (default: 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each repeat (default: 1)")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too: slow to start")
    parser.add_argument(
        "--parallel", type=int, default=1, help="processes that compile at once (default: 1)"
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="(default: results)")
    return parser.parse_args()


def cases(arguments: argparse.Namespace) -> list[Case]:
    """Of each algorithm the slow-starting last."""
    runs = arguments.runs or ([1, 4] if arguments.device == "cpu" else [1, 4, 8, 20, 64])
    return [
        Case(
            algorithm=name,
            runs=num_runs,
            vectorize=vectorize,
            compile=compile,
            device=arguments.device,
            settings=dict(arguments.set),
            threads=arguments.threads,
            repeats=arguments.repeats,
            seconds=arguments.seconds,
        )
        for name in arguments.algorithms or REGISTRY
        for compile in ([False, True] if arguments.compile else [False])
        for num_runs in runs
        for vectorize in (False, True)
    ]


def main() -> int:
    """Measure, print and keep as it goes; 1 where a case failed."""
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    ceilings = floor.ceilings(device, runs=())
    sys.stdout.write(
        f"{tables.machine(describe(device))}\n\n{tables.ceilings(ceilings)}\n\n"
        f"{tables.heading(tables.UPDATES)}\n"
    )

    def keep(result: runner.Result) -> None:
        sys.stdout.write(tables.row(tables.update_cells(floor.compared(result, ceilings))) + "\n")
        sys.stdout.flush()
        rates.record(arguments.results, [measurement(result)])

    outcome = runner.run(
        cases(arguments), parallel=arguments.parallel, deadline=math.inf, keep=keep
    )
    for case, error in outcome.failed.items():
        sys.stderr.write(f"{case}: failed: {error}\n")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LomExpError as error:
        sys.exit(f"error: {error}")
