"""How long a launcher takes to hand a large sweep to Slurm: 10,000 runs in 500 packs.

Counted is what follows the composition of the runs (benchmarks/planning.py): naming and packing
them, the snapshot of the code, the packs' files, the arrays' submission through submitit, and a
first look at the sweep. For Slurm stand commands that answer at once, so what is timed is our part;
a real sbatch took 0.2 s for an array of 500.

    python benchmarks/submitting.py
    python benchmarks/submitting.py --packs 50
"""

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from lom_exp import configuration
from lom_exp.launcher import control
from lom_exp.launcher.cluster import ClusterConfig
from lom_exp.launcher.control import Settings
from lom_exp.runspec import RunSpec, Sweep

COMMANDS = {
    "sbatch": "echo Submitted batch job $$",
    "scontrol": 'echo "MaxArraySize = 1001"',
    "squeue": "",
    "scancel": "",
    "srun": "",
}
CLUSTER = ClusterConfig(
    partition="gpu",
    account=None,
    qos=None,
    constraint=None,
    gres="gpu:1",
    time="12:00:00",
    memory="16G",
    cpus=2,
    array_parallelism=None,
    max_jobs=None,
    signal_delay=120,
    sbatch={},
    setup=[],
)


def stand_in(folder: Path) -> None:
    """Put commands that answer at once before Slurm's own on PATH."""
    folder.mkdir()
    for name, script in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


def make_specs(num_packs: int, num_seeds: int) -> list[RunSpec]:
    """Runs on a small file, those of a pack with one number of components."""
    first = configuration.compose(["env=fetch-reach", "device=cpu", "wait=false"])
    specs = []
    for m in range(1, num_packs + 1):
        config = replace(first.config, num_components=m)
        for seed in range(num_seeds):
            resolved = {**first.resolved, "seed": seed, "M": m}
            specs.append(replace(first, config=config, M=m, seed=seed, resolved=resolved))
    return specs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--packs", type=int, default=500)
    parser.add_argument("--runs-per-pack", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    specs = make_specs(given.packs, given.runs_per_pack)
    execution, launch = configuration.execution_config(specs[:1])
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        stand_in(Path(folder, "bin"))
        for repeat in range(given.repeats):
            there = replace(execution, results=str(Path(folder, f"results{repeat}")))
            began = time.perf_counter()
            control.carry_out(specs, Settings(there, launch, CLUSTER), Sweep("large", [], []))
            seconds.append(time.perf_counter() - began)
    print(  # noqa: T201
        f"submitting {len(specs):,} runs in {given.packs:,} packs: "
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f}-{max(seconds):.2f}, "
        f"{given.repeats} repeats)"
    )


if __name__ == "__main__":
    main()
