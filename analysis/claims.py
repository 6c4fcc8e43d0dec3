"""The claims of LOM's paper on its results, checked on the numbers it prints and on ours.

    python -m analysis.claims [results] [--out FILE]

Prints the verdicts and writes a page: docs/claims.md, of those results of ours that docs/ keeps,
or claims.md in the folder of the results named, whose runs then stand for all they can show.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis import claim_scores, runs
from analysis.claim_checks import Reading
from analysis.claim_list import CLAIMS, Claim
from analysis.claim_scores import DOCS, Source
from analysis.folders import AnalysisError
from analysis.runs import Problem

_COLORS = {"holds": "green", "fails": "red", "open": "yellow"}
_NAMES = {  # of the tables of scores
    "table1": "Table 1",
    "table2": "Table 2",
    "figure2": "Figure 2",
    "figure3": "Figure 3",
    "figure4": "Figure 4",
    "figure5": "Figure 5",
    "ablation": "LOM with and without choosing a mode",
}
_HEAD = """\
# The paper's claims, checked

Made by `{command}`: sentences on results in *Learning on One Mode* (Wang, Jin and Montana, ICLR
2025), each checked by one function on the numbers that the paper prints and on ours.

- A verdict is of means. Who is best is who has the highest; ties and deviations are readings of
  their own, in which a deviation that is not given counts as 0.
- A gain over another method is 100 (LOM / other - 1) %. Printed scores are rounded: “by rounding”
  tells what a gain may be, and a claimed number holds if it may be that.
- The first reading of a claim is its plainest, and the summary's verdict. *Open*: too few of its
  datasets are known to tell.

Ours are (`docs/results.md` and `docs/multimodal.md` tell of those kept in `docs/`, whose budgets
are far below the paper's):

{ours}
**Where the data are not D4RL's or the training is shorter, this tells what holds here, not whether
the paper's results are right.**
"""
_TAIL = """\
## Not checked

- Theorems 1 to 3: they are about exact values, not about scores.
- “Reduced complexity”, “simplicity”: the paper measures neither.
- The sizes of data sets in Sections 6.1 and 6.2: they describe the set-up, and LOM's own Fetch data
  were not published.
- Figures 1, 2 and 4 beyond what is above: they are pictures, shown beside ours in
  [multimodal.md](multimodal.md).
"""


class Checked(NamedTuple):
    """A claim with its readings on the paper's numbers and on ours, none where there are none."""

    claim: Claim
    printed: list[Reading]
    ours: list[Reading]

    @property
    def summary(self) -> tuple[str, str]:
        """What becomes of it on the paper's numbers and on ours, in a few words."""
        unknown = "cannot be checked: no numbers printed"
        too_few = "" if self.claim.of_print else "not enough runs"
        return _short(self.printed) or unknown, _short(self.ours) or too_few


def check(printed: dict[str, Source], ours: dict[str, Source]) -> list[Checked]:
    """Every claim, on both."""
    checked = []
    for claim in CLAIMS:
        sides = printed, {} if claim.of_print else ours
        readings = (
            claim.check(side[claim.table].scores) if claim.table in side else [] for side in sides
        )
        checked.append(Checked(claim, *readings))
    return checked


def _short(readings: Sequence[Reading]) -> str:
    """`**fails**: 10 of 15; holds in 2 of 5 readings`."""
    if not readings:
        return ""
    first, counts = readings[0], Counter(reading.verdict for reading in readings)
    others = (
        f"; {verdict} in {count} of {len(readings)} readings"
        for verdict, count in counts.items()
        if verdict != first.verdict
    )
    return f"**{first.verdict}**: {first.numbers}{''.join(others)}"


def page(checked: Sequence[Checked], ours: dict[str, Source], command: str) -> str:
    """The Markdown: what ours are, a summary, then every claim with its readings."""
    listed = "".join(f"- {_NAMES[key]}: {source.about}\n" for key, source in ours.items())
    parts = [_HEAD.format(command=command, ours=listed), "## Summary\n"]
    rows = [
        [f"[{number}](#claim-{number})", f"“{each.claim.quote}”", each.claim.where, *each.summary]
        for number, each in enumerate(checked, 1)
    ]
    parts.append(_table(["", "the paper says", "in", "on its own numbers", "on ours"], rows))
    parts.append("## Claim by claim\n")
    for number, each in enumerate(checked, 1):
        parts.append(f"### Claim {number}\n\n“{each.claim.quote}” ({each.claim.where})\n")
        no_numbers = "" if each.printed else " The paper prints no numbers of it."
        parts.append(f"{each.claim.needs}{no_numbers}\n")
        if each.printed or each.ours:
            parts.append(_readings(each))
    return "\n".join([*parts, _TAIL])


def _readings(each: Checked) -> str:
    """A line per reading, but one if all agree; a side without numbers has no column."""
    sides = {"on the paper's numbers": each.printed, "on ours": each.ours}
    shown = {
        name: {reading.text: reading for reading in readings}
        for name, readings in sides.items()
        if readings
    }
    texts = list(dict.fromkeys(text for readings in shown.values() for text in readings))
    agreeing = all(
        len({reading.verdict for reading in readings}) < 2 for readings in sides.values()
    )
    more = ""
    if agreeing and len(texts) > 1:
        texts, others = texts[:1], texts[1:]
        more = f"\nThe same if read as: {'; '.join(others)}.\n"
    rows = [[text, *(_cell(readings.get(text)) for readings in shown.values())] for text in texts]
    return _table(["read as", *shown], rows) + more


def _cell(reading: Reading | None) -> str:
    if reading is None:
        return ""
    detail = f"; {reading.detail}" if reading.detail else ""
    return f"**{reading.verdict}**: {reading.numbers}{detail}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _print(checked: Sequence[Checked], problems: Sequence[Problem]) -> None:
    console = Console()
    table = Table(title="The claims of LOM's paper", show_lines=True)
    for name in ("", "the paper says", "on its own numbers", "on ours"):
        table.add_column(name)
    for number, each in enumerate(checked, 1):
        said = Text(f"{each.claim.quote} ").append(f"({each.claim.where})", style="dim")
        table.add_row(str(number), said, *map(_colored, each.summary))
    console.print(table)
    for run, problem in problems:
        console.print(f"{run}: {problem}", markup=False, highlight=False, soft_wrap=True)


def _colored(text: str) -> Text:
    _, verdict, rest = text.split("**") if text.startswith("**") else ("", "", text)
    return Text(verdict, style=_COLORS.get(verdict, "")).append(rest, style="not bold default")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 after an error a user can mend."""
    parser = argparse.ArgumentParser(description="Check the claims of LOM's paper.")
    parser.add_argument(
        "results", nargs="?", help="a sweep's name, a sweep folder or a results folder"
    )
    parser.add_argument("--out", type=Path, help="the page (default: see above)")
    arguments = parser.parse_args(argv)
    problems, folder, command = [], DOCS, "python -m analysis.claims"
    try:
        ours = claim_scores.kept()
        if arguments.results:
            results = runs.load(runs.find(arguments.results, Path("results")))
            own, problems = claim_scores.of_runs(results)
            ours, folder = ours | own, results.folder
            command += f" {arguments.results}"
        checked = check(claim_scores.printed(), ours)
        out = arguments.out or folder / "claims.md"
        out.write_text(page(checked, ours, command), encoding="utf-8")
    except (AnalysisError, OSError) as error:
        Console(stderr=True).print(f"error: {error}", markup=False, soft_wrap=True)
        return 1
    _print(checked, problems)
    Console().print(f"written: {out}", markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
