"""The plot of a machine's benchmarks, PNG and PDF: rates, scaling with R, shares and growth.

python -m benchmarks.plot docs/performance/cpu.json
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks import growth, shares, tables

# Okabe and Ito's colors, which readers who are color-blind can tell apart; black is kept for text.
COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
Result = dict[str, Any]


def draw(content: Result, path: Path) -> None:
    """Write path.png and path.pdf."""
    results = content["results"]
    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = pyplot.figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplot_mosaic([["rates", "packs", "shares"], ["rates", "behavior", "policy"]])
    draw_rates(axes["rates"], results)
    draw_packs(axes["packs"], results)
    draw_shares(axes["shares"], results)
    for phase in ("behavior", "policy"):
        draw_growth(axes[phase], results, phase)
    figure.get_layout_engine().set(hspace=0.05, wspace=0.05)
    figure.suptitle(f"{content['machine']['hardware']}, {content['date']}")
    for suffix, keywords in ((".png", {"dpi": 130}), (".pdf", {})):
        figure.savefig(path.with_suffix(suffix), **keywords)
    pyplot.close(figure)


def draw_rates(axes: Axes, results: list[Result]) -> None:
    """Updates per second of all runs, by algorithm and phase, in the layout of most algorithms."""
    shown = [result for result in results if result["section"] == "updates"]
    common = _common_layout(shown)
    shown = [result for result in shown if _layout(result) == common]
    # Of LOM there are more pack sizes: shown are those that another algorithm has, too.
    sizes = sorted({result["runs"] for result in shown if result["algorithm"] != "lom"})
    names = sorted({(result["algorithm"], result["phase"]) for result in shown}, reverse=True)
    for i, runs in enumerate(sizes):
        points = [result for result in shown if result["runs"] == runs]
        axes.plot(
            [result["updates_per_second"] for result in points],
            [names.index((result["algorithm"], result["phase"])) for result in points],
            linestyle="none",
            marker=MARKERS[i],
            color=COLORS[i],
            label=f"R = {runs}",
        )
    labels = [name if phase == "policy" else f"{name}, {phase}" for name, phase in names]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xscale("log")
    _plain(axes.xaxis)
    axes.grid(color="0.9")
    axes.set_xlabel("updates/s of all runs")
    axes.set_title(f"Rates by algorithm ({_layout_name(common)})")
    if len(sizes) > 1:
        axes.legend()


def draw_packs(axes: Axes, results: list[Result]) -> None:
    """Updates per second of all runs of LOM against R, a line a phase and layout."""
    lines: dict[tuple[Any, ...], list[tuple[int, float]]] = {}
    for result in results:
        if result["section"] == "updates" and result["algorithm"] == "lom":
            key = (result["phase"], *_layout(result))
            lines.setdefault(key, []).append((result["runs"], result["updates_per_second"]))
    for i, ((phase, *layout), points) in enumerate(sorted(lines.items())):
        axes.plot(
            *zip(*sorted(points), strict=True),
            marker=MARKERS[i % len(MARKERS)],
            color=COLORS[i % len(COLORS)],
            label=f"{phase}, {_layout_name(tuple(layout))}",
        )
    sizes = sorted({runs for points in lines.values() for runs, _ in points})
    axes.set_xscale("log")
    axes.set_xticks(sizes, list(map(str, sizes)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")
    _plain(axes.yaxis)
    axes.grid(color="0.9")
    axes.set_xlabel("R, runs in a pack")
    axes.set_ylabel("updates/s of all runs")
    axes.set_title("LOM in packs")
    if lines:
        axes.legend(fontsize=7)


def draw_shares(axes: Axes, results: list[Result]) -> None:
    """Where the time goes: a bar for each R and mode."""
    cases = tables.share_cases(results)
    parts = ["mixture", "critic", "hyper-Q", "policy", "evaluation", "logging", "checkpoint"]
    for y, (runs, compile) in enumerate(cases):
        left = 0.0
        for entry in shares.table(results, runs, compile):
            share, color = 100 * entry["share"], COLORS[parts.index(entry["part"])]
            axes.barh(y, share, left=left, color=color, height=0.6)
            if share >= 7:
                text = f"{share:.0f} %"
                axes.text(left + share / 2, y, text, ha="center", va="center", fontsize=8)
            left += share
    shown = {entry["part"] for case in cases for entry in shares.table(results, *case)}
    for part, color in zip(parts, COLORS, strict=True):
        if part in shown:
            axes.barh(0, 0, color=color, label=part)
    labels = [f"R = {runs}\n{'compiled' if compile else 'eager'}" for runs, compile in cases]
    axes.set_yticks(range(len(cases)), labels)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of a LOM run's time")
    axes.set_title("Where the time goes")
    if shown:
        axes.set_ylim(-0.5, len(cases) + 0.5)  # room for the legend
        axes.legend(ncols=3, loc="upper center", fontsize=7, frameon=False)


def draw_growth(axes: Axes, results: list[Result], phase: str) -> None:
    """How many times the authors' setting's cost, against how many times its value."""
    rows = [row for row in growth.table(results) if row["phase"] == phase]
    names = {"R": "R", "M": "M", "width": "width", "batch": "batch"}
    names["rows"] = "dataset size"
    largest = 1.0
    for i, (factor, name) in enumerate(names.items()):
        points = [row for row in rows if row["factor"] == factor]
        if len(points) < 2:
            continue
        center = growth.center(results, factor)
        xs = [row["value"] / center for row in points]
        of_all = factor == "R"  # the rows are of one run
        ys = [row["times"] * (x if of_all else 1) for row, x in zip(points, xs, strict=True)]
        largest = max(largest, *xs)
        if of_all:
            name = f"R (times {center}, cost of all runs)"
        axes.plot(xs, ys, marker=MARKERS[i], color=COLORS[i], label=name, alpha=0.9)
    axes.plot([1, largest], [1, largest], color="0.6", linestyle=":", label="proportional")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain(axes.xaxis)
    _plain(axes.yaxis)
    axes.grid(color="0.9")
    axes.set_xlabel("times the authors' value")
    axes.set_ylabel("times their cost")
    axes.set_title(f"LOM's {phase} phase")
    axes.legend(fontsize=7)


def _plain(axis: Axis) -> None:
    """Of a logarithmic axis: labels at 1, 2, 3, 5, 10, ..., without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())


def _layout(result: Result) -> tuple[bool, bool]:
    return result["vectorized"], result["settings"]["compile"]


def _layout_name(layout: tuple[bool, bool]) -> str:
    vectorized, compiled = layout
    return f"{'vmap' if vectorized else 'one by one'}, {'compiled' if compiled else 'eager'}"


def _common_layout(results: list[Result]) -> tuple[bool, bool]:
    """The one that most results have."""
    layouts = [_layout(result) for result in results]
    return max(layouts, key=layouts.count, default=(False, False))


def main() -> None:
    """Draw the plot beside each JSON file."""
    for path in map(Path, sys.argv[1:]):
        draw(json.loads(path.read_text()), path.with_suffix(""))


if __name__ == "__main__":
    main()
