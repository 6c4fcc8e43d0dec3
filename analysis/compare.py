"""Which of two is better, by how much, and how sure that is.

    python -m analysis.compare A B [--sweep results] [--statistic last|last_ten|best]

A and B are methods (`lom`, `bc`, or `"lom M=5"` where several settings were run); methods of other
sweeps or results folders, such as two code versions' (`lom@old/results`, or `@old/results` for all
that both have); or the paper's numbers (`paper:LOM`, or `paper` for the method on the other side).
The answer is a sentence, a table of the datasets that both have, and compare.md and compare.csv.
"""

from __future__ import annotations

import argparse
import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rich.console import Console

from analysis import command, methods, runs, scores, statistics, table1
from analysis.aggregates import interval
from analysis.command import Written
from analysis.comparison import PAPER_SEEDS
from analysis.folders import AnalysisError
from analysis.runs import Results
from analysis.statistics import Estimate, Floats

_PAPER = "paper"
_SHOWN = 8  # digits of a commit


class Side(NamedTuple):
    """One of the two: its name, and by what is compared (dataset, or method and dataset)."""

    name: str
    # One score per run; of a paper's mean and deviation as many scores as have them both; a single
    # one where it gives no deviation.
    scores: dict[str, Floats]
    data: dict[str, set[str]]  # the sha256 of what the runs were trained on; none of the paper's
    notes: list[str]


class Comparison(NamedTuple):
    """The answer."""

    first: Side
    second: Side
    shared: list[str]
    difference: Estimate  # first - second, mean over what is shared
    probability: Estimate  # that a run of the first is above one of the second
    by_dataset: pd.DataFrame  # dataset, first, second, difference, low, high


def compare(
    results: Results, first: str, second: str, statistic: str = scores.DEFAULT
) -> Comparison:
    """Compare two sides.

    Raises:
        AnalysisError: a side has no runs (the message names the nearest that has), the two have no
            dataset in common, or their data differ.
    """
    one = _side(results, first, second, statistic)
    two = _side(results, second, first, statistic)
    shared = sorted(one.scores.keys() & two.scores.keys())
    if not shared:
        raise AnalysisError(
            f"{first} and {second} have nothing in common: {first} has "
            f"{', '.join(one.scores)}; {second} has {', '.join(two.scores)}"
        )
    differing = [each for each in shared if len({*one.data[each], *two.data[each]}) > 1]
    if differing:
        raise AnalysisError(
            f"{first} and {second} were trained on different data for {', '.join(differing)}: "
            "the difference would be one of data, too"
        )
    arms = [one.scores[each] for each in shared], [two.scores[each] for each in shared]
    rows = []
    for each, mine, other in zip(shared, *arms, strict=True):
        value, low, high = statistics.welch([mine], [other])
        row = {"dataset": each, "first": mine.mean(), "second": other.mean()}
        row |= {"first_runs": len(mine), "second_runs": len(other)}
        rows.append(row | {"difference": value, "low": low, "high": high})
    of_paper = _is_paper(first) or _is_paper(second)
    nothing = Estimate(math.nan, math.nan, math.nan)
    probability = nothing if of_paper else statistics.improvement(*arms)
    return Comparison(one, two, shared, statistics.welch(*arms), probability, pd.DataFrame(rows))


def _side(results: Results, given: str, other: str, statistic: str) -> Side:
    if _is_paper(given):
        return _paper(given.partition(":")[2] or other.partition("@")[0].split(" ")[0])
    method, _, sweep = given.partition("@")
    if sweep:
        results = runs.read(sweep, Path("results"))
    points = scores.per_run(results)
    points = points.assign(method=methods.name(points))
    points = points[points[statistic].notna()]
    keys = points["env"]
    if not method:
        keys = points["method"] + " on " + keys
    elif method in set(points["method"]):
        points = points[points["method"] == method]
    else:
        known = list(dict.fromkeys(points["method"]))
        near = difflib.get_close_matches(method, known, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise AnalysisError(
            f"no runs of {method!r} in {results.name}: {hint}There are {', '.join(known)}; or "
            "METHOD@SWEEP, paper, paper:LOM"
        )
    groups = {str(key): group for key, group in points.groupby(keys[points.index])}
    code = " and ".join(sorted({_code(code) for code in points["code"]}))
    notes = [f"{given}: {len(points)} runs of {code}."]
    if _is_paper(other) and (points["provenance"] != "d4rl").any():
        notes.append("Ours are not all of D4RL's data: the difference is one of data, too.")
    return Side(
        given,
        {key: group[statistic].to_numpy(float) for key, group in groups.items()},
        {key: set(group["sha256"]) for key, group in groups.items()},
        notes,
    )


def _code(code: str) -> str:
    commits = [word[:_SHOWN] for word in code.removesuffix(" changed").split()]
    changed = " with changes" * code.endswith(" changed")
    return f"commit {'+'.join(commits)}{changed}" if commits else "code of an unknown version"


def _is_paper(given: str) -> bool:
    return given.partition(":")[0] == _PAPER


def _paper(name: str) -> Side:
    """What LOM's Table 1 prints of a method, by its name there or by ours."""
    paper = table1.PAPER
    labels = {**{label: label for label in paper.methods}, **{
        printed.lower(): label for label, printed in paper.methods.items()
    }}  # fmt: skip
    if name.lower() not in labels:
        known = ", ".join(paper.methods.values())
        raise AnalysisError(f"LOM's Table 1 has no {name!r}: it has {known}")
    numbers = paper.numbers()
    numbers = numbers[numbers["method"] == labels[name.lower()]]
    found = {row.dataset: _as_runs(row.paper_mean, row.paper_std) for row in numbers.itertuples()}
    notes = [
        f"{_PAPER}: Table 1 of Wang, Jin and Montana (ICLR 2025), mean of {PAPER_SEEDS} seeds on "
        "D4RL's data; where it gives no deviation there is no interval."
    ]
    data: dict[str, set[str]] = {dataset: set() for dataset in found}
    return Side(f"{_PAPER}:{paper.methods[labels[name.lower()]]}", found, data, notes)


def _as_runs(mean: float, std: float) -> Floats:
    """Scores of four seeds that have this mean and sample deviation; of no deviation the mean."""
    if math.isnan(std):
        return np.array([mean])
    shape = np.array([-1.0, -1.0, 1.0, 1.0]) * math.sqrt((PAPER_SEEDS - 1) / PAPER_SEEDS)
    return mean + std * shape


def sentence(found: Comparison) -> str:
    """The answer in words."""
    one, two, (value, low, high) = found.first.name, found.second.name, found.difference
    count = len(found.shared)
    where = f"on {found.shared[0]}" if count == 1 else f"over {count} datasets, on average"
    side = "more" if value >= 0 else "less"
    text = f"{one} scores {abs(value):.1f} points {side} than {two} {where}"
    if math.isnan(low):
        return (
            f"{text}. There is no interval, as somewhere there is only one number on a side: one "
            "seed does not tell how the next would score, and this is no evidence for either."
        )
    text += f" (95% interval {low:+.1f} to {high:+.1f})"
    if low <= 0 <= high:
        return f"{text}: these runs do not tell which of the two is better."
    return f"{text}: {one if value > 0 else two} is better, beyond what seeds explain."


def write(
    results: Results, out: Path, first: str, second: str, statistic: str = scores.DEFAULT
) -> Written:
    """Write compare.md and compare.csv into `out` and print the answer; what `compare` raises."""
    found = compare(results, first, second, statistic)
    answer = sentence(found)
    body = pd.DataFrame(
        {
            "dataset": found.by_dataset["dataset"],
            first: found.by_dataset["first"].map("{:.1f}".format),
            second: found.by_dataset["second"].map("{:.1f}".format),
            "difference (95%)": [
                interval(row.difference, row.low, row.high)
                for row in found.by_dataset.itertuples()
            ],
            "runs": [
                f"{row.first_runs}, {row.second_runs}" for row in found.by_dataset.itertuples()
            ],
        }
    )  # fmt: skip
    notes = [
        f"Of each run its {scores.STATISTICS[statistic]}. Intervals are Welch's, over seeds; a "
        "dataset alone is one of several comparisons, of which 1 in 20 misses by chance.",
        *found.first.notes,
        *found.second.notes,
    ]
    if not math.isnan(found.probability.value):
        notes.insert(
            1,
            f"Probability that a run of {first} scores above one of {second}: "
            f"{interval(*found.probability, digits=2)}.",
        )
    title = f"{first} against {second}"
    command.show(title, body, notes)
    Console().print(f"\n{answer}", style="bold", highlight=False, markup=False)
    files = [out / "compare.md", out / "compare.csv"]
    files[0].write_text(command.markdown(title, results, body, [answer, *notes]), encoding="utf-8")
    found.by_dataset.round(6).to_csv(files[1], index=False, lineterminator="\n")
    return Written(files, results.problems)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Which of two is better, and by how much.")
    parser.add_argument(
        "first", metavar="A", help="METHOD, METHOD@SWEEP, @SWEEP, paper or paper:LOM"
    )
    parser.add_argument("second", metavar="B", help="the same")
    command.add_arguments(parser, "--sweep")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default=scores.DEFAULT, help="of each run"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.first, arguments.second, arguments.statistic)

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
