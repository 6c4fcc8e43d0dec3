"""The page: sections, tables, figures and the libraries they need, put into one file."""

from __future__ import annotations

import html
import importlib.resources
import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import pandas as pd

# As released, from the npm package plotly.js-basic-dist-min: a quarter of what the Python package
# plotly has, and so opened that much sooner.
PLOTLY = "plotly-basic-4.1.1.min.js"


class Section(NamedTuple):
    """A part of the page."""

    anchor: str
    title: str
    body: str  # HTML


class Figure(NamedTuple):
    """A figure of Plotly's."""

    name: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    caption: str


def escape(text: object) -> str:
    """Text as HTML, in an attribute or not."""
    return html.escape(str(text), quote=True)


def figure(made: Figure) -> str:
    """Where the page draws a figure, with its caption."""
    return (
        f'<figure><div class="plot" id="{escape(made.name)}" role="img" '
        f'aria-label="{escape(made.caption)}"></div>'
        f"<figcaption>{escape(made.caption)}</figcaption></figure>"
    )


def note(text: str, kind: str = "note") -> str:
    """A paragraph below a table."""
    return f'<p class="{kind}">{escape(text)}</p>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of names and values."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs) + "</dl>"


def link(target: str, text: str) -> str:
    """A link; `target` is a relative path or an address."""
    return f'<a href="{escape(target)}">{escape(text)}</a>'


class Html(str):
    """A cell that is HTML already; it sorts by its text."""


def table(
    name: str, frame: pd.DataFrame, long: Sequence[str] = (), rows: Sequence[str] = ()
) -> str:
    """A table that sorts numbers as numbers: a cell is a string, a number or Html.

    Args:
        name: its id.
        frame: a number is printed with one decimal or two; nan and "" are empty.
        long: columns whose text may break.
        rows: a `data-run` for each row.
    """
    numeric = {
        column
        for column in frame
        if any(isinstance(value, int | float) for value in frame[column])
        and not any(isinstance(value, str) and value for value in frame[column])
    }

    # Two decimals where all is small, such as hours.
    digits = {
        column: 1 if frame[column].abs().max() >= 10 else 2
        for column in numeric
        if pd.api.types.is_float_dtype(frame[column])
    }

    def cell(column: str, value: object) -> str:
        if isinstance(value, Html):
            return f"<td>{value}</td>"
        if column in numeric:
            empty = value is None or value == "" or math.isnan(float(value))  # type: ignore[arg-type]
            text = (
                ""
                if empty
                else f"{value:,}"
                if isinstance(value, int)
                else f"{value:.{digits[column]}f}"
            )
            order = -1e18 if empty else value
            return f'<td class="number" data-order="{order}">{text}</td>'
        return f"<td{' class=long' if column in long else ''}>{escape(value)}</td>"

    head = "".join(
        f'<th scope="col"{" class=number" if column in numeric else ""}>{escape(column)}</th>'
        for column in frame
    )
    marks = [f' data-run="{escape(run)}"' for run in rows] or [""] * len(frame)
    body = "".join(
        f"<tr{mark}>{''.join(map(cell, frame.columns, row))}</tr>\n"
        for mark, row in zip(marks, frame.itertuples(index=False), strict=True)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)} table">'
        f'<table class="data" id="{escape(name)}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def assemble(
    title: str, sections: Sequence[Section], figures: Sequence[Figure], curves: dict[str, Any]
) -> str:
    """The whole page."""
    mine = Path(__file__).with_name
    tables = importlib.resources.files("itables") / "html"
    data = {
        "figures": {each.name: {"data": each.data, "layout": each.layout} for each in figures},
        "curves": curves,
        "datatables": (tables / "dt_bundle.js").read_text(encoding="utf-8"),
    }
    return Template(mine("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=mine("page.css").read_text(encoding="utf-8"),
        datatables_css=(tables / "dt_bundle.css").read_text(encoding="utf-8"),
        navigation="".join(link(f"#{each.anchor}", each.title) for each in sections),
        sections="\n".join(
            f'<section id="{each.anchor}"><h2>{escape(each.title)}</h2>{each.body}</section>'
            for each in sections
        ),
        # In a script element nothing but its end tag ends it.
        data=json.dumps(_finite(data), separators=(",", ":")).replace("<", "\\u003c"),
        plotly=mine(PLOTLY).read_text(encoding="utf-8"),
        js=mine("page.js").read_text(encoding="utf-8"),
    )


def _finite(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
