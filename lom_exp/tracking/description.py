"""What MLflow is told about a run and a sweep: parameters and tags."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lom_exp.tracking.uris import redact

MAX_LENGTH = 5000  # characters; MLflow refuses parameters over 6000


def text(value: Any) -> str:
    """A value as MLflow keeps it."""
    return redact(value if isinstance(value, str) else json.dumps(value))[:MAX_LENGTH]


def _flatten(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping) and node:
        for name, child in node.items():
            yield from _flatten(f"{prefix}.{name}" if prefix else str(name), child)
    else:
        yield prefix[:250], node


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """A resolved config with dotted names, without the part that says where to track it."""
    rest = {name: value for name, value in config.items() if name != "tracking"}
    return {name: text(value) for name, value in _flatten("", rest)}


def run_name(record: Mapping[str, Any]) -> str:
    """What tells a run from its neighbors comes first: tables and legends cut names short."""
    names = [name for name in ("M", "seed", "beta") if _fits(record.get(name))]
    varied = [f"{name}{record[name]:g}" for name in names]
    return " ".join([*varied, *(str(record[name]) for name in ("label", "env"))])


def run_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """A run's record.json with dotted names; where each setting came from is one tag, `sources`.

    Lists, such as the observation statistics, stay in the file.
    """
    rest = {name: value for name, value in record.items() if name not in ("sources", "name")}
    tags = {name: text(value) for name, value in _flatten("", rest) if _fits(value)}
    if record.get("sources"):
        tags["sources"] = text(record["sources"])
    if record.get("git_commit"):
        tags["mlflow.source.git.commit"] = text(record["git_commit"])
    return {**tags, **_SOURCE}


def sweep_tags(sweep: Mapping[str, Any]) -> dict[str, str]:
    """A sweep's command and overrides."""
    names = ("command", "overrides")
    return {name: text(sweep[name]) for name in names if sweep.get(name)} | _SOURCE


def _fits(value: Any) -> bool:
    return value is not None and not isinstance(value, list | dict)


_SOURCE = {"mlflow.source.name": "launch.py", "mlflow.source.type": "LOCAL"}
