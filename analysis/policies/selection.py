"""Which runs of a sweep a figure of policies is drawn from, and what its caption says of them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis import command, drawing, scores
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Results
from lom_exp import datasets, trained
from lom_exp.datasets.rows import Rows, read_hdf5
from lom_exp.errors import DataError, LomExpError
from lom_exp.trained import TrainedRun

ENV = "fetch-reach"


def parser(description: str) -> argparse.ArgumentParser:
    """The arguments of every figure here: those of all commands of `analysis`, and the seed."""
    made = command.parser(description)
    made.add_argument("--seed", type=int, default=0, help="the seed of the runs to draw")
    return made


def with_M(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The same, for a figure of one number of components."""
    made.add_argument("--M", type=int, help="of the runs to draw, where the sweep has several")
    return made


def main(
    made: argparse.ArgumentParser,
    write: Callable[[Results, Path, argparse.Namespace], Written],
    argv: Sequence[str] | None,
) -> int:
    """`command.main` for a figure that loads runs; what a user can mend there is told likewise."""

    def translated(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        try:
            return write(results, out, arguments)
        except LomExpError as error:
            raise AnalysisError(str(error)) from error

    return command.main(made, translated, argv)


def rows_of(run: TrainedRun, sha256: str) -> Rows:
    """All rows of the dataset that a run was trained on, whose sha256 its record has.

    Raises DataError where they are not there any more.
    """
    env = run.spec.env
    path = datasets.locate(env)
    if datasets.identify(env) != sha256:
        raise DataError(
            f"{path} is not what {run.name} was trained on (sha256 {sha256[:12]}...); train the "
            "runs again, or bring that file back as env.path"
        )
    rows, _ = read_hdf5(path)
    return rows


def select(
    results: Results, labels: Sequence[str], seed: int, remedy: str, M: int | None = None
) -> Results:
    """The runs of the methods `labels` on fetch-reach with this seed, and what concerns them.

    Args:
        remedy: the command that trains what is missing, the seed left out.
        M: of the methods that have one; None where any will do.

    Raises:
        AnalysisError: a method has none, or not all were trained on the same data.
    """
    runs = results.runs
    chosen = runs[runs["label"].isin(labels) & (runs["env"] == ENV) & (runs["seed"] == seed)]
    if M is not None:
        chosen = chosen[chosen["M"].isna() | (chosen["M"] == M)]
    missing = [label for label in labels if label not in set(chosen["label"])]
    if missing:
        of_M = "" if M is None else f" and M={M}"
        raise AnalysisError(
            f"{results.folder}: no run of {', '.join(missing)} on {ENV} with seed {seed}{of_M} "
            f"(there: {_listed(runs)}). Train what is missing: {remedy} seed={seed}"
            + ("" if M is None else f" M={M}")
        )
    if len(set(chosen["sha256"])) > 1:
        listed = "".join(f"\n  {row.run}: sha256 {row.sha256[:12]}" for row in chosen.itertuples())
        raise AnalysisError(
            f"{results.folder}: the runs to compare were trained on different data; draw them from "
            f"sweeps of their own:{listed}"
        )
    concerned = set(chosen["run"])
    problems = [problem for problem in results.problems if problem.run in concerned]
    return results._replace(runs=chosen.reset_index(drop=True), problems=problems)


def load_each(selected: Results, by: str) -> dict[str | int, TrainedRun]:
    """The selected runs by their value of the column `by`, each of which must be one run's.

    Raises:
        AnalysisError: two runs have the same one.
        LomExpError: a run cannot be loaded; the message says why.
    """
    repeated = selected.runs[selected.runs[by].duplicated(keep=False)].sort_values([by, "run"])
    if not repeated.empty:
        named = "".join(
            f"\n  {row.run}" + f" ({row.settings})" * bool(row.settings)
            for row in repeated.itertuples()
        )
        remedy = "choose one with --M, or " * (repeated["M"].nunique() > 1)
        raise AnalysisError(
            f"{selected.folder}: which of these runs is to be drawn? {remedy}draw them from sweeps "
            f"of their own:{named}"
        )
    ordered = selected.runs.sort_values(by)
    return {
        key: trained.load(Path(folder))
        for key, folder in zip(ordered[by].tolist(), ordered["folder"], strict=True)
    }


def described(selected: Results, runs: Sequence[TrainedRun]) -> list[str]:
    """Paragraphs of a caption: which data, which runs, how long they were trained."""
    record = selected.runs.iloc[0]
    env = runs[0].spec.env
    trajectories = f"{env.num_trajectories:,} trajectories" if env.num_trajectories else "a file"
    alike: dict[tuple[str, str, str], list[str]] = {}  # the M of runs that differ in M alone
    for run in runs:
        of_M = alike.setdefault((run.spec.label, _settings(run), _budget(run)), [])
        of_M += [] if run.spec.M is None else [str(run.spec.M)]
    methods = []
    for (label, settings, budget), of_M in alike.items():
        details = [f"M={', '.join(of_M)}"] * bool(of_M) + [settings] * bool(settings)
        methods.append(" ".join([label, *[f"({'; '.join(details)})"] * bool(details), budget]))
    return [
        f"Data: {ENV}, {trajectories} ({scores.data_name(record['provenance'])}). "
        f"Runs of {selected.name}, seed {record['seed']}: {'; '.join(methods)} updates.",
        *drawing.incomplete(selected),
    ]


def _settings(run: TrainedRun) -> str:
    """What is not at its algorithm's default, but for M."""
    config = run.spec.config
    defaults = type(config)()
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return ", ".join(
        f"{name}={value}"
        for name, value in given.items()
        if name != "num_components" and value != getattr(defaults, name)
    )


def _budget(run: TrainedRun) -> str:
    phases = " + ".join(f"{count:,} {phase}" for phase, count in run.spec.updates.items())
    done = run.step == sum(run.spec.updates.values())
    return phases if done else f"{phases}, of which {run.step:,} are done,"


def _listed(runs: pd.DataFrame) -> str:
    """What there is, a method and dataset an entry."""
    groups = runs.groupby(["label", "env"], sort=True)["seed"]
    entries = [
        f"{label} on {env} with seed {', '.join(map(str, sorted(set(seeds))))}"
        for (label, env), seeds in groups
    ]
    return "; ".join(entries) or "no run that can be read"
