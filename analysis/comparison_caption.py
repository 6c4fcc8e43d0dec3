"""What a reader must know of the runs beside a paper's table: data, seeds, what is missing."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis import scores
from analysis.comparison import Selection, updates


def runs(selection: Selection, cells: int, page: str) -> list[str]:
    """What holds for the runs shown, and what is not shown: a paragraph each.

    Args:
        cells: how many the table has.
        page: the file that names the runs left out.
    """
    points = selection.points
    paragraphs = [
        f"Seeds: {by_value(points, lambda cell: ', '.join(map(str, sorted(cell['seed']))))}.",
        f"Updates: {by_value(points, lambda cell: updates(cell['updates'].iloc[0]))}.",
    ]
    by_hand = points[points["by_hand"] != ""]
    if not by_hand.empty:
        settings = by_hand["by_hand"].str.split(r", (?=[\w.]+=)", regex=True)
        parts = [
            f"{setting} ({_where(runs, points)})"
            for setting, runs in by_hand.assign(setting=settings)
            .explode("setting")
            .groupby("setting", sort=False)
        ]
        paragraphs.append(f"Settings given by hand, other than conf/'s: {'; '.join(parts)}.")
    empty = cells - len(points.groupby(["label", "env"]))
    if empty:
        paragraphs.append(f"{empty} of the {cells} cells are empty.")
    unfinished = points[points["status"] != "finished"]
    if not unfinished.empty:
        paragraphs.append(
            f"INCOMPLETE (†): {len(unfinished)} of the {len(points)} runs shown are not finished "
            f"({_where(unfinished, points)})."
        )
    if selection.missing:
        paragraphs.append(
            f"INCOMPLETE: {selection.missing} more runs are not started, unreadable or not "
            "evaluated yet."
        )
    if selection.left_out:
        paragraphs.append(
            f"Left out: {selection.left_out} runs of other methods, datasets or settings; the "
            f"command's output and {page} name them."
        )
    return paragraphs


def data(points: pd.DataFrame, remark: str) -> str:
    """Where the data came from, with a remark if any are not D4RL's; a warning if they differ."""
    kinds = points["provenance"].map(scores.data_name)
    parts = [
        f"{kind} ({_where(points[kinds == kind], points, by='env')})" for kind in kinds.unique()
    ]
    note = f"Data: {'; '.join(parts)}."
    if (points["provenance"] != "d4rl").any():
        note += f" {remark}"
    for dataset, runs in points.groupby("env"):
        files = runs.groupby(["provenance", "sha256"], sort=False)
        if len(files) > 1:
            listed = "; ".join(
                f"{', '.join(runs['label'].unique())}: {scores.data_name(provenance)}, sha256 "
                f"{sha256[:12]}"
                for (provenance, sha256), runs in files
            )
            note += f" NOT COMPARABLE: the methods' data for {dataset} differ ({listed})."
    return note


def by_value(points: pd.DataFrame, value: Callable[[pd.DataFrame], str]) -> str:
    """What `value` says of the cells: once if of all the same, else with the cells it holds for.

    Where it says nothing, "", nothing is listed.
    """
    cells = points.groupby(["label", "env"], sort=False)
    values = pd.Series({cell: value(runs) for cell, runs in cells})
    if values.nunique() == 1:
        return str(values.iloc[0])
    of_run = pd.MultiIndex.from_frame(points[["label", "env"]]).map(values)
    return "; ".join(
        f"{text} ({_where(points[of_run == text], points)})" for text in values.unique() if text
    )


def _where(part: pd.DataFrame, points: pd.DataFrame, by: str = "label") -> str:
    """The cells of `part` in few words: whole methods, whole datasets, then the other cells."""
    if len(part) == len(points):
        return "all"
    left, names = part, []
    for column in ("label", "env") if by == "label" else ("env", "label"):
        whole = [
            value
            for value, runs in left.groupby(column, sort=False)
            if len(runs) == (points[column] == value).sum()
        ]
        names += whole
        left = left[~left[column].isin(whole)]
    cells = left[["label", "env"]].drop_duplicates()
    names += [f"{label} on {env}" for label, env in cells.itertuples(index=False)]
    return ", ".join(names)
