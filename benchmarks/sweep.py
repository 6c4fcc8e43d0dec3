"""A whole sweep of LOM over M, evaluations, logs and checkpoints included, as one pack.

Trains M x seeds runs through the same code as `launch.py` does (training.PackTraining), at the
authors' sizes and at a fraction of their updates, and says how long starting, each phase and all of
it took and what the whole would take at these rates. Needs torch, mujoco and gymnasium; no Hydra.

    python -m benchmarks.sweep data.hdf5 --M 2 5 10 15 20 --seeds 4 --fraction 0.05
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe
from lom_exp import datasets
from lom_exp.algorithms import lom
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.experiment import resolve_device
from lom_exp.precision import tf32
from lom_exp.runs import RunFolder
from lom_exp.runspec import EvaluationConfig, ExecutionConfig, RunSpec, TrackingConfig
from lom_exp.training import PackTraining, Run

AUTHORS = {"behavior": 200_000, "policy": 1_000_000}  # updates


class Timed(PackTraining):
    """Notes when each phase began and ended."""

    def __init__(self, *arguments: Any) -> None:
        self.began = {"start": time.perf_counter()}
        super().__init__(*arguments)

    def _train(self, phase: str, before: int, update: int) -> None:
        self.began[phase] = time.perf_counter()
        super()._train(phase, before, update)
        if phase == self.last_phase:
            self.began["final evaluation"] = time.perf_counter()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="a file of Hopper transitions in D4RL's layout")
    parser.add_argument("--M", type=int, nargs="+", default=[2, 5, 10, 15, 20])
    parser.add_argument("--seeds", type=int, default=4, help="of each M (default: 4)")
    parser.add_argument("--fraction", type=float, default=0.05, help="of the authors' updates")
    parser.add_argument("--every", type=int, default=10_000, help="updates between evaluations")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, help="evaluation processes (default: by the device)")
    parser.add_argument("--no-share", action="store_true", help="train critics for every M")
    parser.add_argument("--out", type=Path, help="a JSON file of the result")
    return parser.parse_args()


def specs_of(arguments: argparse.Namespace) -> list[RunSpec]:
    """The runs: the authors' settings but for M."""
    env = EnvConfig(
        "hopper",
        "Hopper-v4",
        -20.272305,
        3234.3,
        path=str(arguments.data.absolute()),
    )
    return [
        RunSpec(
            algorithm="lom",
            label="lom",
            env=env,
            preprocessing=Preprocessing(),
            config=lom.Config(num_components=m),
            updates={phase: int(arguments.fraction * n) for phase, n in AUTHORS.items()},
            seed=seed,
            evaluation=EvaluationConfig(arguments.every, episodes=10, final_episodes=100),
            dtype="float32",
            M=m,
            beta=5.0,
            sources={},
            resolved={},
        )
        for m in arguments.M
        for seed in range(arguments.seeds)
    ]


def train(
    specs: list[RunSpec], execution: ExecutionConfig, device: torch.device
) -> tuple[dict[str, float], list[list[float]]]:
    """Seconds of each part, and every run's mean score of each evaluation."""
    began = time.perf_counter()
    data = datasets.load(specs[0].env, specs[0].preprocessing, device)
    loaded = time.perf_counter()
    with ExitStack() as stack:
        runs = []
        for i, spec in enumerate(specs):
            folder = stack.enter_context(RunFolder(Path(execution.results) / "runs" / str(i)))
            folder.describe({}, {"id": str(i)})
            runs.append(Run(spec, folder, str(i), ""))
        training = Timed(runs, data, execution, device, lambda: False)
        training.run(0)
    ended = time.perf_counter()
    marks = list(training.began.items())
    seconds = {"loading": loaded - began}
    for (name, start), (_, end) in zip(marks, [*marks[1:], ("", ended)], strict=True):
        seconds[name] = end - start
    scores = [
        [
            float(np.mean(json.loads(line)["scores"]))
            for line in (run.folder.path / "evaluations.jsonl").read_text().splitlines()
        ]
        for run in runs
    ]
    return seconds, scores


def main() -> None:
    """Train, and print where the time went."""
    arguments = parse()
    device = resolve_device(arguments.device)
    specs = specs_of(arguments)
    with tempfile.TemporaryDirectory() as results, tf32(True):
        execution = ExecutionConfig(
            device=arguments.device,
            compile="auto",
            cuda_graphs=True,
            tf32=True,
            share=not arguments.no_share,
            threads=None,
            vectorize="auto",
            evaluation_workers=arguments.workers,
            log_every=1000,
            checkpoint_every=300,
            results=results,
            tracking=TrackingConfig(enabled=False, uri=None, experiment=""),
        )
        seconds, scores = train(specs, execution, device)
    steady = {phase: AUTHORS[phase] * seconds[phase] / specs[0].updates[phase] for phase in AUTHORS}
    result = {
        **describe(device),
        "M": arguments.M,
        "seeds": arguments.seeds,
        "updates": specs[0].updates,
        "evaluation": asdict(specs[0].evaluation),
        "workers": execution.num_evaluation_workers(device),
        "share": execution.share,
        "seconds": seconds,
        "scores": scores,
        "whole_seconds_at_this_rate": sum(steady.values())
        + sum(seconds[part] for part in ("loading", "start", "final evaluation")),
        "command": sys.argv,
    }
    lines = [f"{name:>18} {value:8.1f} s" for name, value in seconds.items()]
    whole = result["whole_seconds_at_this_rate"] / 60
    lines.append(f"{len(specs)} runs of the authors' length would take {whole:.1f} minutes")
    sys.stdout.write("\n".join(lines) + "\n")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
