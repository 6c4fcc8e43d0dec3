"""How long two million rows take from an HDF5 file to the device, and how much memory.

Writes a file of D4RL's layout with the sizes of HalfCheetah (17 + 6 numbers a row; compressed with
gzip, random numbers) into a temporary folder and loads it in a process of its own, as a pack does:
read, checked, hashed, normalized. Prints wall and CPU seconds, of them those of the hash, which is
remembered and so paid once a file, and the peak of the host's memory above what the process held
before it loaded, over the size of the arrays that are left: the transitions.

    python -m benchmarks.loading
    python -m benchmarks.loading --rows 1000000 --device cuda
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.machine import process_peak_bytes, resident_bytes, synchronize
from lom_exp import datasets
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.datasets.fingerprint import file_sha256

ROOT = Path(__file__).resolve().parents[1]
OBSERVATION_DIM, ACTION_DIM, EPISODE = 17, 6, 1000  # HalfCheetah's
BLOCK_ROWS = 65536


def write_file(path: Path, rows: int) -> None:
    """Random rows in D4RL's layout, in episodes of 1000 that the time limit ends."""
    generator = np.random.default_rng(0)
    shapes = {
        "observations": (rows, OBSERVATION_DIM),
        "next_observations": (rows, OBSERVATION_DIM),
        "actions": (rows, ACTION_DIM),
        "rewards": (rows,),
    }
    with h5py.File(path, "w") as file:
        for name, shape in shapes.items():
            array = file.create_dataset(name, shape, np.float32, compression="gzip")
            for start in range(0, rows, BLOCK_ROWS):
                size = (min(BLOCK_ROWS, rows - start), *shape[1:])
                array[start : start + BLOCK_ROWS] = generator.uniform(-1, 1, size)
        for name, ends in (("terminals", False), ("timeouts", True)):
            flags = np.zeros(rows, bool)
            flags[EPISODE - 1 :: EPISODE] = ends
            file.create_dataset(name, data=flags, compression="gzip")


def load(path: Path, device: str) -> dict[str, Any]:
    """Load the file in this process and say what it took."""
    env = EnvConfig("benchmark", "HalfCheetah-v4", 0.0, 1.0, path=str(path))
    torch.zeros(1, device=device)  # the device's own start is not loading
    before = resident_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    data = datasets.load(env, Preprocessing(), device)
    synchronize(torch.device(device))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak, arrays = process_peak_bytes() - before, sum(field.nbytes for field in data.transitions)
    start = time.perf_counter()
    file_sha256(path)
    return {
        "rows": data.record["rows"],
        "device": device,
        "file_bytes": path.stat().st_size,
        "array_bytes": arrays,
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "hash_seconds": time.perf_counter() - start,
        "peak_bytes": peak,
        "peak_over_arrays": peak / arrays,
    }


def measure(rows: int, device: str, repeats: int = 3) -> dict[str, Any]:
    """Make the file and load it `repeats` times, each in its own process: the median by wall time.

    The file was just written, so it is read from the system's cache and not from a disk.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.hdf5"
        write_file(path, rows)
        loads = []
        for i in range(repeats):
            # A cache of its own, or the second process would remember the hash.
            environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache{i}"}
            command = [sys.executable, "-m", "benchmarks.loading"]
            command += ["--file", str(path), "--device", device]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            loads.append(json.loads(done.stdout))
    loads.sort(key=lambda loaded: loaded["wall_seconds"])
    walls = [loaded["wall_seconds"] for loaded in loads]
    return {**loads[len(loads) // 2], "fastest": walls[0], "slowest": walls[-1]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)  # in the loading process
    arguments = parser.parse_args()
    found = (
        load(arguments.file, arguments.device)
        if arguments.file
        else measure(arguments.rows, arguments.device)
    )
    sys.stdout.write(json.dumps(found, indent=None if arguments.file else 2) + "\n")


if __name__ == "__main__":
    main()
