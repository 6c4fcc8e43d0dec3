"""Generated datasets: each set of parameters makes a file of its own, once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import h5py

from lom_exp.code_version import code_version
from lom_exp.datasets import fetch, rings
from lom_exp.datasets.config import EnvConfig
from lom_exp.datasets.folders import lock
from lom_exp.datasets.parts import Attribute, join, make_parts
from lom_exp.datasets.rows import DAMAGE
from lom_exp.datasets.world import World
from lom_exp.errors import DataError

WORLDS: dict[str, World] = {**fetch.WORLDS, "rings": rings.WORLD}


def file_name(env: EnvConfig) -> str:
    """A name that no other parameters and no other version of the generator have."""
    world = WORLDS[env.source]
    parameters = [world.version, env.environment, *_parameters(env).values()]
    digest = hashlib.sha256(json.dumps(parameters).encode()).hexdigest()[:12]
    return f"{env.source}-{digest}.hdf5"


def generate(env: EnvConfig, target: Path, processes: int | None = None) -> None:
    """Bring the dataset to `target` in D4RL's layout, unless it is there.

    Its arrays are the same for any number of processes, of which there are as many as cores if
    None. They work in the folder `<target>.parts`, where what is finished survives whatever ends
    them; the next call goes on from there. Raises DataError for parameters that cannot be met, for
    a target made by others and for a disk that cannot be written, and SimulationError.
    """
    parts = target.with_name(f"{target.name}.parts")
    try:
        if not target.is_file():
            _check(env)
            target.parent.mkdir(parents=True, exist_ok=True)
            with lock(target, "generates"):
                if not target.is_file():  # made by another process while this one waited
                    _make(env, parts, target, processes)
    except OSError as error:
        raise DataError(
            f"{target}: cannot be written ({error}); free the disk or give another folder "
            "as LOM_DATA_DIR; parts that are finished are kept"
        ) from error
    _check_origin(env, target)
    shutil.rmtree(parts, ignore_errors=True)  # also those of a process that had no time to


def _check(env: EnvConfig) -> None:
    world = WORLDS[env.source]
    if env.environment != world.environment:
        raise DataError(
            f"{env.name}: env.source={env.source} generates data of {world.environment} and not "
            f"of env.environment={env.environment}; change one of them"
        )
    if env.generator_seed < 0:
        raise DataError(f"{env.name}: env.generator_seed={env.generator_seed} must be at least 0")
    world.check(env)


def _make(env: EnvConfig, parts: Path, target: Path, processes: int | None) -> None:
    world = WORLDS[env.source]
    parts.mkdir(exist_ok=True)
    paths = make_parts(env, world, parts, processes)
    whole = parts / "whole.hdf5"
    join(paths, whole, _attributes(env, world), f"joining {env.name}")
    os.replace(whole, target)


def _attributes(env: EnvConfig, world: World) -> dict[str, Attribute]:
    commit, is_dirty = code_version()
    return {
        "provenance": "generated",
        "recipe": world.recipe(env),
        "source": env.source,
        "environment": env.environment,
        **_parameters(env),
        "generator_version": world.version,
        "git_commit": commit or "unknown",
        "git_dirty": bool(is_dirty),
        **{f"{package} version": version(package) for package in world.packages},
    }


def _parameters(env: EnvConfig) -> dict[str, Attribute]:
    return {name: getattr(env, name) for name in WORLDS[env.source].parameters}


def _check_origin(env: EnvConfig, target: Path) -> None:
    """Refuse a file that was given this name and says that its parameters are others."""
    try:
        with h5py.File(target, "r") as file:
            said = {name: file.attrs.get(name) for name in _parameters(env)}
    except DAMAGE:
        return  # whoever reads it says what is wrong with it
    for name, value in _parameters(env).items():
        if said[name] is not None and said[name] != value:
            raise DataError(
                f"{target}: was generated with {name}={said[name]}, and its name is that of "
                f"env.{name}={value}; move it away or delete it"
            )
