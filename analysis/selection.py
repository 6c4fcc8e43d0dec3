"""What a sweep over M, beta or other settings scores, by how one of them is chosen.

    python -m analysis.selection [sweep] [--rule auto] [--rule min:behavior/loss] ...

Papers take the best setting of each dataset by the score that they then report. Beside that, marked
as optimistic, stand one setting for all datasets, and settings chosen without any test return, by
rules on what runs recorded:

- `auto`: the setting of which M=auto chose the M (the modes of the data's actions, docs/modes.md)
- `min:METRIC`, `max:METRIC`: the lowest or highest last value, mean over seeds, of a logged metric,
  such as a likelihood of held-out data or an off-policy estimate

Writes selection.md, .csv and .tex, and the curve of `bandit` as a figure with a CSV file.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import bandit, command, latex, methods, runs, scores, statistics
from analysis.aggregates import interval
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results

RULES = ("auto", "min:behavior/loss")
ORACLE, ONE = "oracle", "one for all"
_OVER = "mean"  # the row over datasets


class Choice(NamedTuple):
    """What a rule chose for an algorithm on its datasets; None where it cannot."""

    rule: str
    settings: dict[str, str | None]  # by dataset, a method's name
    why: str  # it cannot: what is not recorded


def choose(points: pd.DataFrame, rule: str, statistic: str, logged: pd.DataFrame) -> Choice:
    """Apply a rule to the runs of one algorithm.

    Args:
        points: rows of `scores.per_run` of one label, with `method`, which names the setting.
        rule: ORACLE, ONE, or a rule of the module's docstring.
        logged: `runs.load_metrics` of the runs.
    """
    means = points.groupby(["env", "method"])[statistic].mean().unstack()
    if rule == ORACLE:
        return Choice(rule, {env: row.idxmax() for env, row in means.iterrows()}, "")
    if rule == ONE:
        everywhere = means.dropna(axis=1)
        if everywhere.empty:
            return Choice(rule, dict.fromkeys(means.index), "no setting was run on every dataset")
        best = everywhere.mean().idxmax()
        return Choice(rule, dict.fromkeys(means.index, best), "")
    if rule == "auto":
        mine = points[points["M_source"].str.startswith("M=auto")]
        found = mine.groupby("env")["method"].unique()
        settings = {
            env: found[env][0] if env in found and len(found[env]) == 1 else None
            for env in means.index
        }
        why = "no run with M=auto" if mine.empty else "M=auto ran with several other settings"
        return Choice(rule, settings, why)
    side, _, metric = rule.partition(":")
    if side not in ("min", "max") or not metric:
        raise AnalysisError(f"no rule {rule!r}: give auto, min:METRIC or max:METRIC")
    values = logged[logged["metric"] == metric].sort_values("step").groupby("run")["value"].last()
    recorded = points.assign(value=points["run"].map(values))
    table = recorded.groupby(["env", "method"])["value"].agg(lambda each: each.mean(skipna=False))
    settings = {}
    for env in means.index:
        known = table[env]
        complete = known.notna().all()
        settings[env] = (known.idxmin() if side == "min" else known.idxmax()) if complete else None
    return Choice(rule, settings, f"not every run recorded {metric}")


def compute(
    results: Results, rules: Sequence[str] = RULES, statistic: str = scores.DEFAULT
) -> tuple[pd.DataFrame, list[Problem]]:
    """A row per algorithm, dataset (and their mean) and rule.

    Columns: `label`, `dataset`, `rule`, `setting`, `score`, `low`, `high`, `seeds`, `settings` (of
    how many was chosen), `why` (there is no score). No interval is given of what is chosen by its
    own score: it would not hold.

    Raises:
        AnalysisError: no algorithm was run with several settings, or there is no such rule.
    """
    points = scores.per_run(results)
    points = points.assign(method=methods.name(points))
    swept = points.groupby("label")["method"].transform("nunique") > 1
    points = points[swept & points[statistic].notna()]
    if points.empty:
        raise AnalysisError(
            f"{results.folder}: no algorithm was run with several settings, such as M=2,5,10"
        )
    logged, problems = (
        runs.load_metrics(points) if any(":" in rule for rule in rules) else (pd.DataFrame(), [])
    )
    rows = []
    for label, mine in points.groupby("label", sort=False):
        for rule in (ORACLE, ONE, *rules):
            choice = choose(mine, rule, statistic, logged)
            rows += _rows(str(label), mine, choice, statistic)
    return pd.DataFrame(rows), problems


def _rows(
    label: str, mine: pd.DataFrame, choice: Choice, statistic: str
) -> list[dict[str, object]]:
    chosen = {
        env: mine.loc[(mine["env"] == env) & (mine["method"] == setting), statistic].to_numpy()
        for env, setting in choice.settings.items()
        if setting is not None
    }
    counts = mine.groupby("env")["method"].nunique()
    rows: list[dict[str, object]] = []
    for env, setting in choice.settings.items():
        values = chosen.get(env, np.empty(0))
        low, high = scores.interval(values)[:2] if len(values) else (math.nan, math.nan)
        rows.append(
            {
                "label": label, "dataset": env, "rule": choice.rule, "setting": setting or "",
                "score": values.mean() if len(values) else math.nan, "low": low, "high": high,
                "seeds": len(values), "settings": counts[env],
                "why": "" if setting else choice.why,
            }
        )  # fmt: skip
    if len(choice.settings) > 1:
        complete = len(chosen) == len(choice.settings)
        nothing = statistics.Estimate(math.nan, math.nan, math.nan)
        over = statistics.aggregate(list(chosen.values()), statistics.mean) if complete else nothing
        rows.append(
            {
                "label": label, "dataset": _OVER, "rule": choice.rule, "setting": "",
                "score": over.value, "low": over.low, "high": over.high,
                "seeds": sum(map(len, chosen.values())), "settings": counts.max(),
                "why": "" if complete else "not chosen on every dataset",
            }
        )  # fmt: skip
    if choice.rule in (ORACLE, ONE):
        rows = [row | {"low": math.nan, "high": math.nan} for row in rows]
    return rows


def heading(rule: str) -> str:
    """How a table calls a rule."""
    names = {
        ORACLE: "oracle (optimistic)",
        ONE: "one for all datasets (optimistic)",
        "auto": "M=auto",
    }
    side, _, metric = rule.partition(":")
    return names.get(rule) or f"{'lowest' if side == 'min' else 'highest'} {metric}"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A row per algorithm and dataset, a column per rule, as strings."""
    rows = []
    for (label, dataset), group in table.groupby(["label", "dataset"], sort=False):
        cells = {"algorithm": label, "dataset": dataset}
        for row in group.to_dict("records"):
            setting = str(row["setting"]).removeprefix(f"{label} ")
            cells[heading(row["rule"])] = (
                f"- ({row['why']})"
                if math.isnan(row["score"])
                else interval(row["score"], row["low"], row["high"])
                + (f" [{setting}]" if setting else "")
            )
        rows.append(cells | {"settings tried": str(group["settings"].iloc[0])})
    return pd.DataFrame(rows)


def write(
    results: Results, out: Path, rules: Sequence[str] = RULES, statistic: str = scores.DEFAULT
) -> Written:
    """Write the table and the bandit's figure into `out`; what `compute` raises."""
    table, problems = compute(results, rules, statistic)
    results = results._replace(problems=[*results.problems, *problems])
    files = [out / f"selection.{kind}" for kind in ("md", "csv", "tex")]
    title, body = f"Scores by how a setting is chosen: {results.name}", readable(table)
    points = results.runs[results.runs["label"].isin(table["label"])]
    caption = notes(points, statistic)
    command.show(title, body, caption)
    files[0].write_text(command.markdown(title, results, body, caption), encoding="utf-8")
    table.round(6).to_csv(files[1], index=False, lineterminator="\n")
    files[2].write_text(
        latex.table(body, f"{title}. {' '.join(caption)}", "tab:selection"), encoding="utf-8"
    )
    labels = list(dict.fromkeys(table["label"]))
    drawn = bandit.write(results, labels, caption[-1], out)
    return Written([*files, *drawn], results.problems)


def notes(points: pd.DataFrame, statistic: str) -> list[str]:
    """What a reader must know; the last entry is of the data."""
    kinds = ", ".join(sorted(set(map(scores.data_name, points["provenance"]))))
    return [
        f"Of each run its {scores.STATISTICS[statistic]}, mean over seeds; in square brackets the "
        "setting chosen, in round ones Student's 95% interval over seeds.",
        "Oracle: on each dataset the setting with the highest score, as papers report it. It is "
        "optimistic, the more settings were tried and the fewer the seeds; so is, less, one "
        "setting chosen for all datasets by its mean score. Of neither is an interval given: it "
        "would not hold for what is chosen by the same scores.",
        "The other columns were chosen without any test return, from what the runs recorded. A "
        "behavior/loss is of the training data, where more components always fit better.",
        f"Data: {kinds}.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("Scores of a sweep by how a setting is chosen.")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default=scores.DEFAULT, help="of each run"
    )
    parser.add_argument(
        "--rule", action="append", help="auto, min:METRIC or max:METRIC; may be given repeatedly"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.rule or RULES, arguments.statistic)

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
