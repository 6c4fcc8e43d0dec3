"""The runs of a sweep, or of a whole results folder, as tidy frames.

A results folder holds `runs/<run>/` and `sweeps/<sweep>/sweep.json`. Nothing is skipped silently:
whatever cannot be used is in `Results.problems` with the run's name.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis import folders
from analysis.folders import AnalysisError

RUN_COLUMNS = [
    "run", "algorithm", "label", "env", "M", "beta", "settings", "by_hand", "seed", "provenance",
    "sha256", "rows", "dataset_return", "dataset_score", "updates", "status", "phase", "update",
    "error", "folder",
]  # fmt: skip
METRIC_COLUMNS = ["run", "phase", "update", "step", "metric", "value"]

# Where and how fast a run computes and where it writes is not what it computes; what `network`
# chooses stands in the algorithm's own fields.
_NOT_SETTINGS = {
    "M", "beta", "seed", "network", "env.path", "results", "sweep_name", "tracking", "device",
    "compile", "threads", "vectorize", "evaluation_workers", "log_every", "checkpoint_every",
}  # fmt: skip


class Problem(NamedTuple):
    """Something about a run that a reader of its numbers must know."""

    run: str
    problem: str


class Results(NamedTuple):
    """The runs of one sweep, or of a whole results folder."""

    name: str
    folder: Path  # where tables and figures are written by default
    command: str  # that started the sweep; "" for a results folder
    runs: pd.DataFrame  # RUN_COLUMNS, one row per readable run
    episodes: (
        pd.DataFrame
    )  # folders.EPISODE_COLUMNS, one row per episode of each evaluation of each run
    problems: list[Problem]


def find(name: str | None, results: Path) -> Path:
    """The folder that `name` means: a path, a sweep's name in `results`, or the newest sweep.

    Raises:
        AnalysisError: there is no such folder; the message lists the sweeps that exist.
    """
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

    rows, configs, episodes, problems = [], [], [], []
    for run_folder in run_folders:
        if not run_folder.is_dir():
            problems.append(Problem(run_folder.name, "not started: it has no folder yet"))
            continue
        try:
            row, config = folders.read_run(run_folder)
        except (AnalysisError, OSError) as error:
            problems.append(Problem(run_folder.name, f"unreadable, left out: {error}"))
            continue
        run_episodes, found = folders.read_episodes(run_folder, row)
        rows.append(row)
        configs.append(config)
        episodes += run_episodes
        unfinished = [] if row["status"] == "finished" else [folders.progress(row)]
        problems += [Problem(row["run"], text) for text in [*unfinished, *found]]

    _add_settings(rows, configs)
    runs = pd.DataFrame(rows, columns=RUN_COLUMNS)
    frame = pd.DataFrame(episodes, columns=folders.EPISODE_COLUMNS)
    runs = runs.astype({"M": "Int64", "beta": float, "rows": "Int64"})
    frame = frame.astype({"M": "Int64", "beta": float, "length": int, "final_reward": float})
    return Results(name, folder, command, runs, frame, problems)


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


def _add_settings(rows: list[dict[str, Any]], configs: list[dict[str, Any]]) -> None:
    """Name in `settings` what distinguishes runs of one label, env, M and beta, beyond the seed.

    Without it a sweep over, say, algo.tau would be averaged as if its values were seeds.
    """
    flat = [_flatten(config) for config in configs]
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


def _flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in _NOT_SETTINGS:
            continue
        if isinstance(value, dict):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat
