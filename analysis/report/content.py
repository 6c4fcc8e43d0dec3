"""What the page says: what was run, scores, comparisons, choices, curves, films, problems, runs."""

from __future__ import annotations

import base64
import os
import shlex
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis import (
    aggregates,
    comparison_forms,
    folders,
    frame,
    hours,
    methods,
    scores,
    selection,
    table,
    table1,
    table2,
    table3,
)  # fmt: skip
from analysis.folders import AnalysisError
from analysis.report import figures, page
from analysis.report.page import Figure, Html, Section
from analysis.runs import Problem, Results

_SHEETS = 3_000_000  # bytes of pictures inside the page; more are linked
_SHEET_NAMES = ("watch.png", "watch.gif")
_COMMIT = 8  # digits shown


class Content(NamedTuple):
    """Everything on the page."""

    sections: list[Section]
    figures: list[Figure]
    curves: dict[str, object]
    problems: list[Problem]


class _Report:
    """The page in the making."""

    def __init__(self, results: Results, out: Path, statistic: str) -> None:
        self.results, self.out, self.statistic = results, out, statistic
        self.sections: list[Section] = []
        self.figures: list[Figure] = []
        points = scores.per_run(results)
        self.points = points.assign(method=methods.name(points))
        self.hours = hours.compute(results)

    def add(self, anchor: str, title: str, *parts: str) -> None:
        self.sections.append(Section(anchor, title, "\n".join(part for part in parts if part)))

    def figure(self, made: Figure) -> str:
        self.figures.append(made)
        return page.figure(made)

    def link(self, path: Path, text: str) -> str:
        relative = os.path.relpath(path.resolve(), self.out.resolve())
        return page.link(urllib.parse.quote(Path(relative).as_posix()), text)

    def overview(self) -> None:
        everything, timed = self.results.runs, self.hours.runs
        counts = everything["status"].value_counts()
        codes = everything["code"].map(_code).value_counts()
        data = [
            f"{env}: {scores.data_name(provenance)}, sha256 {sha256[:12]}"
            + ("" if pd.isna(rows) else f", {rows:,} rows")
            for (env, provenance, sha256, rows), _ in everything.groupby(
                ["env", "provenance", "sha256", "rows"], dropna=False
            )
        ]
        pairs = [
            ("runs", f"{len(everything)}: {_listed(counts)}"),
            ("algorithms", ", ".join(sorted(set(everything["label"])))),
            ("data", "; ".join(data)),
            ("code", _listed(codes)),
            ("hardware", _listed(everything["device"].value_counts())),
            (
                "hours",
                f"{timed['hours'].sum():.2f} of training, which took "
                f"{timed['device_hours'].sum():.2f} device-hours: runs that trained together share "
                "their device; evaluation does not count",
            ),
            ("made by", self.results.command),
            ("shown", f"of each run its {scores.STATISTICS[self.statistic]}"),
        ]
        concerned = {run for run, _ in self.results.problems}
        warning = (
            page.note(
                f"{len(concerned)} runs are not finished or not sound: see Problems.", "warning"
            )
            if concerned
            else ""
        )
        self.add("run", "What was run", page.facts([pair for pair in pairs if pair[1]]), warning)

    def scored(self) -> None:
        cells = scores.per_cell(self.points)
        body = pd.DataFrame(
            {
                "algorithm": cells["label"],
                "dataset": cells["env"],
                "M": [table.plain(M) for M in cells["M"]],
                "beta": [table.plain(beta) for beta in cells["beta"]],
                "settings": cells["settings"],
                "seeds": cells["seeds"].astype(int).tolist(),
                **{scores.HEADINGS[name]: cells[name] for name in scores.STATISTICS},
                "std": cells[f"{self.statistic}_std"],
                "95% low": cells[f"{self.statistic}_low"],
                "95% high": cells[f"{self.statistic}_high"],
                "data's own": cells["dataset_score"],
                "data": cells["data"],
                "status": cells["status"],
            }
        ).astype({"seeds": object})
        keep = [column for column in body if (body[column].astype(str) != "").any()]
        parts = [self.figure(figures.cells(self.points, self.statistic))]
        if self.points["M"].nunique() > 1:
            parts.append(self.figure(figures.against_M(self.points, self.statistic)))
        notes = [page.note(text.replace("`", "")) for text in table.NOTES]
        self.add("scores", "Scores", *parts, page.table("cells-table", body[keep]), *notes)

    def over_datasets(self) -> None:
        found = aggregates.compute(self.results, self.statistic)
        if min(len(found.methods), len(found.datasets)) < 2:
            return
        notes = map(page.note, aggregates.notes_of(found, self.statistic))
        ranks = found.ranks.rename_axis("dataset").reset_index()
        self.add(
            "aggregates",
            "Over datasets",
            self.figure(figures.aggregates(found)),
            page.table("aggregates-table", aggregates.readable(found)),
            self.figure(figures.profiles(found, self.statistic)),
            "<h3>Ranks</h3>",
            page.table("ranks-table", ranks),
            *notes,
        )

    def against_paper(self) -> None:
        for module, anchor in ((table1, "table1"), (table2, "table2")):
            if not module.covers(self.results):
                continue
            _, made = module.compare(self.results, self.statistic)
            self.add(
                anchor,
                f"{module.PAPER.name} of LOM",
                page.table(f"{anchor}-table", comparison_forms.markdown_body(made).replace(
                    r"\*\*", "", regex=True
                )),
                *map(page.note, made.notes),
            )  # fmt: skip

    def chosen(self) -> None:
        made, _ = selection.compute(self.results, statistic=self.statistic)
        labels = list(dict.fromkeys(made["label"]))
        self.add(
            "selection",
            "Choosing a setting",
            page.table("selection-table", selection.readable(made)),
            *map(page.note, selection.notes(self.points, self.statistic)),
            self.figure(figures.bandits(self.results, labels, self.points)),
        )

    def curves(self) -> None:
        listed = self.points.merge(self.hours.runs, on="run", how="left")
        body = pd.DataFrame(
            {
                "run": [
                    Html(self.link(Path(folder), run))
                    for run, folder in zip(listed["run"], listed["folder"], strict=True)
                ],
                "method": listed["method"],
                "dataset": listed["env"],
                "seed": listed["seed"].astype(str),
                **{scores.HEADINGS[name]: listed[name] for name in scores.STATISTICS},
                "status": listed["status"],
                "hours": listed["hours"],
                "data": listed["provenance"].map(scores.data_name),
                "code": listed["code"].map(_code),
                "device": listed["device"],
                "MLflow": [Html(_mlflow(Path(folder))) for folder in listed["folder"]],
            }
        )
        self.add(
            "runs",
            "Runs and learning curves",
            page.note("Type into the filter, such as a method, a dataset or a seed, to choose."),
            '<p class="note">Drawn: <span id="chosen" role="status"></span>.</p>',
            self.figure(figures.empty_curves(self.points)),
            page.table("runs-table", body, rows=list(listed["run"])),
        )

    def timed(self) -> None:
        if not self.hours.runs.empty:
            made = figures.hours(self.hours.evaluations, self.points)
            self.add("hours-section", "Against hours", self.figure(made))

    def settings(self) -> None:
        self.add(
            "hyperparameters",
            "Hyper-parameters used",
            page.table("hyperparameters-table", table3.compute(self.results)),
        )

    def films(self) -> None:
        budget, pictures, links = _SHEETS, [], []
        for run, folder in zip(self.points["run"], self.points["folder"], strict=True):
            for name in _SHEET_NAMES:
                path = Path(folder) / name
                if not path.is_file():
                    continue
                links.append(f"<li>{self.link(path, f'{run}: {name}')}</li>")
                if path.suffix == ".png" and path.stat().st_size <= budget:
                    content = path.read_bytes()
                    budget -= len(content)
                    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
                    pictures.append(
                        f'<figure><img src="{source}" loading="lazy" alt="episodes of '
                        f'{page.escape(run)}"><figcaption>{page.escape(run)}</figcaption></figure>'
                    )
        if links:
            sheets = f'<div class="sheets">{"".join(pictures)}</div>'
            self.add("films", "Episodes", sheets, f"<ul>{''.join(links)}</ul>")

    def problems(self) -> None:
        found = frame.problems(self.results)
        found["kind"] = found["kind"].map({"problem": "not sound", "unlike": "unlike the rest"})
        body = (
            page.table("problems-table", found, long=["problem"])
            if len(found)
            else page.note("None: all runs are finished, sound, and of the same code and data.")
        )
        self.add("problems", "Problems", body)


def collect(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Content:
    """Everything there is to show; what cannot be is told in its place.

    Args:
        results: of any number of runs.
        out: the folder of the page, from which links to run folders go.
        statistic: of each run, a key of `scores.STATISTICS`.

    Raises:
        AnalysisError: nothing is evaluated yet, or a cell mixes data or repeats a seed.
    """
    report = _Report(results, out, statistic)
    parts: dict[str, Callable[[], None]] = {
        "": report.overview, "Scores": report.scored, "Over datasets": report.over_datasets,
        "The paper's numbers": report.against_paper, "Choosing a setting": report.chosen,
        "Runs": report.curves, "Against hours": report.timed, "Episodes": report.films,
        "Hyper-parameters used": report.settings, "Problems": report.problems,
    }  # fmt: skip
    for title, part in parts.items():
        try:
            part()
        except AnalysisError as error:
            anchor = title.lower().replace(" ", "-").replace("'", "")
            report.add(anchor, title, page.note(f"Not shown: {error}"))
    problems = [*results.problems, *report.hours.problems]
    curves = figures.curves(results, report.points)
    return Content(report.sections, report.figures, curves, problems)


def _listed(counts: pd.Series) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def _code(code: str) -> str:
    commits = [word[:_COMMIT] for word in code.removesuffix(" changed").split()]
    return "+".join(commits) + " changed" * code.endswith(" changed") if commits else "unknown"


def _mlflow(folder: Path) -> str:
    """A link to the run on its MLflow server, or its id where MLflow is a file."""
    try:
        destinations = folders.read_json(folder / "mlflow.json")["destinations"]
        where = [(each["uri"], each["experiment_id"], each["run_id"]) for each in destinations]
    except (AnalysisError, KeyError, TypeError):
        return ""
    made = []
    for uri, experiment, run_id in where:
        if str(uri).startswith(("http://", "https://")):
            address = f"{uri}/#/experiments/{experiment}/runs/{run_id}"
            made.append(page.link(address, str(run_id)[:_COMMIT]))
        else:
            title = f"mlflow server --backend-store-uri {shlex.quote(str(uri))}"
            shown = page.escape(str(run_id)[:_COMMIT])
            made.append(f'<span title="{page.escape(title)}">{shown}</span>')
    return " ".join(made)
