"""How figures look: one style, one palette, captions, and files that depend on the data alone."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import scores
from analysis.runs import Results
from analysis.table import plain

PANEL = [*scores.CELL, "provenance"]
PANEL.remove("M")

# Okabe and Ito's palette: told apart by color-blind readers, and by lightness when printed gray.
SEED = "#8FA3AD"
DATASET = "#D55E00"
INK = "#333333"

# The color of an algorithm is the same in every figure and page; settings of one algorithm are told
# apart by lightness. Each stands out from every other by 15 units of CIELAB or more, for readers
# who see no red or no green as well (tests/test_aggregates.py).
ALGORITHMS = {
    "lom": "#0072B2", "lom_paper": "#B42D0F", "bc": "#777777", "bc_deterministic": "#3C5AC3",
    "mdn": "#003CC3", "onestep": "#87784B", "awac": "#E69F00", "crr": "#4B87A5",
    "td3": "#00B4FF", "td3_bc": "#870078", "cql": "#2D87FF", "iql": "#69C3B4",
    "lapo": "#C3B487", "dmpo": "#5AC3E1", "infodmpo": "#F0A55A", "wcgan": "#870F0F",
    "wcvae": "#882255",
}  # fmt: skip
_OTHERS = ("#332288", "#44AA99", "#661100", "#6699CC", "#AA4466", "#4D4D4D")

_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "analysis",
}
CAPTION_SIZE = 7.5
_LINE_HEIGHT = 1.35 * CAPTION_SIZE / 72  # inches
_CHARACTERS_PER_INCH = 17.0
_EDGE = 0.08  # inches
_TITLE_HEIGHT = 0.26  # inches
_LEGEND_ROW_HEIGHT, _LEGEND_ENTRY_WIDTH, _LEGEND_CHARACTER_WIDTH = 0.2, 1.65, 0.073  # inches


def _by_numbers(method: str) -> list[tuple[float, str]]:
    """So that M=5 comes before M=10."""
    parts = re.split(r"(\d+(?:\.\d+)?)", method)
    return [(float(part), "") if i % 2 else (-1.0, part) for i, part in enumerate(parts)]


def algorithm(label: str) -> str:
    """The color of an algorithm."""
    return colors([label])[label]


def colors(methods: Sequence[str]) -> dict[str, str]:
    """A color for each method, `lom` or `lom M=5`: its algorithm's, lighter for later settings."""
    made = {}
    unknown = sorted({method.split(" ")[0] for method in methods} - ALGORITHMS.keys())
    for label in dict.fromkeys(method.split(" ")[0] for method in methods):
        mine = [method for method in methods if method.split(" ")[0] == label]
        mine.sort(key=_by_numbers)  # whatever the order they are shown in
        base = ALGORITHMS.get(label) or _OTHERS[unknown.index(label) % len(_OTHERS)]
        for place, method in enumerate(mine):
            white = 0.7 * place / len(mine)
            channels = [int(base[i : i + 2], 16) for i in (1, 3, 5)]
            mixed = [round(channel + white * (255 - channel)) for channel in channels]
            made[method] = "#" + "".join(f"{channel:02X}" for channel in mixed)
    return made


@contextmanager
def figure(
    width: float, height: float, legend: Sequence[Line2D], caption: Sequence[str], title: str = ""
) -> Iterator[Figure]:
    """A figure with `width` x `height` inches for panels; title and legend above, caption below.

    Args:
        caption: one paragraph an entry; folded to the width.
    """
    below_text = fold(caption, width)
    titles = textwrap.wrap(title, int(width * 12.5))
    longest = max((len(str(line.get_label())) for line in legend), default=0)
    entry_width = max(_LEGEND_ENTRY_WIDTH, 0.5 + _LEGEND_CHARACTER_WIDTH * longest)
    legend_columns = max(1, min(len(legend), int(width / entry_width)))
    titled = len(titles) * _TITLE_HEIGHT
    above = titled + math.ceil(len(legend) / legend_columns) * _LEGEND_ROW_HEIGHT + _EDGE
    below = (below_text.count("\n") + 1) * _LINE_HEIGHT + 0.12
    total = above + height + below
    with matplotlib.rc_context(_STYLE):
        made = Figure(figsize=(width, total), layout="constrained")
        made.get_layout_engine().set(
            rect=(0, below / total, 1, height / total), w_pad=_EDGE, h_pad=_EDGE
        )
        left = _EDGE / width
        made.text(left, 1 - _EDGE / total, "\n".join(titles), va="top", fontsize=10.5)
        made.legend(
            handles=legend,
            loc="upper left",
            bbox_to_anchor=(left, 1 - (titled + _EDGE / 2) / total),
            borderaxespad=0,
            ncols=legend_columns,
            columnspacing=1.4,
        ).set_in_layout(False)
        made.text(
            left,
            (below - 0.04) / total,
            below_text,
            va="top",
            fontsize=CAPTION_SIZE,
            linespacing=1.2,
            color=INK,
        )
        yield made


def limits(values: Sequence[float], ends: Sequence[float], margin: float) -> tuple[float, float]:
    """Limits of an axis that holds all `values`, and the `ends` of intervals as far as is sensible.

    An interval of two seeds is many times as wide as they are apart: it is let out of the axis
    where the values themselves would be pressed together.
    """
    points = np.array([value for value in values if math.isfinite(value)] or [0.0])
    low, high = points.min(), points.max()
    reach = max(high - low, 1.0)
    bars = np.array([end for end in ends if math.isfinite(end)] or [low])
    low = max(min(low, bars.min()), low - reach)
    high = min(max(high, bars.max()), high + reach)
    edge = margin * max(high - low, 1.0)
    return float(low - edge), float(high + edge)


def save(made: Figure, stem: Path) -> list[Path]:
    """Write `stem`.png and `stem`.pdf, without dates: the same results give the same bytes."""
    png, pdf = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.pdf")
    # The layout's solver differs in the last digits from one time to the next.
    made.draw_without_rendering()
    made.set_layout_engine("none")
    for axes in made.axes:
        axes.set_position([round(value, 5) for value in axes.get_position().bounds])
    made.savefig(png, dpi=200)
    made.savefig(pdf, metadata={"CreationDate": None})
    return [png, pdf]


def heading(panel: pd.DataFrame) -> list[str]:
    """Dataset; algorithm and what is fixed; which data: a line each."""
    first = panel.iloc[0]
    fixed = [first["label"]]
    if not pd.isna(first["beta"]):
        fixed.append(f"beta={plain(first['beta'])}")
    if first["settings"]:
        fixed.append(first["settings"])
    return [first["env"], ", ".join(fixed), scores.data_name(first["provenance"])]


def fold(lines: Sequence[str], width: float) -> str:
    """Lines in the caption's size, folded to `width` inches."""
    columns = int(width * _CHARACTERS_PER_INCH)
    return "\n".join(part for line in lines for part in textwrap.wrap(line, columns))


def lengths(panel: pd.DataFrame) -> list[str]:
    """The seeds and the configured phase lengths of a panel's runs, a line each."""
    seeds = sorted(set(panel["seed"]))
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    updates = sorted({tuple(entry.items()) for entry in panel["updates"]})
    phases = " or ".join(
        " + ".join(f"{count:,} {phase}" for phase, count in entry) for entry in updates
    )
    return [named, f"{phases} updates"] if phases else [named]


def incomplete(results: Results) -> list[str]:
    """A paragraph for a caption if not all runs are finished and sound."""
    concerned = {run for run, _ in results.problems}
    if not concerned:
        return []
    total = len(concerned | set(results.runs["run"]))
    return [
        f"INCOMPLETE: {len(concerned)} of {total} runs of {results.name} are unfinished, missing "
        "or damaged; the command's output and table.md name them."
    ]
