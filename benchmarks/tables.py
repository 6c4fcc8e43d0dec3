"""Benchmarks as Markdown: the pages of docs/performance, made of their JSON and of nothing else.

python -m benchmarks.tables docs/performance/cpu.json      writes docs/performance/cpu.md
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import growth, shares

UPDATES = (
    "algorithm",
    "phase",
    "GFLOP",
    "R",
    "layout",
    "mode",
    "updates/s (min-max)",
    "x floor",
    "peak memory",
    "start, s",
)
Result = dict[str, Any]


def heading(names: Sequence[str]) -> str:
    """The two lines that begin a table."""
    return f"{row(names)}\n|{'---|' * len(names)}"


def row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    return "\n".join([heading(names), *map(row, rows)])


def number(value: float) -> str:
    """Three digits, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def memory(size: float) -> str:
    """Bytes as MB or GB, of powers of ten."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def machine(about: Result) -> str:
    """One sentence."""
    threads = f", {about['threads']} thread{'s' * (about['threads'] != 1)}"
    found = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['hardware']} ({about['cores']} cores, {memory(about['memory_bytes'])} of memory"
        f"{threads if about['device'] == 'cpu' else ''}), {about['system']}, {found}; rates are by "
        f"{about['clock']}."
    )


def ceilings(found: Result) -> str:
    """The measured limits; GFLOP/s of batched products are those of R = 1 and of the best R."""
    rows = [["copy (read + written)", f"{number(found['copy_gb_per_second'])} GB/s"]]
    for precision, rate in found["matmul_gflops"].items():
        rows.append([f"large matrix product, {precision}", f"{number(rate)} GFLOP/s"])
    batched: dict[tuple[str, int], list[Result]] = {}
    for entry in found["batched_gflops"]:
        batched.setdefault((entry["precision"], entry["rows"]), []).append(entry)
    for (precision, rows_of), entries in batched.items():
        rates = ", ".join(f"{number(e['gflops'])} (R = {e['runs']})" for e in entries)
        label = f"R products ({rows_of}, 256) x (256, 256), {precision}, GFLOP/s"
        rows.append([label, rates])
    return table(["ceiling", "measured"], rows)


def update_cells(result: Result) -> list[str]:
    """Of a result that was compared with its floor."""
    low, high = result["slowest"], result["fastest"]
    return [
        result["algorithm"],
        result["phase"],
        f"{result['gflop']:.3g}",
        str(result["runs"]),
        "vmap" if result["vectorized"] else "one by one",
        "compiled" if result["settings"]["compile"] else "eager",
        f"{result['updates_per_second']:.1f} ({low:.1f}-{high:.1f})",
        number(result["ratio"]),
        memory(result["peak_bytes"]),
        f"{result['start_seconds']:.1f}",
    ]


def updates(results: Iterable[Result]) -> str:
    chosen = [result for result in results if result["section"] == "updates"]

    def order(result: Result) -> tuple[Any, ...]:
        mode = (result["settings"]["compile"], result["vectorized"])
        return (result["algorithm"], *mode, result["runs"])

    return table(UPDATES, map(update_cells, sorted(chosen, key=order)))


def starts(results: list[Result]) -> str:
    """Seconds to start what was started twice, with the compiler's cache empty and filled."""
    rows = []
    for again in (result for result in results if result["section"] == "restart"):
        for first in results:
            if first["section"] == "updates" and _same(first, again):
                rows.append(
                    [
                        first["algorithm"],
                        first["phase"],
                        str(first["runs"]),
                        *(f"{first[key]:.1f}" for key in ("import_seconds", "initialize_seconds")),
                        f"{first['start_seconds']:.1f}",
                        f"{again['start_seconds']:.1f}",
                    ]
                )
    names = ["algorithm", "phase", "R", "imports, s", "networks, s", "compiling, s"]
    return table([*names, "the same with a filled cache, s"], rows) if rows else ""


def _same(first: Result, again: Result) -> bool:
    keys = ("algorithm", "phase", "runs", "vectorized", "settings")
    return all(first[key] == again[key] for key in keys)


def share_rows(results: list[Result], runs: int, compile: bool) -> str:
    rows = shares.table(results, runs, compile)
    text = table(
        ["part", "hours, all runs", "share"],
        [[r["part"], f"{r['seconds'] / 3600:.2f}", f"{100 * r['share']:.1f} %"] for r in rows],
    )
    reasons = shares.left_out(results, runs).items()
    return "\n\n".join([text, *(f"Without {part}: {reason}." for part, reason in reasons)])


def growth_rows(results: list[Result]) -> str:
    rows: dict[tuple[str, int], dict[str, Result]] = {}
    for entry in growth.table(results):
        rows.setdefault((entry["factor"], entry["value"]), {})[entry["phase"]] = entry
    phases = ("behavior", "policy")
    names = ["factor", "value"]
    for phase in phases:
        names += [f"{phase}, ms", "x authors'"]
    return table(
        names,
        [
            [
                factor,
                f"{value:,}",
                *(
                    cell
                    for phase in phases
                    for cell in (
                        (number(found[phase]["milliseconds"]), f"{found[phase]['times']:.2f}")
                        if phase in found
                        else ("", "")
                    )
                ),
            ]
            for (factor, value), found in rows.items()
        ],
    )


def loading(found: Result) -> str:
    return table(
        ["rows", "file", "seconds (min-max)", "CPU seconds", "of them the hash", "peak / arrays"],
        [
            [
                f"{found['rows']:,}",
                memory(found["file_bytes"]),
                f"{found['wall_seconds']:.1f} ({found['fastest']:.1f}-{found['slowest']:.1f})",
                f"{found['cpu_seconds']:.1f}",
                f"{found['hash_seconds']:.1f}",
                f"{found['peak_over_arrays']:.2f}",
            ]
        ],
    )


def page(content: Result, name: str) -> str:
    """The whole page of a machine."""
    results = content["results"]
    about = content["machine"]
    command = content["command"].partition(" --note ")[0]
    parts = [
        f"# {about['hardware']}",
        f"Made of [{name}.json]({name}.json) by `benchmarks/tables.py`; [README.md](README.md) "
        "says what the columns mean.",
        f"{machine(about)} Commit {(content['git_commit'] or 'unknown')[:7]}, {content['date']}, "
        f"`{command}`, {content['elapsed_seconds'] / 60:.0f} minutes."
        + (f" {content['note']}" if content["note"] else ""),
        f"![Rates, growth and shares]({name}.png)",
    ]
    if content["ceilings"]:
        parts += ["## Ceilings", ceilings(content["ceilings"])]
    parts += ["## Updates", updates(results)]
    if starts(results):
        parts += ["## Starting", starts(results)]
    for runs, compile in share_cases(results):
        mode = "compiled" if compile else "eager"
        title = f"## Where the time of {runs} LOM run{'s' * (runs != 1)} goes, {mode}"
        parts += [title, share_rows(results, runs, compile)]
    if growth.table(results):
        parts += ["## How LOM's cost grows", growth_rows(results)]
    if content["loading"]:
        parts += ["## Loading", loading(content["loading"])]
    parts += left_out(content)
    return "\n\n".join(parts) + "\n"


def share_cases(results: list[Result]) -> list[tuple[int, bool]]:
    """R and compile of the shares that are complete."""
    found = {
        (result["runs"], result["settings"]["compile"])
        for result in results
        if result["section"] == "shares"
    }
    return [case for case in sorted(found) if shares.table(results, *case)]


def left_out(content: Result) -> list[str]:
    """What was not measured, and why."""
    parts = []
    if content["left_out"]:
        names = "; ".join(content["left_out"])
        parts += ["## Left out", f"For want of time: {names}."]
    if content["failed"]:
        failed = [f"- {case}: {error}" for case, error in content["failed"].items()]
        parts += ["## Failed", "\n".join(failed)]
    return parts


def main() -> None:
    """Write the page beside each JSON file."""
    for path in map(Path, sys.argv[1:]):
        content = json.loads(path.read_text())
        path.with_suffix(".md").write_text(page(content, path.stem))


if __name__ == "__main__":
    main()
