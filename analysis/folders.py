"""The files of one run folder, checked; nothing else in `analysis` opens them.

- `config.yaml`        the resolved configuration
- `record.json`        what the run is, where its data came from
- `status.json`        running, finished, failed, diverged or interrupted, and how far it came
- `evaluations.jsonl`  one line per evaluation, one return, length and score per episode
                       (and the reward of its last step, which older runs do not have)
- `metrics.jsonl`      one line per logging interval (only where a figure asks for metrics)
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

FILES = ("config.yaml", "record.json", "status.json", "evaluations.jsonl")  # what `read` reads
PROVENANCES = ("d4rl", "collected", "generated")  # anything else is unknown
# What an evaluation lists, and what one value of it is called.
_LISTS = {
    "returns": "return",
    "lengths": "length",
    "scores": "score",
    "final_rewards": "final_reward",
}
_LINE_KEYS = {
    "metrics.jsonl": {"phase", "update", "step", "metrics"},
    "evaluations.jsonl": {"phase", "update", "step", "final", "returns", "lengths", "scores"},
}
# Where and how fast a run computes and where it writes is not what it computes; what `network`
# chooses stands in the algorithm's own fields.
_NOT_SETTINGS = {
    "M", "beta", "seed", "network", "env.path", "results", "sweep_name", "tracking", "device",
    "compile", "cuda_graphs", "tf32", "share", "threads", "vectorize", "evaluation_workers",
    "log_every", "checkpoint_every", "pack_size", "retries", "wait",
}  # fmt: skip


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML in C where there is libyaml: of 10,000 runs it would otherwise take minutes."""


# 1e-4 is a number, which YAML 1.1 denies.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class Reading(NamedTuple):
    """One run folder, read."""

    row: dict[str, Any]  # what the run is and how far it came: runs.RUN_COLUMNS but for `settings`
    settings: dict[str, Any]  # all that decides what it computes, with dotted names
    evaluations: dict[str, list[Any]]  # EVALUATION: one value per evaluation
    episodes: dict[str, NDArray[np.float64]]  # EPISODE: one value per episode, in their order
    problems: list[str]  # a sentence for all that was left out


EVALUATION = {"phase": str, "update": int, "step": int, "final": bool, "time": float, "size": int}
EPISODE = tuple(_LISTS.values())


class AnalysisError(Exception):
    """Results that cannot be analyzed; the message names the culprit and the remedy."""


def read(folder: Path) -> Reading:
    """All that a run folder says of a run but its metrics.

    Raises:
        AnalysisError: record.json or config.yaml is missing, damaged or without what a table needs.
    """
    row, config = _read_run(folder)
    spread = row["expert_return"] - row["random_return"]
    scored = math.isfinite(spread) and spread != 0
    evaluations, episodes, problems = _read_evaluations(folder, scored)
    return Reading(row, flatten(config), evaluations, episodes, problems)


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    record = read_json(folder / "record.json")
    config = read_yaml(folder / "config.yaml")
    for key in ("label", "env", "seed"):
        if key not in record:
            raise AnalysisError(f"{folder / 'record.json'}: no {key!r}")
    if not isinstance(record.get("M"), int | None):
        raise AnalysisError(f"{folder / 'record.json'}: M is {record['M']!r}, not a whole number")

    try:
        status = read_json(folder / "status.json")
    except AnalysisError:
        status = {}
    dataset = record.get("dataset") or {}
    provenance = dataset.get("provenance")
    mean_return = number(dataset.get("mean_episode_return"))
    env = config.get("env") or {}
    random_return, expert_return = (
        number(env.get(key)) for key in ("random_return", "expert_return")
    )
    spread = expert_return - random_return or math.nan
    commits = [*(record.get("earlier_commits") or []), record.get("git_commit")]
    row = {
        "run": folder.name,
        "id": record.get("id"),
        "algorithm": record.get("algorithm", ""),
        "label": record["label"],
        "env": record["env"],
        "M": record.get("M"),
        "beta": number(record.get("beta")),
        "M_source": (record.get("sources") or {}).get("M", ""),
        "by_hand": _by_hand(record.get("sources") or {}, config),
        "seed": record["seed"],
        "provenance": provenance if provenance in PROVENANCES else "unknown",
        "sha256": dataset.get("sha256") or "unknown",
        "rows": number(dataset.get("rows")),
        "dataset_return": mean_return,
        "dataset_score": 100 * (mean_return - random_return) / spread,
        "random_return": random_return,
        "expert_return": expert_return,
        "updates": config.get("updates") or {},
        "code": " ".join(filter(None, commits)) + " changed" * bool(record.get("git_dirty")),
        "device": record.get("device") or "unknown",
        "pack": Path(status.get("log") or "").name,  # the log is of the runs trained together
        "status": status.get("status", "unknown"),
        "phase": status.get("phase"),
        "update": status.get("update"),
        "error": status.get("error"),
    }
    return row, config


def _by_hand(sources: dict[str, str], config: dict[str, Any]) -> str:
    """The settings that a command line, an experiment or a budget gave: `algo.tau=0.1, ...`.

    What follows from M or beta is not repeated.
    """
    given = []
    for key, source in sources.items():
        follows = key not in ("M", "beta") and source.startswith(("M=", "beta="))
        chosen = ("command line", "experiment=", "budget=", "budget/")
        if follows or not any(name in source for name in chosen):
            continue
        value: Any = config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        given.append(f"{key}={value}")
    return ", ".join(given)


def _read_evaluations(
    folder: Path, scored: bool
) -> tuple[dict[str, list[Any]], dict[str, NDArray[np.float64]], list[str]]:
    """What stands in evaluations.jsonl; scores are nan if not `scored`."""
    entries, problems = read_lines(folder / "evaluations.jsonl")
    if not scored:
        problems.append(
            "no score: config.yaml has no env.random_return and env.expert_return that differ; "
            "its returns are kept"
        )
    # An evaluation that was made again after a resume counts once.
    latest = {(entry["phase"], entry["update"], bool(entry["final"])): entry for entry in entries}
    evaluations: dict[str, list[Any]] = {name: [] for name in EVALUATION}
    lists: dict[str, list[NDArray[np.float64]]] = {name: [] for name in EPISODE}
    for (phase, update, final), entry in latest.items():
        values = {name: entry[key] for key, name in _LISTS.items() if key in entry}
        where = f"evaluation at {phase} update {update:,}, left out"
        sizes = {len(column) if isinstance(column, list) else 0 for column in values.values()}
        if len(sizes) > 1 or sizes == {0}:
            problems.append(f"{where}: its {', '.join(values)} lists differ in length or are empty")
            continue
        size = sizes.pop()
        columns = {name: np.array([*map(number, column)]) for name, column in values.items()}
        if not scored:
            columns["score"] = np.full(size, math.nan)
        checked = [column for name, column in columns.items() if scored or name != "score"]
        if not np.isfinite(checked).all():
            problems.append(f"{where}: it holds a value that is no finite number")
            continue
        for name in EPISODE:
            lists[name].append(columns.get(name, np.full(size, math.nan)))
        described = (phase, update, entry["step"], final, number(entry.get("time")), size)
        for name, value in zip(EVALUATION, described, strict=True):
            evaluations[name].append(value)
    if not evaluations["size"]:
        problems.append("no evaluation yet")
    episodes = {name: np.concatenate([*parts, np.empty(0)]) for name, parts in lists.items()}
    return evaluations, episodes, problems


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The JSON objects of a file of JSON lines, and a sentence for each line that is none.

    The last line of a run that was killed, or that is writing just now, may be cut.
    """
    if not path.is_file():
        return [], []
    entries, problems = [], []
    for position, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            entry = json.loads(line)
            if not isinstance(entry, dict) or _LINE_KEYS[path.name] - entry.keys():
                raise ValueError("not an object with the keys of its kind")
            if not isinstance(entry["phase"], str) or not isinstance(entry["update"], int):
                raise ValueError("its phase is no name or its update no whole number")
        except ValueError as error:
            problems.append(f"{path.name} line {position} left out: {error}")
        else:
            entries.append(entry)
    return entries, problems


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; AnalysisError, naming the file, where there is none."""
    try:
        content = yaml.load(path.read_bytes(), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise AnalysisError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise AnalysisError(f"{path}: not a mapping of settings")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; AnalysisError, naming the file, where there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise AnalysisError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise AnalysisError(f"{path}: not a JSON object")
    return content


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """All that decides what a run computes, with dotted names; but for M, beta and the seed."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in _NOT_SETTINGS:
            continue
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def number(value: Any) -> float:
    """`value` as a float; nan for null and for what is no number."""
    return float(value) if isinstance(value, int | float) else math.nan


def progress(row: dict[str, Any]) -> str:
    """`running at policy update 20,000 of 50,000`, with the error of a failed run."""
    reached = ""
    if row["update"] is not None:
        target = row["updates"].get(row["phase"])
        reached = f" at {row['phase']} update {row['update']:,}" + (
            f" of {target:,}" if target else ""
        )
    error = f": {row['error']}" if row["error"] else ""
    return f"{row['status']}{reached}{error}"
