"""What a reader of Table 1 must know of its numbers: data, seeds, updates, what is missing."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from analysis import scores


def notes(
    points: pd.DataFrame, grid_size: int, statistic: str, left_out: int, missing: int
) -> list[str]:
    """The caption, a paragraph each.

    Args:
        points: rows of `scores.per_run`, those that the table shows.
        grid_size: number of the table's cells.
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.
        left_out: number of runs that do not belong into the table.
        missing: number of runs that do and have nothing to show.
    """
    paragraphs = [
        "Scores are normalized returns, 100 (R - random) / (expert - random). Ours: mean ± "
        f"standard deviation over seeds of the {scores.STATISTICS[statistic]} of each run "
        f"({scores.sizes(points)}); a mean without deviation is of one seed. Difference: ours - "
        "paper. Bold: the highest mean of a line, whatever the deviations.",
        "Paper: Table 1 of Wang, Jin and Montana (ICLR 2025), 4 seeds, on D4RL's data; it gives "
        "deviations for LAPO to LOM only and does not say which evaluations it averages.",
        _data_note(points),
        f"Seeds: {_by_value(points, lambda cell: ', '.join(map(str, sorted(cell['seed']))))}.",
        f"Updates: {_by_value(points, lambda cell: updates(cell['updates'].iloc[0]))}.",
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
    empty = grid_size - len(points.groupby(["label", "env"]))
    if empty:
        paragraphs.append(f"{empty} of the {grid_size} cells are empty.")
    unfinished = points[points["status"] != "finished"]
    if not unfinished.empty:
        paragraphs.append(
            f"INCOMPLETE (†): {len(unfinished)} of the {len(points)} runs shown are not finished "
            f"({_where(unfinished, points)})."
        )
    if missing:
        paragraphs.append(
            f"INCOMPLETE: {missing} more runs are not started, unreadable or not evaluated yet."
        )
    if left_out:
        paragraphs.append(
            f"Left out: {left_out} runs of other methods, datasets or settings; the command's "
            "output and table1.md name them."
        )
    return paragraphs


def _data_note(points: pd.DataFrame) -> str:
    kinds = points["provenance"].map(scores.data_name)
    parts = [
        f"{kind} ({_where(points[kinds == kind], points, by='env')})" for kind in kinds.unique()
    ]
    note = f"Data: {'; '.join(parts)}."
    if (points["provenance"] != "d4rl").any():
        note += (
            " Where the data are not D4RL's, the difference is one of data too, and speaks neither "
            "for nor against the paper's numbers."
        )
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


def _by_value(points: pd.DataFrame, value: Callable[[pd.DataFrame], str]) -> str:
    """What `value` says of the cells: once if of all the same, else with the cells it holds for."""
    cells = points.groupby(["label", "env"], sort=False)
    values = pd.Series({cell: value(runs) for cell, runs in cells})
    if values.nunique() == 1:
        return str(values.iloc[0])
    of_run = pd.MultiIndex.from_frame(points[["label", "env"]]).map(values)
    return "; ".join(
        f"{text} ({_where(points[of_run == text], points)})" for text in values.unique()
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


def updates(lengths: dict[str, int]) -> str:
    """`200,000 behavior + 1,000,000 policy`."""
    return " + ".join(f"{count:,} {phase}" for phase, count in lengths.items())
