"""How long `status` takes for a large sweep, fabricated on a local disk: 10,000 runs of 500 packs.

Most of the runs are finished, the others are running, queued, failed and lost on a cluster; for its
scheduler stands a squeue that answers at once, so what is timed is our part. Prints the seconds of
the whole command, start of Python included, as the median of several repeats with the smallest and
the largest beside it. The first repeat after a reboot would also wait for the disk.

    python benchmarks/status.py
    python benchmarks/status.py --runs 1000 --packs 50
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lom_exp.sweeps import SweepFolder

TOTAL = 1_000_000  # updates of a run
# The share of packs in each of these, as the scheduler and the runs' own files have them.
KINDS = {
    "finished": ("COMPLETED", "finished", 0.80),
    "running": ("RUNNING", "running", 0.10),
    "queued": ("PENDING", None, 0.06),
    "failed": ("FAILED", "failed", 0.03),
    "lost": ("NODE_FAIL", "running", 0.01),
}


def fabricate(folder: Path, num_runs: int, num_packs: int) -> None:
    """Write a sweep named `large` into a results folder, and a squeue that knows its jobs."""
    packs: dict[str, list[str]] = {f"{pack:08x}": [] for pack in range(num_packs)}
    for run in range(num_runs):
        pack = run * num_packs // num_runs
        settings = f"M{1 + pack % 20}_beta{1 + pack // 20}_seed{run % 20}"
        packs[f"{pack:08x}"].append(f"lom_hopper-medium-replay_{settings}_{run:08x}")
    kinds = [kind for kind, (_, _, share) in KINDS.items() for _ in range(round(share * num_packs))]
    kinds += ["finished"] * (num_packs - len(kinds))
    sweep = SweepFolder(folder / "sweeps" / "large")
    (sweep.path / "packs").mkdir(parents=True)
    names = [name for pack in packs.values() for name in pack]
    sweep.describe(["python", "launch.py"], [], names, None)
    token = sweep.note_intent("slurm", [[pack] for pack in packs], packs)
    jobs = [f"100_{task}" for task in range(num_packs)]
    sweep.note_jobs(token, jobs)
    queue = []
    for (pack, runs), kind, job in zip(packs.items(), kinds, jobs, strict=True):
        state, said, _ = KINDS[kind]
        queue.append(f"{job}|{state}|n{int(pack, 16) % 32}|None")
        for run in runs:
            if said:
                (folder / "runs" / run).mkdir(parents=True)
                content = status(said, job)
                (folder / "runs" / run / "status.json").write_text(json.dumps(content, indent=2))
    (folder / "queue").write_text("\n".join(queue) + "\n")
    squeue = folder / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(f"#!/bin/sh\ncat {folder}/queue\n")
    squeue.chmod(0o755)


def status(said: str, job: str) -> dict[str, object]:
    """What a run's status.json holds."""
    step = TOTAL if said == "finished" else TOTAL // 3
    error = "Traceback (most recent call last):\n  File ...\nRuntimeError: a fabricated error"
    return {
        "status": said,
        "phase": "policy",
        "update": step,
        "step": step,
        "total": TOTAL,
        "score": 71.5,
        "updates_per_second": 210.0,
        "time": time.time(),
        "error": error if said == "failed" else None,
        "host": "n1",
        "job": job,
        "log": None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--packs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        fabricate(results, given.runs, given.packs)
        environment = {**os.environ, "PATH": f"{results}/bin:{os.environ['PATH']}"}
        command = [sys.executable, "-m", "lom_exp.launcher", "status", "large"]
        command += ["--results", folder]
        sys.stdout.write(f"status of {given.runs:,} runs of {given.packs:,} packs, seconds:\n")
        for options in ([], ["--json"]):
            seconds = []
            for _ in range(given.repeats):
                started = time.perf_counter()
                subprocess.run(
                    [*command, *options], env=environment, check=True, stdout=subprocess.DEVNULL
                )
                seconds.append(time.perf_counter() - started)
            median, ends = statistics.median(seconds), f"{min(seconds):.2f} .. {max(seconds):.2f}"
            sys.stdout.write(f"  {' '.join(['status', *options]):14} {median:.2f}  ({ends})\n")


if __name__ == "__main__":
    main()
