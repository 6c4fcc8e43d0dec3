"""The runs of a sweep, or of a whole results folder, as tidy frames.

A results folder holds `runs/<run>/` and `sweeps/<sweep>/sweep.json`. Nothing is skipped silently:
whatever cannot be used is in `Results.problems` with the run's name.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import cache, folders, soundness, tracked
from analysis.folders import AnalysisError
from analysis.soundness import Problem

RUN_COLUMNS = [
    "run", "id", "algorithm", "label", "env", "M", "beta", "settings", "by_hand", "M_source",
    "seed", "provenance", "sha256", "rows", "dataset_return", "dataset_score", "random_return",
    "expert_return", "updates", "code", "device", "pack", "status", "phase", "update",
    "error", "folder",
]  # fmt: skip
# One row of `Results.episodes`; a column of text or of few values is a categorical.
EPISODE_COLUMNS = [
    "run", "label", "env", "M", "beta", "seed", "phase", "update", "step", "final", "time",
    "episode", "return", "length", "score", "final_reward", "provenance", "status",
]  # fmt: skip
METRIC_COLUMNS = ["run", "phase", "update", "step", "metric", "value"]


class Results(NamedTuple):
    """The runs of one sweep, or of a whole results folder."""

    name: str
    folder: Path  # where tables and figures are written by default
    command: str  # that started the sweep; "" for a results folder
    runs: pd.DataFrame  # RUN_COLUMNS, one row per readable run
    episodes: pd.DataFrame  # EPISODE_COLUMNS, one row per episode of each evaluation of each run
    problems: list[Problem]  # what is unreadable, unfinished, failed, diverged or damaged
    unlike: Sequence[Problem] = ()  # sound runs that are not like the rest: `soundness.unlike`


def read(name: str | None, results: Path) -> Results:
    """The runs that `name` means: those of a folder (`find`), or of an MLflow server or database.

    Args:
        name: as `find` takes it, or a URI as `tracked.fetch` does.
        results: where sweeps are looked for, and what MLflow has is kept.

    Raises:
        AnalysisError: there is nothing of that name, or the server does not answer.
    """
    if name is None or not tracked.is_uri(name):
        return load(find(name, results))
    folder, problems = tracked.fetch(name, results)
    loaded = load(folder)
    return loaded._replace(name=tracked.shown(name), problems=[*loaded.problems, *problems])


def find(name: str | None, results: Path) -> Path:
    """The folder that `name` means: a path, a sweep's name in `results`, or the newest sweep.

    Raises:
        AnalysisError: there is no such folder; the message lists the sweeps that exist.
    """
    if name and (Path(name) / "runs").is_dir() and not any((Path(name) / "runs").iterdir()):
        raise AnalysisError(f"{name} holds no runs: train some with `python launch.py`")
    sweeps = {path.parent.name: path for path in sorted(results.glob("sweeps/*/sweep.json"))}
    if name is None:
        if not sweeps:
            raise AnalysisError(
                f"no sweep in {results / 'sweeps'}: start one with `python launch.py -m ...`, "
                "or name a results folder"
            )
        return max(sweeps.values(), key=_written).parent
    folder = Path(name)
    if (folder / "sweep.json").is_file() or (folder / "runs").is_dir():
        return folder
    if name in sweeps:
        return sweeps[name].parent
    known = ", ".join(sweeps) if sweeps else "none"
    raise AnalysisError(
        f"no sweep {name!r}: it is neither a folder with a sweep.json or a runs folder, nor a "
        f"sweep in {results / 'sweeps'} (there: {known})"
    )


def load(folder: Path) -> Results:
    """All runs of a sweep folder (those its sweep.json lists) or of a results folder.

    Raises:
        AnalysisError: sweep.json cannot be read.
    """
    sweep_file = folder / "sweep.json"
    if sweep_file.is_file():
        sweep = folders.read_json(sweep_file)
        if not isinstance(sweep.get("runs"), list):
            raise AnalysisError(f"{sweep_file}: no list of runs; start the sweep again")
        run_folders = [folder.resolve().parent.parent / "runs" / name for name in sweep["runs"]]
        name = str(sweep.get("name", folder.name))
        command = shlex.join(map(str, sweep.get("command", [])))
    else:
        run_folders = sorted(path for path in (folder / "runs").iterdir() if path.is_dir())
        name, command = folder.resolve().name, ""

    problems = [
        Problem(path.name, "not started: it has no folder yet")
        for path in run_folders
        if not path.is_dir()
    ]
    readings, unreadable = cache.read([path for path in run_folders if path.is_dir()])
    problems += [Problem(run, f"unreadable, left out: {why}") for run, why in unreadable.items()]
    for row, found in zip(readings.rows, readings.problems, strict=True):
        unfinished = [] if row["status"] == "finished" else [folders.progress(row)]
        problems += [Problem(row["run"], text) for text in [*unfinished, *found]]
    _add_settings(readings.rows, readings.settings)
    frame = pd.DataFrame(readings.rows, columns=RUN_COLUMNS)
    frame = frame.astype({"M": "Int64", "beta": float, "rows": "Int64"})
    order = {path.name: place for place, path in enumerate(run_folders)}
    problems.sort(key=lambda problem: order[problem.run])
    episodes = _with_runs(readings.episodes, frame)
    return Results(name, folder, command, frame, episodes, problems, soundness.unlike(frame))


def _with_runs(episodes: dict[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """EPISODE_COLUMNS: `cache.Readings.episodes`, with what is said of their runs."""
    place = episodes["run"]
    columns: dict[str, Any] = {}
    for name in ("run", "label", "env", "provenance", "status"):
        codes, categories = pd.factorize(runs[name])
        columns[name] = pd.Categorical.from_codes(codes[place], categories)
    for name in ("M", "beta", "seed"):
        columns[name] = runs[name].array.take(place)
    columns = episodes | columns
    return pd.DataFrame({name: columns[name] for name in EPISODE_COLUMNS}, copy=False)


def load_metrics(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """All logged metrics of `runs` (rows of `Results.runs`), as METRIC_COLUMNS, and what failed."""
    rows: list[tuple[Any, ...]] = []
    problems = []
    for run, folder in zip(runs["run"], runs["folder"], strict=True):
        entries, found = folders.read_lines(Path(folder) / "metrics.jsonl")
        problems += [Problem(run, text) for text in found]
        # An update that was logged again after a resume counts once.
        latest = {(entry["phase"], entry["update"]): entry for entry in entries}
        rows += [
            (run, entry["phase"], entry["update"], entry["step"], metric, folders.number(value))
            for entry in latest.values()
            for metric, value in entry["metrics"].items()
        ]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS), problems


def _written(sweep_file: Path) -> float:
    """When a sweep was started: what it says, or its file's time for want of that."""
    try:
        return float(folders.read_json(sweep_file)["time"])
    except (AnalysisError, KeyError, TypeError, ValueError):
        return sweep_file.stat().st_mtime


def _add_settings(rows: list[dict[str, Any]], flat: Sequence[dict[str, Any]]) -> None:
    """Name in `settings` what distinguishes runs of one label, env, M and beta, beyond the seed.

    Without it a sweep over, say, algo.tau would be averaged as if its values were seeds.
    """
    cells: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        cells.setdefault((row["label"], row["env"], row["M"], str(row["beta"])), []).append(index)
    varying: dict[tuple[str, str], set[str]] = {}
    for (label, env, *_), members in cells.items():
        keys = set().union(*(flat[index] for index in members))
        differing = {
            key for key in keys if len({repr(flat[index].get(key)) for index in members}) > 1
        }
        varying.setdefault((label, env), set()).update(differing)
    for row, settings in zip(rows, flat, strict=True):
        keys = sorted(varying[row["label"], row["env"]])
        row["settings"] = ", ".join(f"{key}={settings.get(key)}" for key in keys)
