"""Tables for LaTeX in booktabs' style, of which any name may hold any character."""

from __future__ import annotations

import re

import pandas as pd

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "†": r"\dag{}", "\u2212": "$-$", "\u2013": "--",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(
        _SPECIAL.get(character, re.sub(r"([&%$#_{}])", r"\\\1", character)) for character in text
    )


def environment(
    columns: str, header: str, body: list[str], caption: str, label: str, wide: bool = True
) -> str:
    """A table of finished lines, to be read by a document with \\input.

    Args:
        columns: such as `llrr`.
        header: the first line, without its end.
        body: the others, each with its end.
        caption: as LaTeX reads it.
        label: for \\ref.
        wide: over both columns of a page, scaled to their width.
    """
    kind = "table*" if wide else "table"
    return "\n".join(
        [
            r"% In the document's preamble: \usepackage{booktabs,graphicx}",
            rf"\begin{{{kind}}}[t]",
            r"\centering",
            rf"\caption{{\footnotesize {caption}}}",
            rf"\label{{{label}}}",
            r"\medskip",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            f"{header} \\\\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\end{{{kind}}}",
            "",
        ]
    )


def table(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A frame of strings, the first column to the left and the others to the right."""
    body = [f"{' & '.join(map(escape, row))} \\\\" for row in frame.itertuples(index=False)]
    columns = f"l{'r' * (frame.shape[1] - 1)}"
    return environment(
        columns, " & ".join(map(escape, frame.columns)), body, escape(caption), label
    )
