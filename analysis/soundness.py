"""Runs that are sound, each by itself, but not like the others that they would be compared with."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

_SHOWN = 8  # digits of a commit or a hash


class Problem(NamedTuple):
    """Something about a run that a reader of its numbers must know."""

    run: str
    problem: str


def unlike(runs: pd.DataFrame) -> list[Problem]:
    """Runs of other code or data than the rest, and runs that claim to be the same one.

    Args:
        runs: RUN_COLUMNS. What most of them have is taken as the rule: of the code among all of
            them, of the data among those of a dataset's name.
    """
    return [*_twins(runs), *_other_code(runs), *_other_data(runs)]


def _twins(runs: pd.DataFrame) -> list[Problem]:
    claimed = runs[runs["id"].notna() & runs["id"].duplicated(keep=False)]
    problems = []
    for run_id, group in claimed.groupby("id", sort=False):
        for run in group["run"]:
            others = ", ".join(name for name in group["run"] if name != run)
            problems.append(
                Problem(run, f"claims to be the same run ({run_id}) as {others}: keep one of them")
            )
    return problems


def _other_code(runs: pd.DataFrame) -> list[Problem]:
    problems = []
    versions = runs["code"].value_counts()
    rule = versions.index[0] if len(versions) else ""
    for run, code in zip(runs["run"], runs["code"], strict=True):
        commits = [word[:_SHOWN] for word in code.removesuffix(" changed").split()]
        changed = " with changes that are in no commit" * code.endswith("changed")
        if len(commits) > 1:
            problems.append(Problem(run, f"trained with several commits: {', '.join(commits)}"))
        elif code != rule:
            made = f"commit {commits[0]}{changed}" if commits else "code of an unknown version"
            problems.append(
                Problem(run, f"trained with {made}, most runs here with {_code(str(rule))}")
            )
    return problems


def _code(code: str) -> str:
    return (
        " and ".join(word if word == "changed" else word[:_SHOWN] for word in code.split())
        or "code of an unknown version"
    )


def _other_data(runs: pd.DataFrame) -> list[Problem]:
    problems = []
    for env, group in runs.groupby("env", sort=False):
        files = group["provenance"] + " data, sha256 " + group["sha256"].str[:_SHOWN]
        kinds = group["provenance"] + group["sha256"]
        counts = kinds.value_counts()
        if len(counts) < 2:
            continue
        rule = files[kinds == counts.index[0]].iloc[0]
        problems += [
            Problem(run, f"trained on other data for {env} ({file}) than most runs ({rule})")
            for run, file, kind in zip(group["run"], files, kinds, strict=True)
            if kind != counts.index[0]
        ]
    return problems
