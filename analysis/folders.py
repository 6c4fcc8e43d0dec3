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
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

EPISODE_COLUMNS = [
    "run", "label", "env", "M", "beta", "seed", "phase", "update", "step", "final",
    "episode", "return", "length", "score", "final_reward", "provenance", "status",
]  # fmt: skip
PROVENANCES = ("d4rl", "collected", "generated")  # anything else is unknown
# What an evaluation lists, and what one value of it is in EPISODE_COLUMNS.
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


class AnalysisError(Exception):
    """Results that cannot be analyzed; the message names the culprit and the remedy."""


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a run is and how far it came, and its configuration.

    Raises:
        AnalysisError: record.json or config.yaml is missing, damaged or without what a table needs.
    """
    record = read_json(folder / "record.json")
    config_file = folder / "config.yaml"
    try:
        # OmegaConf reads 1e-4 as a number, which YAML 1.1 does not.
        config = OmegaConf.to_container(OmegaConf.load(config_file))
    except Exception as error:  # a damaged YAML file raises one of many classes
        raise AnalysisError(f"{config_file}: {error}") from error
    if not isinstance(config, dict):
        raise AnalysisError(f"{config_file}: not a mapping of settings")
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
    spread = expert_return - random_return
    row = {
        "run": folder.name,
        "algorithm": record.get("algorithm", ""),
        "label": record["label"],
        "env": record["env"],
        "M": record.get("M"),
        "beta": number(record.get("beta")),
        "settings": "",
        "by_hand": _by_hand(record.get("sources") or {}, config),
        "seed": record["seed"],
        "provenance": provenance if provenance in PROVENANCES else "unknown",
        "sha256": dataset.get("sha256") or "unknown",
        "rows": number(dataset.get("rows")),
        "dataset_return": mean_return,
        "dataset_score": 100 * (mean_return - random_return) / spread if spread else math.nan,
        "updates": config.get("updates") or {},
        "status": status.get("status", "unknown"),
        "phase": status.get("phase"),
        "update": status.get("update"),
        "error": status.get("error"),
        "folder": str(folder),
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


def read_episodes(folder: Path, row: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """One row of EPISODE_COLUMNS per episode, and a sentence for all that was left out."""
    entries, problems = read_lines(folder / "evaluations.jsonl")
    # An evaluation that was made again after a resume counts once.
    latest = {(entry["phase"], entry["update"], entry["final"]): entry for entry in entries}
    shared = {key: row[key] for key in EPISODE_COLUMNS if key in row}
    episodes = []
    for (phase, update, final), entry in latest.items():
        columns = {
            name: [number(value) for value in entry[key]]
            for key, name in _LISTS.items()
            if key in entry
        }
        where = f"evaluation at {phase} update {update:,}, left out"
        if len({len(column) for column in columns.values()}) > 1 or not columns["return"]:
            problems.append(
                f"{where}: its {', '.join(columns)} lists differ in length or are empty"
            )
            continue
        if not all(math.isfinite(value) for column in columns.values() for value in column):
            problems.append(f"{where}: it holds a value that is no finite number")
            continue
        episodes += [
            shared
            | {"phase": phase, "update": update, "step": entry["step"], "final": bool(final)}
            | {"episode": episode}
            | dict(zip(columns, values, strict=True))
            for episode, values in enumerate(zip(*columns.values(), strict=True))
        ]
    if not episodes:
        problems.append("no evaluation yet")
    return episodes, problems


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
        except ValueError as error:
            problems.append(f"{path.name} line {position} left out: {error}")
        else:
            entries.append(entry)
    return entries, problems


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
