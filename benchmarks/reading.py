"""How long `analysis` takes to read 10,000 runs: at first, again, and after some have changed.

    python benchmarks/reading.py [--runs 10000]

The runs are made up but have the files and the size of real ones at the default budget: 101
evaluations, the last of 100 episodes, and all settings of LOM.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from rich.console import Console

from analysis import cache, runs, scores

EVALUATIONS, EPISODES, FINAL_EPISODES = 100, 10, 100
SETTINGS = 40  # of an algorithm: what LOM has


def evaluations(seed: int) -> str:
    """An evaluations.jsonl with full-precision numbers, as a run writes them."""
    rng = np.random.default_rng(seed)
    lines = []
    for index in range(1, EVALUATIONS + 2):
        final = index > EVALUATIONS
        update = 10_000 * min(index, EVALUATIONS)
        count = FINAL_EPISODES if final else EPISODES
        returns = rng.normal(1500.0, 300.0, count)
        entry = {
            "phase": "policy", "update": update, "step": 200_000 + update,
            "time": 1e9 + index, "final": final, "returns": returns.tolist(),
            "lengths": rng.integers(100, 1000, count).tolist(),
            "scores": ((returns + 20.27) / 32.5457).tolist(),
            "final_rewards": rng.random(count).tolist(),
        }  # fmt: skip
        lines.append(json.dumps(entry) + "\n")
    return "".join(lines)


def make(results: Path, count: int) -> None:
    """Write `count` run folders."""
    for index in range(count):
        M, seed = (1, 2, 5, 10, 20)[index % 5], index // 5
        folder = results / "runs" / f"lom_hopper-medium-replay_M{M}_beta5_seed{seed}"
        folder.mkdir(parents=True)
        algo = {f"setting_{number}": 0.1 * number for number in range(SETTINGS)}
        env = {"name": "hopper-medium-replay", "random_return": -20.27, "expert_return": 3234.3}
        config = {
            "label": "lom", "M": M, "beta": 5.0, "seed": seed, "env": env,
            "algo": algo | {"num_components": M, "hidden_sizes": [256, 256]},
            "updates": {"behavior": 200_000, "policy": 1_000_000},
        }  # fmt: skip
        record = {
            "id": f"{index:08x}", "label": "lom", "algorithm": "lom", "M": M, "beta": 5.0,
            "env": "hopper-medium-replay", "seed": seed, "git_commit": 40 * "a",
            "sources": {f"algo.{name}": "default" for name in algo},
            "dataset": {"provenance": "collected", "sha256": 64 * "b", "rows": 402_000},
        }  # fmt: skip
        status = {"status": "finished", "phase": "policy", "update": 1_000_000}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        (folder / "record.json").write_text(json.dumps(record, indent=2))
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "evaluations.jsonl").write_text(evaluations(index))


def main() -> None:
    """Make the runs in a temporary folder, read them three times, print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    count = parser.parse_args().runs
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        make(results, count)

        def timed(what: str) -> None:
            begun = time.perf_counter()
            loaded = runs.load(results)
            read = time.perf_counter()
            points = scores.per_run(loaded)
            scored = time.perf_counter() - read
            assert len(points) == count
            console.print(
                f"{what}: {read - begun:.1f} s for {count:,} runs and {len(loaded.episodes):,} "
                f"episodes; their scores {scored:.1f} s"
            )

        timed("first time")
        timed("again")
        for path in list((results / "runs").iterdir())[: count // 100]:
            (path / "status.json").write_text('{"status": "finished"}')
        timed("after 1 % have changed")
        size = (results / cache.NAME).stat().st_size / 2**20
        console.print(f"cache: {size:.0f} MiB")


if __name__ == "__main__":
    main()
