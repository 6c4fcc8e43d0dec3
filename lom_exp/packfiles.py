"""A pack as a file: all that a worker on any machine needs, in JSON that anyone can read."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from lom_exp.algorithms import REGISTRY
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.errors import ConfigError
from lom_exp.files import read_json, write_atomically
from lom_exp.runspec import EvaluationConfig, ExecutionConfig, RunSpec, TrackingConfig


@dataclass(frozen=True)
class Pack:
    """Runs that train together, and how."""

    sweep: str  # the name of the sweep that asked for them
    names: tuple[str, ...]  # of the runs' folders
    data: str  # the fingerprint that is in the names
    specs: tuple[RunSpec, ...]
    execution: ExecutionConfig

    @property
    def id(self) -> str:
        """8 hexadecimal digits that stand for these runs."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:8]


def write(folder: Path, pack: Pack) -> Path:
    """Write a pack as <folder>/<id>.json; what its runs have in common is written once."""
    nodes: dict[int, Any] = {}  # by identity: the runs of a pack have most of them in common
    runs = [_plain(spec, nodes) for spec in pack.specs]
    shared = _shared(runs)
    content = {
        "sweep": pack.sweep,
        "data": pack.data,
        "execution": asdict(pack.execution),
        "shared": shared,
        "runs": [
            {"name": name, "spec": _difference(run, shared)}
            for name, run in zip(pack.names, runs, strict=True)
        ],
    }
    path = folder / f"{pack.id}.json"
    write_atomically(path, json.dumps(content, indent=1).encode())
    return path


def read(path: Path) -> Pack:
    """The pack in a file; raises ConfigError where this version of the code cannot run it."""
    content = read_json(path)
    if content is None:
        raise ConfigError(f"{path} is no pack of runs; give the sweep's command again")
    try:
        execution = dict(content["execution"])
        execution["tracking"] = TrackingConfig(**execution["tracking"])
        specs = [spec_of(_merged(content["shared"], run["spec"])) for run in content["runs"]]
        names = [run["name"] for run in content["runs"]]
        return Pack(
            content["sweep"],
            tuple(names),
            content["data"],
            tuple(specs),
            ExecutionConfig(**execution),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} was written by another version of the code ({error!r}); give the sweep's "
            "command again"
        ) from error


def _plain(spec: RunSpec, nodes: dict[int, Any]) -> dict[str, Any]:
    plain = {field.name: getattr(spec, field.name) for field in fields(spec)}
    for name, value in plain.items():
        if is_dataclass(value) and not isinstance(value, type):
            if id(value) not in nodes:
                nodes[id(value)] = asdict(value)
            plain[name] = nodes[id(value)]
    return plain


def spec_of(plain: Mapping[str, Any]) -> RunSpec:
    """The run whose fields these are, in plain containers; KeyError or TypeError for others."""

    def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}

    kinds = {
        "env": EnvConfig,
        "preprocessing": Preprocessing,
        "config": REGISTRY[plain["algorithm"]].Config,
        "evaluation": EvaluationConfig,
    }
    nodes = {key: kind(**tuples(plain[key])) for key, kind in kinds.items()}
    return RunSpec(**{**plain, **nodes})


def _shared(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys on whose values all agree, also inside mappings that differ."""
    first, *others = items
    found: dict[str, Any] = {}
    for key, value in first.items():
        theirs = [other.get(key, _Missing) for other in others]
        if all(_same(value, other) for other in theirs):
            found[key] = value
        elif all(isinstance(other, Mapping) for other in (value, *theirs)):
            found[key] = _shared([value, *theirs])
    return found


class _Missing:
    """In the place of a key that is not there."""


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and bool(one == other))


def _difference(item: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """What `_merged` has to add to the shared part to get the item back."""
    found = {}
    for key, value in item.items():
        if key not in shared:
            found[key] = value
        elif isinstance(value, Mapping) and not _same(value, shared[key]):
            found[key] = _difference(value, shared[key])
    return found


def _merged(shared: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(shared))
    for key, value in difference.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
