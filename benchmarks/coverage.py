"""How often 95 % intervals over seeds hold the truth, on made-up scores: a table.

    python benchmarks/coverage.py [--sweeps 500]

Each sweep has datasets with means of 20 to 100 and deviations of 2 to 10, of normal or of strongly
skewed (exponential) scores. Beside our intervals stands the plain percentile bootstrap.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from analysis import statistics

DRAWS = 400
TRUTHS = {
    "mean": lambda population: population.mean(),
    "median": lambda population: np.median(population.mean(0)),
    "IQM": lambda population: stats.trim_mean(population.ravel(), 0.25),
}
QUANTILES = (np.arange(2000) + 0.5) / 2000
NOISE = {
    "normal": (lambda rng, n: rng.standard_normal(n), stats.norm.ppf(QUANTILES)),
    "skewed": (lambda rng, n: rng.exponential(1, n) - 1, stats.expon.ppf(QUANTILES) - 1),
}


def shares(name: str, noise: str, datasets: int, seeds: int, sweeps: int) -> tuple[float, float]:
    """Of `sweeps` sweeps, the shares of our intervals and of the plain ones that hold the truth."""
    rng = np.random.default_rng(0)
    draw, population = NOISE[noise]
    function, sizes = statistics.AGGREGATES[name], np.full(datasets, seeds)
    held = np.zeros(2)
    for _ in range(sweeps):
        means, spreads = rng.uniform(20, 100, datasets), rng.uniform(2, 10, datasets)
        runs = [m + s * draw(rng, seeds) for m, s in zip(means, spreads, strict=True)]
        truth = TRUTHS[name](means + population[:, None] * spreads)
        ours = statistics.aggregate(runs, function)[1:]
        drawn = function(statistics.resample(runs, DRAWS, spread=False), sizes)
        plain = np.percentile(drawn, [2.5, 97.5])
        held += [low <= truth <= high for low, high in (ours, plain)]
    return tuple(held / sweeps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=500)
    sweeps = parser.parse_args().sweeps
    statistics._DRAWS = DRAWS
    table = Table("statistic", "datasets", "seeds", *(
        f"{noise}: {whose}" for noise in NOISE for whose in ("ours", "plain")
    ))  # fmt: skip
    for name in TRUTHS:
        for datasets in (1, 3, 9, 15):
            for seeds in (3, 5):
                found = [
                    f"{100 * share:.0f} %"
                    for noise in NOISE
                    for share in shares(name, noise, datasets, seeds, sweeps)
                ]
                table.add_row(name, str(datasets), str(seeds), *found)
    Console().print(table)


if __name__ == "__main__":
    main()
