"""What models of several kinds learn of two rings, as in LOM's Figure 5.

    python -m analysis.policies.figure5 [sweep] [--seed 0]

Above, without rewards: data, Gaussian, CVAE, CGAN, MDN; below, with rewards: data, the first three
weighted by them, the ten of the MDN's components that LOM's hyper-Q ranks highest. PNG, PDF, CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.axes
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Rectangle

from analysis import drawing, scores
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.policies import planes, rings, selection
from analysis.policies.rings import Floats, Shares
from analysis.runs import Results
from analysis.table import plain
from lom_exp import trained
from lom_exp.envs.rings import ACTION_SCALE, RINGS

REMEDY = "python launch.py -m experiment=figure5"
SAMPLES = 20_000
BEST = 10  # components of (j)
ROWS = ("rings-unrewarded", "rings")
METHODS = {"onestep": "Gaussian", "wcvae": "CVAE", "wcgan": "CGAN", "lom": "MDN"}

_PANEL_WIDTH, _HEIGHT = 1.93, 5.2  # inches
_BINS = 64  # an axis, of 0.05 each
_DARKEST = 0.003  # share of the points in a bin; the data's is about 0.0013 on the rings
_DENSITY = LinearSegmentedColormap.from_list("density", ["#D6E9F5", "#0072B2", "#00263D"])
_TINT = "#FBEFE6"  # of rewarded quadrants


class Panel(NamedTuple):
    """The dataset of a row, or a method's run on it."""

    env: str
    title: str
    points: Floats  # (P, 2) of the seed that is drawn
    shares: dict[int, Shares]  # by seed; of the dataset, which knows none, the drawn one's
    runs: pd.DataFrame  # its rows of `Results.runs`, one per seed; none for the dataset


def write(results: Results, out: Path, seed: int = 0) -> Written:
    """Draw the figure into `out` and write its numbers, also of other seeds, beside it.

    Raises:
        AnalysisError: as `select`.
        LomExpError: a run or its data cannot be loaded.
    """
    selected = select(results, seed)
    panels = [panel for env in ROWS for panel in _row(selected.runs, env, seed)]
    files = _draw(panels, seed, _caption(selected, panels, seed), out / "figure5")
    csv_file = out / "figure5.csv"
    _numbers(panels).round(6).to_csv(csv_file, index=False, lineterminator="\n")
    return Written([*files, csv_file], selected.problems)


def select(results: Results, seed: int) -> Results:
    """The finished runs of the figure, of this and of other seeds, and what concerns them.

    Raises:
        AnalysisError: a method has no finished run of this seed in one of the rows, or two of any
            seed, or the runs of a row were trained on different data.
    """
    runs = results.runs
    inside = runs[runs["env"].isin(ROWS) & runs["label"].isin(METHODS)]
    finished = inside[inside["status"] == "finished"]
    cells = [(method, env) for env in ROWS for method in METHODS]
    of_seed = finished[finished["seed"] == seed]
    there = set(zip(of_seed["label"], of_seed["env"], strict=True))
    missing = [f"{method} on {env}" for method, env in cells if (method, env) not in there]
    if missing:
        seeds = ", ".join(map(str, sorted(set(finished["seed"])))) or "none"
        raise AnalysisError(
            f"{results.folder}: no finished run, with seed {seed}, of {', '.join(missing)} "
            f"(seeds of finished ones: {seeds}). Train what is missing: {REMEDY} seed={seed}"
        )
    repeated = finished[finished.duplicated(["label", "env", "seed"], keep=False)]
    if not repeated.empty:
        named = "".join(
            f"\n  {row.run}" + f" ({row.settings})" * bool(row.settings)
            for row in repeated.sort_values(["label", "env", "seed", "run"]).itertuples()
        )
        raise AnalysisError(
            f"{results.folder}: which of these runs is to be drawn? Draw them from sweeps of their "
            f"own:{named}"
        )
    for env, row in finished.groupby("env"):
        if row["sha256"].nunique() > 1:
            listed = "".join(f"\n  {run.run}: sha256 {run.sha256[:12]}" for run in row.itertuples())
            raise AnalysisError(
                f"{results.folder}: the runs on {env} were trained on different data; draw them "
                f"from sweeps of their own:{listed}"
            )
    problems = [problem for problem in results.problems if problem.run in set(finished["run"])]
    return results._replace(runs=finished.sort_values("seed"), problems=problems)


def _row(runs: pd.DataFrame, env: str, seed: int) -> list[Panel]:
    """The five panels of a dataset."""
    rewarded, row = env == "rings", runs[runs["env"] == env]
    first = row.iloc[0]
    points = rings.data(trained.load(Path(first["folder"])), first["sha256"])
    title = "data with rewards" if rewarded else "data"
    panels = [Panel(env, title, points, {seed: rings.shares(points)}, row.iloc[:0])]
    states = np.random.default_rng(seed).choice(points[:, 0], SAMPLES)
    for method, name in METHODS.items():
        mine, best = row[row["label"] == method], None
        if rewarded:
            best = BEST if method == "lom" else None
            ranked = f"{name}, best {BEST} of {mine['M'].iloc[0]}"
            name = ranked if best else f"weighted {name}"
        sampled = {
            run.seed: rings.sample(trained.load(Path(run.folder)), states, best)
            for run in mine.itertuples()
        }
        found = {each: rings.shares(sampled[each]) for each in sampled}
        panels.append(Panel(env, name, sampled[seed], found, mine))
    return panels


def _numbers(panels: Sequence[Panel]) -> pd.DataFrame:
    """A row per panel and seed."""
    rows = []
    for letter, panel in zip("abcdefghij", panels, strict=True):
        shared = {"panel": letter, "title": panel.title, "env": panel.env}
        runs = panel.runs.set_index("seed")
        for seed, found in panel.shares.items():
            known = runs.loc[seed] if seed in runs.index else pd.Series(dtype=object)
            own = {name: known.get(name) for name in ("label", "M", "beta", "run")}
            own["seed"] = seed if seed in runs.index else None
            rows.append({**shared, **own, "points": len(panel.points), **found._asdict()})
    return pd.DataFrame(rows).astype({"M": "Int64", "seed": "Int64"})


def _draw(panels: Sequence[Panel], seed: int, caption: Sequence[str], stem: Path) -> list[Path]:
    columns = len(panels) // len(ROWS)
    with drawing.figure(_PANEL_WIDTH * columns, _HEIGHT, [], caption) as figure:
        all_axes = figure.subplots(len(ROWS), columns, sharex=True, sharey=True)
        for letter, axes, panel in zip("abcdefghij", all_axes.flat, panels, strict=True):
            axes.set_title(f"({letter}) {panel.title}", loc="left", fontweight="bold")
            axes.set_xlabel(_note(panel.shares, seed), fontsize=drawing.CAPTION_SIZE)
            _plane(axes, rewards=panel.env == "rings")
            _density(axes, panel.points)
        for axes in all_axes[:, 0]:
            axes.set_ylabel("action y", labelpad=1)
        return planes.save(figure, stem)


def _note(found: dict[int, Shares], seed: int) -> str:
    """The shares of the seed that is drawn, and their range over all seeds if there are more."""
    lines = ["state x"]
    for name in Shares._fields:
        values = [getattr(each, name) for each in found.values()]
        several = f" ({min(values):.0%} to {max(values):.0%})" if len(values) > 1 else ""
        lines.append(f"{name.replace('_', ' ')} {getattr(found[seed], name):.0%}{several}")
    return "\n".join(lines)


def _plane(axes: matplotlib.axes.Axes, *, rewards: bool) -> None:
    """Axes of states and actions with quadrants and the outlines of the rings."""
    limit = ACTION_SCALE
    axes.set_aspect("equal")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    axes.tick_params(labelbottom=True)
    axes.grid(False)
    if rewards:
        for corner in (0, -limit):
            axes.add_patch(Rectangle((corner, corner), limit, limit, color=_TINT, lw=0, zorder=0))
    for line in (axes.axhline, axes.axvline):
        line(0, color=drawing.INK, linewidth=0.5, zorder=1)
    for radius in RINGS.flat:
        axes.add_patch(
            Circle((0, 0), radius, fill=False, edgecolor=drawing.DATASET, lw=0.5, zorder=3)
        )


def _density(axes: matplotlib.axes.Axes, points: Floats) -> None:
    """The share of the points (P, 2) in each of 64 x 64 squares; nothing where there is none."""
    limit = ACTION_SCALE
    bounds = [[-limit, limit], [-limit, limit]]
    counts, _, _ = np.histogram2d(*points.T, bins=_BINS, range=bounds)
    share = np.ma.masked_equal(counts.T / len(points), 0)
    axes.imshow(
        share, cmap=_DENSITY, vmin=0, vmax=_DARKEST, origin="lower", interpolation="nearest",
        extent=(-limit, limit, -limit, limit), zorder=2,
    )  # fmt: skip


def _caption(selected: Results, panels: Sequence[Panel], seed: int) -> list[str]:
    """What is drawn, how the models relate to the paper's, and which runs they are."""
    runs = selected.runs
    beta = {method: plain(runs[runs["label"] == method]["beta"].iloc[0]) for method in METHODS}
    seeds = sorted(set(runs["seed"]))
    several = f", in brackets the range over the seeds {', '.join(map(str, seeds))}"
    lengths = "; ".join(
        f"{name} {drawing.lengths(runs[runs['label'] == method])[-1]}"
        for method, name in METHODS.items()
    )
    return [
        f"Blue: share of the points in a square of {2 * ACTION_SCALE / _BINS:g}, darkest from "
        f"{_DARKEST:.1%} on. Circles: bounds of the rings. Tinted: rewarded by 1, elsewhere by 0. "
        f"(a), (f): the dataset's {len(panels[0].points):,} points. Others: {SAMPLES:,} points, "
        "the states drawn from the dataset's, the actions from all that a model has learned of "
        "the state (evaluation plays a Gaussian's mean, and a generator's action for no noise). "
        f"Numbers: share of the points off a ring by {rings.TOLERANCE} at most, and in the first "
        f"or third quadrant{several * (len(seeds) > 1)}.",
        "Gaussian: one-step RL's policy, its mean and deviation functions of the state. Gaussian, "
        "CVAE and CGAN weight an action by exp(beta A) of its advantage A, with a beta of "
        f"{beta['onestep']}, {beta['wcvae']} and {beta['wcgan']}; without rewards by about 1. "
        f"MDN: the mixture that LOM fits first, of {panels[4].runs['M'].iloc[0]} components; (j): "
        f"the mixture of (e), at each state reduced to the {BEST} components of highest hyper-Q.",
        f"Data: {scores.data_name(runs['provenance'].iloc[0])}. Runs of {selected.name}, drawn: "
        f"seed {seed}. {lengths}.",
        *drawing.incomplete(selected),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = selection.parser("What models of several kinds learn of two rings.")

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.seed)

    return selection.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
