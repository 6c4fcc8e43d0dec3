"""The scores that the claims of LOM's paper are held against: what it prints, and ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis import comparison, scores, table1, table2
from analysis.claim_checks import Scores
from analysis.comparison import PaperTable
from analysis.runs import Problem, Results

DOCS = Path(__file__).resolve().parents[1] / "docs"
_ROBOTS = ("halfcheetah", "hopper", "walker2d")
MEDIUM_REPLAY = [f"{robot}-medium-replay" for robot in _ROBOTS]
FULL_REPLAY = [f"{robot}-full-replay" for robot in _ROBOTS]
_TABLES = {  # with what is averaged of our runs, and the statistic of it over evaluations
    "table1": (table1.PAPER, "score", "last_ten"),
    "table2": (table2.PAPER, "return", "last"),
}
NO_MODE = "LOM without choosing a mode"
_HALF_A_DIGIT = 0.05  # the paper's scores have one decimal


_MODELS = {"onestep": "Gaussian", "wcvae": "CVAE", "wcgan": "CGAN", "lom": "MDN"}  # of Figure 5


class Source(NamedTuple):
    """A table of scores, and where it is from."""

    scores: Scores
    about: str


def printed() -> dict[str, Source]:
    """The paper's Tables 1 and 2; of its figures it prints no numbers."""
    made = {}
    for key, (paper, *_) in _TABLES.items():
        means, deviations = _in_paper(paper, paper.numbers(), "paper_mean", "paper_std")
        made[key] = Source(Scores(means, deviations, _HALF_A_DIGIT), f"{paper.name}, as printed")
    return made


def of_runs(results: Results) -> tuple[dict[str, Source], list[Problem]]:
    """Ours from runs: whichever of Table 1, Table 2 and Figure 3 they can show, and what is unused.

    Raises:
        AnalysisError: a cell mixes data or repeats a seed.
    """
    made, used = {}, set()
    for key, (paper, quantity, statistic) in _TABLES.items():
        if comparison.covers(results, paper):
            points = scores.per_run(comparison.select(results, paper).shown, quantity)
            grid = comparison.grid(paper, points, statistic)
            frames = _in_paper(paper, grid, "mean", "std")
            run = grid.dropna(subset="mean")
            made[key] = _source(frames, run, results.name, scores.STATISTICS[statistic])
            used |= set(points["run"])
    swept = _swept(results)
    if not swept.empty:
        cells = scores.per_cell(swept).rename(columns={"env": "dataset"})
        frames = _in_figure3(cells, "last_ten", "last_ten_std")
        made["figure3"] = _source(frames, cells, results.name, scores.STATISTICS["last_ten"])
        used |= set(swept["run"])
    unused = (
        Problem(run, "not used: no claim is of it, or its cell was run with several settings")
        for run in results.runs["run"]
        if run not in used
    )
    return made, [*results.problems, *unused]


def _swept(results: Results) -> pd.DataFrame:
    """LOM's runs on Figure 3's datasets, `scores.per_run`, of cells that have one setting."""
    if results.episodes.empty:
        return results.runs.iloc[:0]
    points = scores.per_run(results)
    points = points[
        (points["label"] == "lom") & points["env"].isin([*MEDIUM_REPLAY, *FULL_REPLAY])
    ].dropna(subset="M")
    settings = points["beta"].astype(str) + points["settings"]
    return points[settings.groupby([points["env"], points["M"]]).transform("nunique") == 1]


def kept(folder: Path = DOCS) -> dict[str, Source]:
    """Ours from the tables that docs/ keeps."""
    last_ten, last = scores.STATISTICS["last_ten"], scores.STATISTICS["last"]
    reduced = pd.read_csv(folder / "methods_reduced.csv")
    trained = ~reduced["settings"].str.contains(r"updates\.policy=0\b", na=False)
    reduced = reduced[trained].rename(columns={"label": "method", "env": "dataset"})
    swept = pd.read_csv(folder / "figure3_reduced.csv").rename(columns={"env": "dataset"})
    swept["seeds"] = swept.groupby(["dataset", "M"])["seed"].transform("nunique")
    swept = swept.drop_duplicates(["dataset", "M"])
    ours = pd.read_csv(folder / "table2.csv")
    ablation = pd.read_csv(folder / "ablation.csv")
    ablation = ablation.rename(columns={"label": "method", "env": "dataset"})
    ablation["method"] = ablation["method"].replace({"lom": "LOM", "lom_no_mode": NO_MODE})
    made = {
        "table1": (_in_paper(table1.PAPER, reduced, "last_ten", "last_ten_std"), reduced,
                   "methods_reduced.csv", last_ten),
        "table2": (_in_paper(table2.PAPER, ours, "mean", "std"), ours, "table2.csv",
                   f"return, {last}"),
        "figure3": (_in_figure3(swept, "mean", "std"), swept, "figure3_reduced.csv", last_ten),
        "ablation": (_wide(ablation, "method", "last", "last_std"), ablation, "ablation.csv", last),
    }  # fmt: skip
    return {key: _source(*table) for key, table in made.items()} | _figures(folder / "figures")


def _figures(folder: Path) -> dict[str, Source]:
    """What the figures of trained policies show, as shares in % and standard deviations."""
    generated = scores.data_name("generated")

    samples = pd.read_csv(folder / "figure2.csv")
    samples = samples[samples["method"] != "dataset"].assign(dataset="fetch-reach", std=math.nan)
    samples["method"] = samples["method"].replace(table2.PAPER.methods)
    samples["near"] = 100 * samples["near_best_expert"]

    components = pd.read_csv(folder / "figure4.csv")
    components = components[components["chosen"]].assign(dataset="fetch-reach", std=math.nan)
    components["width"] = components[["std_dx", "std_dy"]].mean(axis=1)

    rings = pd.read_csv(folder / "figure5.csv").dropna(subset="label")
    rings = rings.rename(columns={"label": "method", "env": "dataset"})
    rings = rings.rename(columns={"on_rings": "on the rings"})
    rings["method"] = rings["method"].replace(_MODELS)
    long = rings.melt(["dataset", "method", "seed"], ["on the rings", "rewarded"], "share", "value")
    long = long.assign(value=100 * long["value"], dataset=long["dataset"] + ", " + long["share"])
    cells = long.groupby(["dataset", "method"])["value"].agg(["mean", "std"]).reset_index()
    seeds = rings["seed"].nunique()

    return {
        "figure2": Source(
            Scores(*_wide(samples, "method", "near", "std")),
            f"`figures/figure2.csv`: fetch-reach, {generated}, 1 seed, % of actions",
        ),
        "figure4": Source(
            Scores(*_wide(components, "M", "width", "std"), digits=2),
            f"`figures/figure4.csv`: fetch-reach, {generated}, 1 seed, standard deviation",
        ),
        "figure5": Source(
            Scores(*_wide(cells, "method", "mean", "std"), subject="MDN"),
            f"`figures/figure5.csv`: rings, {generated}, {seeds} seeds, % of actions",
        ),
    }


def _source(
    frames: tuple[pd.DataFrame, pd.DataFrame], rows: pd.DataFrame, where: str, statistic: str
) -> Source:
    """The scores, and a line on them from the columns `dataset`, `data` and `seeds` of `rows`."""
    datasets = rows["dataset"].unique()
    named = ", ".join(datasets) if len(datasets) <= 3 else f"{len(datasets)} datasets"
    fewest, most = int(rows["seeds"].min()), int(rows["seeds"].max())
    seeds = f"{most}" if fewest == most else f"{fewest} to {most}"
    data = "; ".join(rows["data"].unique())
    return Source(
        Scores(*frames), f"`{where}`: {named}, {data}, {seeds} seed{'s' * (most > 1)}, {statistic}"
    )


def _in_paper(
    paper: PaperTable, rows: pd.DataFrame, mean: str, deviation: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and deviations of the paper's datasets and methods, nan where there is none."""
    order = {"index": paper.numbers()["dataset"].unique(), "columns": list(paper.methods)}
    means, deviations = (
        frame.reindex(**order).rename(columns=paper.methods)
        for frame in _wide(rows, "method", mean, deviation)
    )
    return means, deviations


def _in_figure3(rows: pd.DataFrame, mean: str, deviation: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means and deviations of the figure's datasets, a column per M that was run."""
    means, deviations = (
        frame.reindex(index=[*MEDIUM_REPLAY, *FULL_REPLAY])
        for frame in _wide(rows.astype({"M": int}), "M", mean, deviation)
    )
    return means, deviations


def _wide(
    rows: pd.DataFrame, columns: str, mean: str, deviation: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    means, deviations = (
        rows.pivot(index="dataset", columns=columns, values=value).astype(float)
        for value in (mean, deviation)
    )
    return means, deviations
