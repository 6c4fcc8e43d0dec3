"""All of what training costs on this machine: ceilings, loading, updates, shares and growth.

Writes <out>/cpu.json or gpu.json with hardware, versions, commit, date and command, the page of its
tables and, where matplotlib is installed, its plot; rates are also kept for --dry-run. One case
that fails is named and the others go on; when the budget of seconds is used up the cases that
remain, the least important ones, are left out and named.

    python -m benchmarks.suite --threads 1
    python -m benchmarks.suite --device cuda
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import floor, growth, loading, runner, shares, tables
from benchmarks.cases import Case, measurement
from benchmarks.machine import describe
from benchmarks.runner import say
from lom_exp import rates
from lom_exp.algorithms import REGISTRY
from lom_exp.code_version import code_version
from lom_exp.files import write_atomically

ROWS = 2_000_000  # of the file that is loaded
SPARE_SECONDS = 20  # of the budget, for the plot and the end
WAVE = 14  # cases of a GPU that start at once, at most
PACK = 20  # the R of a GPU's growth and shares: the paper's tables have packs of 20 seeds and more


def cpu_cases(threads: int | None) -> list[Case]:
    """What a CPU is measured at, the most important first: eager, one run after the other."""
    common: dict[str, Any] = {"device": "cpu", "vectorize": False, "compile": False}
    common |= {"threads": threads, "seconds": 0.5}
    others = [name for name in REGISTRY if name != "lom"]
    return [
        *(Case("lom", runs, **common) for runs in (1, 4, 8, 20)),
        *(Case(name, 1, **common) for name in others),
        *shares.cases(1, **common),
        *growth.cases(1, **common),
        *(Case("lom", runs, **common | {"vectorize": True}) for runs in (1, 4, 20)),
        *shares.cases(PACK, **common),
        *(Case(name, 4, **common) for name in others),
        Case("lom", 64, **common),
        *(Case(name, 1, **common | {"compile": True}) for name in ("td3_bc", "lom")),
        Case("lom", 1, **common | {"compile": True, "section": "restart"}),
    ]


def cuda_cases(threads: int | None) -> list[Case]:
    """What a GPU is measured at, the most important first: compiled, all runs in one vmap.

    Eager rates, bound by launches, are for LOM alone.
    """
    common: dict[str, Any] = {"device": "cuda", "vectorize": True, "compile": True}
    common |= {"threads": threads or 1, "seconds": 0.3}  # many processes start at once
    others = [name for name in REGISTRY if name != "lom"]
    return [
        *(Case("lom", runs, **common) for runs in (PACK, 1, 64, 8, 4)),
        *shares.cases(PACK, **common),
        *shares.cases(1, **common),
        *(Case("lom", runs, **common | {"compile": False}) for runs in (1, PACK)),
        *(Case(name, PACK, **common) for name in others),
        # More than a wave after the first of these, which has filled the compiler's cache.
        Case("lom", PACK, **common, section="restart"),
        *growth.cases(PACK, **common),
        *(Case(name, 1, **common) for name in others),
    ]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    parser.add_argument(
        "--budget", type=float, help="seconds for everything (default: 540 on a GPU, 1500 on a CPU)"
    )
    parser.add_argument(
        "--parallel",
        type=int,
        help="cases that start at once (default: 1; on a GPU cores - 2, at most 14)",
    )
    parser.add_argument("--out", type=Path, default=Path("docs/performance"))
    parser.add_argument("--results", type=Path, default=Path("results"), help="(default: results)")
    parser.add_argument("--commit", help="of this code, where it is no git checkout")
    parser.add_argument("--note", default="", help="about the circumstances, for the page")
    return parser.parse_args()


def attempt(name: str, work: Callable[[], Any], failed: dict[str, str]) -> Any:
    """What the work returns; None, and the error in `failed`, where it fails."""
    try:
        return work()
    except Exception as error:  # whatever it is, the rest is still worth having
        failed[name] = f"{type(error).__name__}: {error}"
        say(f"{name}: failed: {failed[name]}")
        return None


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    began = time.monotonic()
    commit, dirty = code_version()  # now: it may move on meanwhile
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    gpu = arguments.device == "cuda"
    budget = arguments.budget or (540 if gpu else 1500)
    parallel = arguments.parallel or (min(WAVE, max(1, (os.cpu_count() or 1) - 2)) if gpu else 1)
    device = torch.device(arguments.device)
    failed: dict[str, str] = {}
    say("ceilings")
    ceilings = attempt("ceilings", lambda: floor.ceilings(device), failed)
    say("loading")
    loaded = attempt("loading", lambda: loading.measure(ROWS, arguments.device, 1), failed)

    cases = (cuda_cases if gpu else cpu_cases)(arguments.threads)
    say(f"{len(cases)} cases, {parallel} starting at a time")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # empty: starts are cold
        outcome = runner.run(
            cases,
            parallel=parallel,
            deadline=began + budget - SPARE_SECONDS,
            report=say,
        )
    kept = [measurement(r) for r in outcome.results if r["section"] in ("updates", "growth")]
    attempt("keeping rates", lambda: rates.record(arguments.results, kept), failed)
    return {
        "machine": describe(device),
        "git_commit": arguments.commit or commit,
        "git_dirty": dirty,
        "date": time.strftime("%Y-%m-%d"),
        "command": shlex.join(["python", "-m", "benchmarks.suite", *sys.argv[1:]]),
        "note": arguments.note,
        "budget_seconds": budget,
        "parallel": parallel,
        "elapsed_seconds": time.monotonic() - began,
        "ceilings": ceilings,
        "loading": loaded,
        "results": [
            floor.compared(result, ceilings) if ceilings and "gflop" in result else result
            for result in outcome.results
        ],
        "left_out": outcome.left_out,
        "failed": failed | outcome.failed,
    }


def main() -> int:
    """Measure and write; 1 where anything failed."""
    arguments = parse()
    content = measure(arguments)
    name = "gpu" if arguments.device == "cuda" else "cpu"
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    failed: dict[str, str] = {}
    attempt("page", lambda: path.with_suffix(".md").write_text(tables.page(content, name)), failed)
    attempt("plot", lambda: draw(content, path), failed)
    say(f"wrote {path}; {len(content['failed'])} failed, {len(content['left_out'])} left out")
    return 1 if content["failed"] or failed else 0


def draw(content: dict[str, Any], path: Path) -> None:
    """The plot, where matplotlib is installed."""
    try:
        from benchmarks import plot
    except ImportError as error:
        say(f"no plot: {error}")
        return
    plot.draw(content, path.with_suffix(""))


if __name__ == "__main__":
    sys.exit(main())
