"""Where the time of a LOM run goes, for the authors' budget: mixture, critic, hyper-Q, policy,
evaluation, logging, checkpoints.

The phases are timed whole; the policy phase's time is divided among its three updates like their
times when each is trained alone. Evaluation is of Hopper, every episode of 1000 steps, so at most.
`benchmarks.suite` has this among the rest.

    python -m benchmarks.shares
    python -m benchmarks.shares --device cuda --runs 20
"""

import argparse
import math
import sys
from typing import Any

from benchmarks import runner
from benchmarks.cases import Case

UPDATES = {"behavior": 200_000, "policy": 1_000_000}  # conf/algo/lom.yaml
PARTS = {"critics": "critic", "hyper_critic": "hyper-Q", "policy": "policy"}  # of the policy phase
LOG_EVERY, CHECKPOINT_SECONDS = 1000, 300  # conf/config.yaml, as what follows
EVALUATE_EVERY, EPISODES, FINAL_EPISODES = 10_000, 10, 100


def cases(runs: int, **common: Any) -> list[Case]:
    """LOM's updates each alone, and what comes beside them."""
    return [Case(algorithm="lom", runs=runs, section="shares", **common)]


def table(results: list[dict[str, Any]], runs: int, compile: bool) -> list[dict[str, Any]]:
    """Rows of part, seconds for all runs, and share of the sum; none where a phase is missing.

    A part that was left out has no row, and the shares are those of the others.
    """

    def find(section: str) -> list[dict[str, Any]]:
        return [
            result
            for result in results
            if result["section"] == section
            and result["runs"] == runs
            and result.get("algorithm", "lom") == "lom"
            and (result["compile"] if section == "overheads" else result["settings"]["compile"])
            == compile
        ]

    alone = {result["phase"]: result for result in find("shares")}
    whole = {
        result["phase"]: UPDATES[result["phase"]] * runs / result["updates_per_second"]
        for result in find("updates")
        if not alone or result["vectorized"] == next(iter(alone.values()))["vectorized"]
    }
    if not whole.keys() >= UPDATES.keys() or not alone.keys() >= PARTS.keys():
        return []
    times = {phase: 1 / alone[phase]["updates_per_second"] for phase in PARTS}
    seconds = {"mixture": whole["behavior"]}
    for phase, name in PARTS.items():
        seconds[name] = whole["policy"] * times[phase] / sum(times.values())
    for overhead in find("overheads"):
        each = overhead["seconds"]
        counts = {
            "evaluation": UPDATES["policy"] // EVALUATE_EVERY + FINAL_EPISODES / EPISODES,
            "logging": sum(UPDATES.values()) / LOG_EVERY,
            "checkpoint": sum(seconds.values()) / CHECKPOINT_SECONDS + len(UPDATES),
        }
        seconds |= {name: counts[name] * each[name] for name in counts if name in each}
    total = sum(seconds.values())
    return [
        {"part": part, "seconds": taken, "share": taken / total} for part, taken in seconds.items()
    ]


def left_out(results: list[dict[str, Any]], runs: int) -> dict[str, str]:
    """Why parts were left out, by part."""
    return {
        part: reason
        for result in results
        if result["section"] == "overheads" and result["runs"] == runs
        for part, reason in result["left_out"].items()
    }


def main() -> int:
    """Measure and print."""
    from benchmarks import tables  # which imports this

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=1, help="R")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    arguments = parser.parse_args()
    gpu = arguments.device != "cpu"
    common = {"device": arguments.device, "vectorize": gpu, "compile": gpu}
    common |= {"threads": arguments.threads, "seconds": 0.5}
    chosen = [
        Case(algorithm="lom", runs=arguments.runs, **common),
        *cases(arguments.runs, **common),
    ]
    outcome = runner.run(
        chosen,
        parallel=2 if gpu else 1,
        deadline=math.inf,
        report=runner.say,
    )
    sys.stdout.write(tables.share_rows(outcome.results, arguments.runs, gpu) + "\n")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
