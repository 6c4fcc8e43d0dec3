"""How long the planning of a large sweep takes: 10,000 runs of 500 packs, and Table 1.

Prints the CPU seconds of composing all runs, of naming them, of grouping them into packs, and of
the whole command with --dry-run, start of Python included: the median of several repeats with the
smallest and the largest beside it. A dataset's name stands for the fingerprint of its file. Nothing
is trained, downloaded or written.

    python benchmarks/planning.py
    python benchmarks/planning.py --envs 4 --components 10 --seeds 5
"""

import argparse
import itertools
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from hydra import initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from lom_exp import configuration, experiment, packs
from lom_exp.overrides import CONF, options, quote_numbers

Value = TypeVar("Value")


def timed(work: Callable[[], Value]) -> tuple[Value, float]:
    """What the work returns, and the CPU seconds it took."""
    start = time.process_time()
    value = work()
    return value, time.process_time() - start


def plan(typed: Sequence[str]) -> tuple[int, int, list[float]]:
    """Plan a sweep: the numbers of its runs and packs, and the CPU seconds of each step."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", list(typed), RunMode.MULTIRUN)
        params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*params, *typed])
        [combinations] = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        quoted = {text: quote_numbers([text])[0] for text in {*itertools.chain(*combinations)}}
        jobs = [[quoted[text] for text in job] for job in combinations]
        specs, composing = timed(lambda: configuration.run_specs(jobs, config, loader))
    _, naming = timed(lambda: [spec.name(spec.env.name) for spec in specs])
    groups, grouping = timed(
        lambda: packs.group(specs, [experiment.pack_key(spec, spec.env.name) for spec in specs])
    )
    return len(specs), len(groups), [composing, naming, grouping]


def dry_run(typed: Sequence[str]) -> float:
    """The CPU seconds of the whole command."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    launch = Path(__file__).resolve().parents[1] / "launch.py"
    start = spent()
    command = [sys.executable, str(launch), *typed, "--dry-run"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return spent() - start


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envs", type=int, default=10, help="datasets (default: 10)")
    parser.add_argument("--components", type=int, default=50, help="values of M (default: 50)")
    parser.add_argument("--seeds", type=int, default=20, help="seeds (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="timed repeats (default: 3)")
    return parser.parse_args()


def main() -> None:
    """Measure and print as it goes."""
    arguments = parse()
    configuration.register()
    grid = [
        "algo=lom",
        f"env={','.join(options('env')[: arguments.envs])}",
        f"M=range(1,{arguments.components + 1})",
        f"seed=range({arguments.seeds})",
    ]
    write = sys.stdout.write
    write(
        "| sweep | runs | packs | composing, CPU s | naming | grouping | whole dry run |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    for label, typed in (("grid", grid), ("Table 1", ["experiment=table1"])):
        plans = [plan(typed) for _ in range(arguments.repeats)]
        seconds = [*zip(*(steps for *_, steps in plans), strict=True)]
        seconds.append(tuple(dry_run(typed) for _ in range(arguments.repeats)))
        cells = [f"{statistics.median(s):.2f} ({min(s):.2f}-{max(s):.2f})" for s in seconds]
        runs, packs_, _ = plans[0]
        write(f"| {label} | {runs:,} | {packs_:,} | {' | '.join(cells)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
