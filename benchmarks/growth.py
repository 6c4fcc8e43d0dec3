"""How LOM's cost grows: one factor at a time, around the authors' setting.

Prints the milliseconds of one update of one run at each value, and how many times that of the
authors' setting they are. `benchmarks.suite` has this among the rest.

    python -m benchmarks.growth
    python -m benchmarks.growth --device cuda --parallel 14
"""

import argparse
import math
import sys
from typing import Any

from benchmarks import runner
from benchmarks.cases import TRANSITIONS, Case

# Factor, the authors' value, the other values, and the fields of LOM's Config that follow a value.
M, WIDTH, BATCH, ROWS = "M", "width", "batch", "rows"
CENTER = {M: 10, WIDTH: 256, BATCH: 256, ROWS: TRANSITIONS}
OTHERS = {
    M: (1, 5, 20, 50),
    WIDTH: (64, 128, 512, 1024),
    BATCH: (64, 1024),
    ROWS: (10_000, 1_000_000, 2_000_000),
}


def settings(factor: str, value: int) -> dict[str, Any]:
    """What of LOM's Config another value changes: all widths, or all batches, by one factor."""
    if factor == M:
        return {"num_components": value}
    if factor == WIDTH:
        return {"hidden_sizes": [value] * 2, "behavior_hidden_sizes": [2 * value] * 2}
    if factor == BATCH:
        return {
            "behavior_batch_size": 2 * value,
            "critic_batch_size": value,
            "hyper_critic_batch_size": 4 * value,
            "policy_batch_size": value,
        }
    return {}


def cases(runs: int, with_center: bool = False, **common: Any) -> list[Case]:
    """Each factor's values, the authors' setting first if `with_center`."""
    common = {**common, "algorithm": "lom", "runs": runs, "section": "growth"}
    values = [(factor, value) for factor, others in OTHERS.items() for value in others]
    return [
        *([Case(**common)] if with_center else []),
        *(
            Case(
                **common,
                label=f"{factor}={value}",
                settings=settings(factor, value),
                transitions=value if factor == ROWS else TRANSITIONS,
            )
            for factor, value in values
        ),
    ]


def milliseconds(result: dict[str, Any]) -> float:
    """Of one update of one run."""
    return 1000 / float(result["updates_per_second"])


def table(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of factor, value, phase, milliseconds and times the authors' setting.

    The authors' setting is the case without a label that is like the growth cases otherwise; where
    it was not measured there are no rows. R's own rows are the updates of LOM like those cases.
    """
    grown = [result for result in results if result["section"] == "growth"]
    if not grown:
        return []
    like = _likeness(grown[0])
    plain = [
        result
        for result in results
        if result["section"] in ("growth", "updates")
        and not result["label"]
        and _likeness(result) == like
    ]
    runs = center(results, "R")
    centers = {result["phase"]: milliseconds(result) for result in plain if result["runs"] == runs}
    points = [("R", result["runs"], result) for result in plain]
    for factor, value in CENTER.items():
        points += [(factor, value, result) for result in plain if result["runs"] == runs]
    for result in grown:
        if result["label"]:
            factor, _, number = result["label"].partition("=")
            points.append((factor, int(number), result))
    order = ["R", *CENTER]
    rows = [
        {
            "factor": factor,
            "value": value,
            "phase": result["phase"],
            "milliseconds": milliseconds(result),
            "times": milliseconds(result) / centers[result["phase"]],
        }
        for factor, value, result in points
        if result["phase"] in centers
    ]
    return sorted(rows, key=lambda row: (order.index(row["factor"]), row["value"], row["phase"]))


def center(results: list[dict[str, Any]], factor: str) -> int:
    """The value of a factor in the authors' setting; of R, the one the others were measured at."""
    if factor == "R":
        return int(next(result["runs"] for result in results if result["section"] == "growth"))
    return CENTER[factor]


def _likeness(result: dict[str, Any]) -> tuple[Any, ...]:
    return result["algorithm"], result["vectorized"], result["settings"]["compile"]


def main() -> int:
    """Measure and print."""
    from benchmarks import tables  # which imports this

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, help="R (default: 1; on a GPU 20)")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    parser.add_argument("--parallel", type=int, default=1, help="processes that start at once")
    arguments = parser.parse_args()
    gpu = arguments.device != "cpu"
    chosen = cases(
        arguments.runs or (20 if gpu else 1),
        with_center=True,
        device=arguments.device,
        vectorize=gpu,
        compile=gpu,
        threads=arguments.threads,
        seconds=0.5,
    )
    outcome = runner.run(
        chosen,
        parallel=arguments.parallel,
        deadline=math.inf,
        report=runner.say,
    )
    sys.stdout.write(tables.growth_rows(outcome.results) + "\n")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
