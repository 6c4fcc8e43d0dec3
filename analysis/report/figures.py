"""The figures of the page, as Plotly takes them: plain lists and dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis import bandit, drawing, methods, scores, statistics
from analysis.aggregates import Aggregates
from analysis.report.page import Figure
from analysis.runs import Results

MOST_CURVES = 30
_BAND = "Bars: Student's 95% interval of the mean over seeds; none of one seed."


def data_of(points: pd.DataFrame) -> str:
    """Which data and how many seeds, for a caption."""
    kinds = ", ".join(sorted(set(map(scores.data_name, points["provenance"]))))
    seeds = sorted({len(group) for _, group in points.groupby(scores.CELL, dropna=False)})
    return f"Data: {kinds}. Seeds: {' or '.join(map(str, seeds))}."


def cells(points: pd.DataFrame, statistic: str) -> Figure:
    """A point with its interval for every method on every dataset."""
    colors = drawing.colors(list(dict.fromkeys(points["method"])))
    data = []
    for method, mine in points.groupby("method", sort=False):
        datasets = mine.groupby("env")[statistic]
        intervals = {env: scores.interval(np.sort(values)) for env, values in datasets}
        means = datasets.mean()
        half = [means[env] - intervals[env].low for env in means.index]
        data.append(
            {
                "x": list(means.index), "y": _rounded(means), "name": str(method),
                "mode": "markers", "type": "scatter",
                "marker": {"color": colors[method], "size": 9},
                "error_y": {"type": "data", "array": _rounded(half), "color": colors[method]},
                "hovertemplate": "%{x}: %{y:.1f} ± %{error_y.array:.1f}"
                "<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    low, high = drawing.limits([*points[statistic]], [], margin=0.15)
    layout = {
        "xaxis": {"type": "category"}, "scattermode": "group", "scattergap": 0.4,
        "yaxis": {"title": {"text": "normalized score"}, "range": [low, high]},
    }  # fmt: skip
    caption = (
        f"Score of each method: mean over seeds of a run's {scores.STATISTICS[statistic]}. {_BAND} "
        f"They may leave the figure where seeds are few. {data_of(points)}"
    )
    return Figure("cells", data, layout, caption)


def against_M(points: pd.DataFrame, statistic: str) -> Figure:
    """LOM's Figure 3: score against the number of components, a line per algorithm and dataset."""
    with_M = points[points["M"].notna()]
    lines = list(with_M.groupby(["label", "env", "beta", "settings"], dropna=False, sort=False))
    shades = drawing.colors([f"{key[0]} {index}" for index, (key, _) in enumerate(lines)])
    data = []
    for color, ((label, env, beta, settings), mine) in zip(shades.values(), lines, strict=True):
        by_M = mine.groupby("M")[statistic]
        half = [mean - scores.interval(np.sort(values)).low for (_, values), mean in
                zip(by_M, by_M.mean(), strict=True)]  # fmt: skip
        given = "" if pd.isna(beta) else f" beta={beta:g}"
        first, more, _ = settings.partition(", ")
        data.append(
            {
                "x": [str(M) for M in by_M.mean().index], "y": _rounded(by_M.mean()),
                "name": f"{label} {env}{given} {first}{' ...' * bool(more)}".strip(),
                "mode": "lines+markers",
                "line": {"color": color}, "error_y": {"type": "data", "array": _rounded(half)},
                "hovertemplate": "M = %{x}: %{y:.1f} ± %{error_y.array:.1f}"
                "<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    low, high = drawing.limits([*with_M[statistic]], [], margin=0.15)
    order = [str(M) for M in sorted(with_M["M"].unique())]
    layout = {
        "xaxis": {
            "type": "category", "categoryorder": "array", "categoryarray": order,
            "title": {"text": "number of components M"},
        },
        "yaxis": {"title": {"text": "normalized score"}, "range": [low, high]},
        "showlegend": True,
    }  # fmt: skip
    caption = f"Score against M, as in LOM's Figure 3. {_BAND} {data_of(with_M)}"
    return Figure("against-M", data, layout, caption)


def aggregates(found: Aggregates) -> Figure:
    """IQM, mean and median with their intervals."""
    names, colors = found.methods[::-1], drawing.colors(found.methods)
    overall = found.overall.set_index("method").loc[names]
    symbols = ("circle", "square", "diamond")
    data = []
    for symbol, aggregate in zip(symbols, statistics.AGGREGATES, strict=True):
        value = overall[aggregate]
        data.append(
            {
                "x": _rounded(value), "y": names, "name": aggregate, "mode": "markers",
                "marker": {"color": [colors[name] for name in names], "symbol": symbol, "size": 9},
                "error_x": {
                    "type": "data", "symmetric": False, "color": "#888888",
                    "array": _rounded(overall[f"{aggregate}_high"] - value),
                    "arrayminus": _rounded(value - overall[f"{aggregate}_low"]),
                },
                "hovertemplate": "%{y}: %{x:.1f}<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "normalized score"}}, "scattermode": "group",
        "yaxis": {"type": "category", "automargin": True},
        "height": 120 + 60 * len(names),
    }  # fmt: skip
    caption = (
        f"Over {', '.join(found.datasets)}. Bars: 95% intervals of a stratified bootstrap over "
        f"seeds, widened for few. {data_of(found.points)}"
    )
    return Figure("aggregates-figure", data, layout, caption)


def profiles(found: Aggregates, statistic: str) -> Figure:
    """Performance profiles with their bands."""
    values = found.points[statistic]
    thresholds = np.linspace(values.min() - 1e-9, values.max(), 61)
    colors, data = drawing.colors(found.methods), []
    for name in found.methods:
        strata = methods.strata(found.points, name, found.datasets, statistic)
        share, low, high = statistics.profile(strata, thresholds)
        data += _band(thresholds, low, high, name, colors[name])
        data.append(
            {
                "x": _rounded(thresholds), "y": _rounded(share, 3), "name": name, "mode": "lines",
                "line": {"color": colors[name]}, "legendgroup": name,
                "hovertemplate": "%{y:.0%} of runs above %{x:.1f}<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "normalized score"}},
        "yaxis": {"title": {"text": "share of runs above"}, "range": [-0.02, 1.02]},
    }  # fmt: skip
    caption = (
        f"Performance profiles over {', '.join(found.datasets)}. Band: pointwise 95% interval "
        f"over seeds, of a stratified bootstrap. {data_of(found.points)}"
    )
    return Figure("profiles", data, layout, caption)


def bandits(results: Results, labels: list[str], points: pd.DataFrame) -> Figure:
    """Score of a policy chosen online against the episodes spent on it."""
    colors, data = drawing.colors(labels), []
    spent = np.arange(1 + bandit.EPISODES)
    for label in labels:
        datasets = bandit.policies(results, label)
        if not datasets:
            continue
        mean, low, high = bandit.curve(list(datasets.values()))
        data += _band(spent, low, high, label, colors[label])
        data.append(
            {
                "x": spent.tolist(), "y": _rounded(mean), "name": label, "mode": "lines",
                "line": {"color": colors[label]}, "legendgroup": label,
                "hovertemplate": "%{y:.1f} after %{x} episodes<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "episodes spent on choosing"}},
        "yaxis": {"title": {"text": "normalized score of the choice"}},
    }
    caption = (
        "Score of the policy that a UCB bandit would choose among all runs of a method, settings "
        f"and seeds, after so many episodes: mean of {bandit.TRIALS:,} trials and of the datasets; "
        f"band: their middle half. {data_of(points)}"
    )
    return Figure("bandit", data, layout, caption)


def hours(curves: pd.DataFrame, points: pd.DataFrame) -> Figure:
    """Score against device-hours: for each method the mean over seeds at the same update."""
    merged = curves.merge(points[["run", "method", "env"]], on="run")
    colors, data = drawing.colors(list(dict.fromkeys(points["method"]))), []
    for (method, env), mine in merged.groupby(["method", "env"], sort=False):
        by_update = mine.groupby("update")[["device_hours", "score"]].agg(["mean", "size"])
        whole = by_update[by_update["score", "size"] == mine["run"].nunique()]
        data.append(
            {
                "x": _rounded(whole["device_hours", "mean"], 4),
                "y": _rounded(whole["score", "mean"]), "name": f"{method} {env}",
                "mode": "lines", "line": {"color": colors[method]},
                "hovertemplate": "%{y:.1f} after %{x:.3f} h<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "device-hours of a run's updates"}},
        "yaxis": {"title": {"text": "normalized score"}},
    }
    devices = ", ".join(sorted(set(points["device"])))
    caption = (
        "Mean over seeds; no band. Hours without evaluation and pauses; runs that trained together "
        f"share their device's. Device: {devices}. {data_of(points)}"
    )
    return Figure("hours", data, layout, caption)


def empty_curves(points: pd.DataFrame) -> Figure:
    """Learning curves, to be filled with the runs that a reader chooses."""
    layout = {
        "xaxis": {"title": {"text": "updates"}},
        "yaxis": {"title": {"text": "normalized score"}}, "showlegend": True,
    }  # fmt: skip
    caption = (
        f"Learning curves of the first {MOST_CURVES} runs that the filter of the table below "
        "leaves, in the table's order: mean of an evaluation's episodes, unsmoothed. "
        f"{data_of(points)}"
    )
    return Figure("curves", [], layout, caption)


def curves(results: Results, points: pd.DataFrame) -> dict[str, Any]:
    """Every run's learning curve; runs evaluated at the same updates share these."""
    colors = drawing.colors(list(dict.fromkeys(points["method"])))
    means = scores.evaluations(results.episodes)
    means = means[means["phase"] == means.groupby("run")["phase"].transform("last")]
    by_run = dict(list(means.groupby("run", sort=False)))
    grids: dict[tuple[int, ...], int] = {}
    made = {}
    for point in points.itertuples():
        mine = by_run[point.run]
        grid = grids.setdefault(tuple(mine["update"].tolist()), len(grids))
        made[point.run] = {
            "grid": grid, "scores": _rounded(mine["score"]), "color": colors[point.method],
            "group": f"{point.method} {point.env}",
            "name": f"{point.method} {point.env} seed {point.seed}",
        }  # fmt: skip
    return {"grids": [list(grid) for grid in grids], "runs": made, "most": MOST_CURVES}


def _band(x: Any, low: Any, high: Any, name: str, color: str) -> list[dict[str, Any]]:
    if np.isnan(low).any():
        return []
    channels = ", ".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))
    return [
        {
            "x": _rounded([*x, *x[::-1]]), "y": _rounded([*low, *high[::-1]], 3), "fill": "toself",
            "fillcolor": f"rgba({channels}, 0.15)", "line": {"width": 0}, "hoverinfo": "skip",
            "showlegend": False, "legendgroup": name, "mode": "lines",
        }
    ]  # fmt: skip


def _rounded(values: Any, digits: int = 2) -> list[float]:
    return [round(float(value), digits) for value in values]
