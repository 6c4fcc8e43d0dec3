"""How often M=auto is right: its estimates for data whose number of modes is known, and for others.

Prints the tables of docs/modes.md and writes every estimate to a CSV file. Truth is known of data
made here: several modes around a smooth function of the observation, some of them at few states
only, and one mode in shapes that are easily taken for more. For information there follow the
datasets of conf/env that are generated, as far as they are here, and files in D4RL's layout.

    python benchmarks/modes.py --output docs/modes.csv
    python benchmarks/modes.py --rows 100000 --separations 6 --seeds 10 --output more.csv
    python benchmarks/modes.py --files collected/*.hdf5 --only-datasets
"""

import argparse
import csv
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lom_exp import datasets
from lom_exp.configuration import compose
from lom_exp.datasets import EnvConfig
from lom_exp.datasets.config import GENERATED
from lom_exp.errors import DataError, LomExpError
from lom_exp.modes import estimate
from lom_exp.overrides import options

Floats = NDArray[np.float64]

MODES = (1, 2, 4, 8)
ACTION_DIMS = (1, 3, 6)
SHARES = (0.005, 0.01, 0.02, 0.05)  # of the states that have four modes, where few have
OBSERVATION_DIM = 5
SLOPE = 0.1  # of the policy that several modes surround
SINGLE_ROWS = 10_000

Noise = Callable[[np.random.Generator, tuple[int, ...]], Floats]
# What is added to a linear function of the observation, of standard deviation 0.25.
NOISES: dict[str, Noise] = {
    "Gaussian": lambda rng, shape: rng.normal(scale=0.2, size=shape),
    "exponential": lambda rng, shape: 0.3 * rng.exponential(size=shape) - 0.5,
    "Student's t, 3 degrees": lambda rng, shape: 0.2 * rng.standard_t(3, size=shape),
    "uniform": lambda rng, shape: rng.uniform(-0.6, 0.6, size=shape),
    "Gaussian, half clipped": lambda rng, shape: rng.normal(1.0, 0.3, size=shape),
    "Gaussian, 2 in 3 clipped": lambda rng, shape: rng.normal(scale=2.3, size=shape),
    "standard deviation 0.001": lambda rng, shape: rng.normal(scale=0.001, size=shape),
    "none": lambda rng, shape: np.zeros(shape),
}
# Functions of a linear one of standard deviation 1, to which noise of 0.05 is added.
POLICIES: dict[str, Callable[[Floats], Floats]] = {
    "clipped line": lambda line: 2 * line,
    "sine": lambda line: 0.8 * np.sin(3 * line),
    "step between bounds": lambda line: 2 * np.sign(line),
}


class Case(NamedTuple):
    """Data to be made, and how many modes they have at the states with most."""

    data: str  # "modes", or a name in NOISES or POLICIES
    truth: int
    action_dim: int
    rows: int
    separation: float = 0.0  # distance of neighboring modes, in standard deviations of one
    share: float = 1.0  # of the states that have more than one mode

    def make(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Observations (N, O) and actions (N, A) in [-1, 1]."""
        observations = rng.normal(size=(self.rows, OBSERVATION_DIM))
        weights = rng.normal(size=(OBSERVATION_DIM, self.action_dim))
        line = observations @ (weights / np.linalg.norm(weights, axis=0))  # unit variance
        if self.data in NOISES:
            actions = 0.25 * line + NOISES[self.data](rng, line.shape)
        elif self.data in POLICIES:
            actions = POLICIES[self.data](line) + rng.normal(scale=0.05, size=line.shape)
        else:
            centers, spacing = modes_apart(self.truth, self.action_dim)
            several = np.arange(self.rows) < self.share * self.rows
            observations[:, 0] += 8 * (~several if self.share < 1 else 0)  # as first states are
            places = several[:, None] * centers[rng.integers(self.truth, size=self.rows)]
            noise = rng.normal(scale=spacing / self.separation, size=line.shape)
            actions = SLOPE * np.tanh(line) + places + noise
        return observations, np.clip(actions, -1, 1)


def modes_apart(number: int, action_dim: int) -> tuple[Floats, float]:
    """Places of modes (C, A), evenly on [-0.8, 0.8] or corners of a cube, and their distance."""
    if action_dim == 1:
        places = np.linspace(-0.8, 0.8, number)[:, None] if number > 1 else np.zeros((1, 1))
        return places, 1.6 / max(number - 1, 1)
    places = np.zeros((number, action_dim))
    if number > 1:
        places[:, :3] = (np.arange(number)[:, None] >> np.arange(3) & 1) - 0.5
    return places, 1.0


class Answers(dict[Case, list[int]]):
    """The estimates for each case, of which each is written to a file as soon as it is there."""

    def __init__(self, cases: Iterable[Case], seeds: int, states: int, output: Path) -> None:
        with output.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*Case._fields, "seed", "estimate"])
            for case in cases:
                self[case] = []
                for seed in range(seeds):
                    observations, actions = case.make(np.random.default_rng(seed))
                    self[case].append(estimate(observations, actions, seed, states).M)
                    writer.writerow([*case, seed, self[case][-1]])
                    file.flush()

    def cell(self, case: Case) -> str:
        """How many of the answers are right and, unless all are, what they are on average."""
        answers = self[case]
        right = sum(answer == case.truth for answer in answers)
        mean = "" if right == len(answers) else f" (mean {np.mean(answers):.1f})"
        return f"{right}/{len(answers)}{mean}"


def several(rows: Sequence[int], separations: Sequence[float]) -> list[list[Case]]:
    """Data with the same number of modes at every state, as in the rows of their table."""
    return [
        [Case("modes", number, action_dim, size, separation) for number in MODES]
        for action_dim, size, separation in itertools.product(ACTION_DIMS, rows, separations)
    ]


def few(rows: Sequence[int]) -> list[list[Case]]:
    """Data with four modes at a share of the states, and one at the others."""
    return [[Case("modes", 4, 3, size, 10.0, share) for share in SHARES] for size in rows]


def single() -> list[list[Case]]:
    """Data with one mode."""
    return [
        [Case(name, 1, action_dim, SINGLE_ROWS) for action_dim in ACTION_DIMS]
        for name in (*NOISES, *POLICIES)
    ]


def write_row(*cells: object) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


def write_head(*cells: object) -> None:
    sys.stdout.write("\n")
    write_row(*cells)
    write_row(*["---"] * len(cells))


def study(
    rows: Sequence[int], separations: Sequence[float], seeds: int, states: int, output: Path
) -> None:
    """The tables of data whose number of modes is known."""
    tables = several(rows, separations), few(rows), single()
    cases = itertools.chain.from_iterable(itertools.chain.from_iterable(tables))
    answers = Answers(cases, seeds, states, output)
    write_head("A", "rows", "separation", *(f"M={number}" for number in MODES))
    for row in tables[0]:
        cells = map(answers.cell, row)
        write_row(row[0].action_dim, f"{row[0].rows:,}", f"{row[0].separation:g}", *cells)
    write_head("rows", *(f"4 modes at {share:.1%} of states" for share in SHARES))
    for row in tables[1]:
        write_row(f"{row[0].rows:,}", *map(answers.cell, row))
    write_head("one mode", *(f"A={action_dim}" for action_dim in ACTION_DIMS))
    for row in tables[2]:
        write_row(row[0].data, *map(answers.cell, row))


def envs(files: Iterable[Path]) -> Iterator[tuple[str, EnvConfig]]:
    """The generated datasets, and any that files hold."""
    for name in options("env"):
        env = compose(["algo=bc", f"env={name}"]).env
        if env.source in GENERATED:
            yield name, env
    for path in files:
        yield path.name, compose(["algo=bc", "env=hopper-medium", f"env.path='{path}'"]).env


def show_datasets(files: Iterable[Path]) -> None:
    """What M=auto says of datasets, and how often it counted what; those not here are left out."""
    write_head("dataset", "M=auto", "counted")
    for name, env in envs(files):
        try:
            found = datasets.count_modes(env, fetch=False)
        except DataError as error:
            sys.stderr.write(f"left out: {error}\n")
            continue
        write_row(name, found.M, found)


def main() -> None:
    """Estimate, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 10_000, 100_000])
    parser.add_argument("--separations", type=float, nargs="+", default=[4, 8])
    parser.add_argument("--seeds", type=int, default=3, help="data of seeds 0, 1, ... (default: 3)")
    parser.add_argument("--states", type=int, default=128, help="looked at in each (default: 128)")
    parser.add_argument("--output", type=Path, default=Path("modes.csv"), help="every estimate")
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="in D4RL's layout")
    parser.add_argument("--only-datasets", action="store_true", help="leave the study out")
    given = parser.parse_args()
    if not given.only_datasets:
        study(given.rows, given.separations, given.seeds, given.states, given.output)
    show_datasets(given.files)


if __name__ == "__main__":
    try:
        main()
    except LomExpError as error:
        sys.exit(f"error: {error}")
