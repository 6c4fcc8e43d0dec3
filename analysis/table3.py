"""LOM's Table 3, the hyper-parameters: those that the runs actually used, beside the paper's.

    python -m analysis.table3 [sweep]

Read from each run's own configuration, not from the defaults of today's code. A value that differs
between datasets or runs is listed with where it holds. Markdown, CSV and LaTeX.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import command, folders, latex, scores
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Results

# Settings of Table 3 in Wang, Jin and Montana (ICLR 2025), by our names; as printed.
PAPER = {
    "M": "see Figure 3; {2, 5, 10, 15, 20}",
    "beta": "5",
    "algo.max_weight": "50",
    "algo.tau": "0.005 (averaging coefficient 0.995)",
    "algo.target_update_period": "2",
    "algo.hidden_sizes": "[512, 512]",
    "algo.behavior_hidden_sizes": "[512, 512]",
}
_SHOWN = ("M", "beta", "algo.", "updates.", "preprocessing.", "evaluation.", "dtype")
_LISTED = 3  # values; of more only how many
_LOM = ("lom", "lom_paper")


def compute(results: Results) -> pd.DataFrame:
    """`setting`, then what each algorithm's runs used, "" where it has none; `paper`, of LOM.

    Raises:
        AnalysisError: there is no readable run.
    """
    if results.runs.empty:
        raise AnalysisError(f"{results.folder}: no run to read a configuration of")
    used: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for run in results.runs.itertuples():
        config = folders.read_yaml(Path(run.folder) / "config.yaml")
        settings = {"M": config.get("M"), "beta": config.get("beta")} | folders.flatten(config)
        for name, value in settings.items():
            if name.startswith(_SHOWN) and name != "algo.num_components" and value is not None:
                by_label = used.setdefault(name, {})
                by_label.setdefault(run.label, []).append((_plain(value), run.env))
    labels = list(dict.fromkeys(results.runs["label"]))
    rows = [
        {"setting": name} | {label: _cell(by_label.get(label, [])) for label in labels}
        for name, by_label in used.items()
    ]
    frame = pd.DataFrame(rows)
    if set(labels) & set(_LOM):
        frame["paper's LOM"] = frame["setting"].map(PAPER).fillna("")
    order = {prefix: place for place, prefix in enumerate(_SHOWN)}
    rank = [
        next(order[prefix] for prefix in _SHOWN if name.startswith(prefix))
        for name in frame["setting"]
    ]
    return frame.assign(rank=rank).sort_values("rank", kind="stable").drop(columns="rank")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _cell(values: list[tuple[str, str]]) -> str:
    """`10`; `10 (hopper-medium), 5 (walker2d-medium)`; `5 values`."""
    counts = sorted({value for value, _ in values}, key=lambda value: (len(value), value))
    if len(counts) <= 1:
        return counts[0] if counts else ""
    where = {value: sorted({env for each, env in values if each == value}) for value in counts}
    if len({env for _, env in values}) == 1 or not _disjoint(list(where.values())):
        return ", ".join(counts) if len(counts) <= 2 * _LISTED else f"{len(counts)} values"
    if len(counts) > _LISTED:
        return f"{len(counts)} values"
    return ", ".join(f"{value} ({', '.join(envs)})" for value, envs in where.items())


def _disjoint(sets: list[list[str]]) -> bool:
    return sum(map(len, sets)) == len(set().union(*sets))


def write(results: Results, out: Path) -> Written:
    """Write table3.md, table3.csv and table3.tex into `out`; what `compute` raises."""
    frame = compute(results)
    title = f"Hyper-parameters used: {results.name}"
    runs = results.runs
    kinds = ", ".join(sorted(set(map(scores.data_name, runs["provenance"]))))
    notes = [
        f"From the configurations of {len(runs)} runs on {', '.join(sorted(set(runs['env'])))} "
        f"({kinds}). Of values that differ between runs all are listed, with the datasets where "
        "each holds if these tell them apart.",
        "Paper: Table 3 of Wang, Jin and Montana (ICLR 2025), which lists these alone. It divides "
        "the advantage by beta, as `lom_paper` does; the released code and `lom` multiply.",
    ]
    command.show(title, frame, notes)
    files = [out / f"table3.{kind}" for kind in ("md", "csv", "tex")]
    files[0].write_text(command.markdown(title, results, frame, notes), encoding="utf-8")
    frame.to_csv(files[1], index=False, lineterminator="\n")
    files[2].write_text(
        latex.table(frame, f"{title}. {' '.join(notes)}", "tab:lom-table3"), encoding="utf-8"
    )
    return Written(files, results.problems)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""

    def run(results: Results, out: Path, _: argparse.Namespace) -> Written:
        return write(results, out)

    return command.main(command.parser("The hyper-parameters that runs used."), run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
