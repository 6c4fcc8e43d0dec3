"""What `analysis.table1` compares, as a table for a terminal, for Markdown and for LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from rich.console import Group
from rich.table import Table
from rich.text import Text

_UNFINISHED = "†"
_STYLES = {"ours": "", "paper": "dim", "difference": "italic"}


class Line(NamedTuple):
    """One line of the table: a dataset's scores of one kind, or their difference."""

    dataset: str
    kind: str  # ours, paper or difference
    cells: list[str]  # one per method, "" where there is nothing
    best: list[bool]  # whether the cell has the highest mean of its line


def lines(grid: pd.DataFrame) -> list[Line]:
    """Two lines per dataset, ours and the paper's, and their difference where there is one."""
    made = []
    for dataset, row in grid.groupby("dataset", sort=False):
        unfinished = row["status"].notna() & (row["status"] != "finished")
        marks = [_UNFINISHED * flag for flag in unfinished]
        ours = [
            text + mark
            for text, mark in zip(map(_score, row["mean"], row["std"]), marks, strict=True)
        ]
        printed = list(map(_score, row["paper_mean"], row["paper_std"]))
        made.append(Line(dataset, "ours", ours, _highest(row["mean"])))
        made.append(Line(dataset, "paper", printed, _highest(row["paper_mean"])))
        if row["difference"].notna().any():
            differences = [
                "" if math.isnan(value) else f"{round(value, 1) + 0.0:+.1f}"  # never -0.0
                for value in row["difference"]
            ]
            made.append(Line(dataset, "difference", differences, [False] * len(row)))
    return made


def paper_names(grid: pd.DataFrame) -> list[str]:
    """The paper's names of the methods, in the order of its columns."""
    return list(grid["paper_name"].unique())


def _score(mean: float, std: float) -> str:
    """`12.3±4.5`; the mean alone where there is no deviation, nothing where there is no mean."""
    if math.isnan(mean):
        return ""
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f}±{std:.1f}"


def _highest(means: pd.Series) -> list[bool]:
    """Ties in what is printed are ties; one mean alone is not the highest of anything."""
    rounded = means.round(1)
    return [means.notna().sum() > 1 and mean == rounded.max() for mean in rounded]


def terminal(title: str, grid: pd.DataFrame, notes: Sequence[str]) -> Group:
    """The table in 120 columns: a heading per kind of dataset, a line per robot below it."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("")
    for name in paper_names(grid):
        table.add_column(name, justify="right", overflow="fold")
    heading = ""
    for line in lines(grid):
        robot, _, kind = line.dataset.partition("-")
        if kind != heading:
            heading = kind
            table.add_row(Text(kind, style="bold"))
        table.add_row(
            robot if line.kind == "ours" else "",
            line.kind.replace("difference", "diff"),
            *(
                Text(text, style="bold" if best else "")
                for text, best in zip(line.cells, line.best, strict=True)
            ),
            style=_STYLES[line.kind],
        )
    return Group(
        Text(title, style="bold"), "", table, "", *(Text(note, style="dim") for note in notes)
    )


def markdown_body(grid: pd.DataFrame) -> pd.DataFrame:
    """The table's lines as the strings of a Markdown table."""
    rows = [
        [
            line.dataset if line.kind == "ours" else "",
            line.kind,
            *(
                f"**{text}**" if best else text
                for text, best in zip(line.cells, line.best, strict=True)
            ),
        ]
        for line in lines(grid)
    ]
    return pd.DataFrame(rows, columns=["dataset", "", *paper_names(grid)])


def latex(title: str, grid: pd.DataFrame, notes: Sequence[str]) -> str:
    """A table* in booktabs' style, to be read by a document with \\input."""
    body = []
    for line in lines(grid):
        if body and line.kind == "ours":
            body.append(r"\addlinespace")
        name = line.dataset if line.kind == "ours" else ""
        cells = [_math(*cell) for cell in zip(line.cells, line.best, strict=True)]
        body.append(f"{' & '.join([name, line.kind, *cells])} \\\\")
    caption = " ".join(map(_escape, [f"{title}.", *notes]))
    return "\n".join(
        [
            r"% In the document's preamble: \usepackage{booktabs,graphicx}",
            r"\begin{table*}[t]",
            r"\centering",
            rf"\caption{{\footnotesize {caption}}}",
            r"\label{tab:lom-table1}",
            r"\medskip",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{ll{'r' * len(paper_names(grid))}}}",
            r"\toprule",
            f"dataset & & {' & '.join(paper_names(grid))} \\\\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    )


def _math(text: str, best: bool) -> str:
    """`$12.3_{\\pm 4.5}$`, as the paper sets it."""
    if not text:
        return ""
    mean, _, std = text.removesuffix(_UNFINISHED).partition("±")
    mark = r"^{\dagger}" if text.endswith(_UNFINISHED) else ""
    mean = rf"\mathbf{{{mean}}}" if best else mean
    deviation = rf"_{{\pm {std}}}" if std else ""
    return f"${mean}{mark}{deviation}$"


def _escape(text: str) -> str:
    text = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", "/"))
    special = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
    return "".join(special.get(character, character) for character in text)
