"""Datasets: where they are found, what they hold, and how they become transitions.

A number from a file is called D4RL's only if the file's sha256 is the known one of D4RL's file;
the name of a file, or what it says of itself, does not make it D4RL's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from lom_exp.datasets import d4rl_package, estimates, generation, transitions
from lom_exp.datasets.config import GENERATED, EnvConfig, Preprocessing
from lom_exp.datasets.download import download
from lom_exp.datasets.fingerprint import arrays_sha256, file_sha256, fingerprint
from lom_exp.datasets.folders import cache_folder, d4rl_folder, user_folder, writable_folder
from lom_exp.datasets.rows import read_hdf5
from lom_exp.datasets.transitions import Normalizer
from lom_exp.errors import DataError
from lom_exp.modes import Estimate
from lom_exp.types import Transitions

__all__ = [
    "Dataset",
    "EnvConfig",
    "Estimate",
    "Normalizer",
    "Preprocessing",
    "count_modes",
    "fingerprint",
    "identify",
    "identify_if_present",
    "load",
    "locate",
]


class Dataset(NamedTuple):
    """What a run is trained on."""

    transitions: Transitions  # observations scaled; of the default dtype, on the device
    normalizer: Normalizer  # scales the environment's observations alike
    action_normalizer: Normalizer  # whose inverse takes a policy's actions to the environment
    record: dict[str, Any]  # what a result must say of its data; JSON


def load(env: EnvConfig, preprocessing: Preprocessing, device: torch.device | str) -> Dataset:
    """Find, read, check and prepare a dataset; raises DataError."""
    path: Path | None
    if env.source == "d4rl_package":
        rows, path = d4rl_package.read(env)
        attributes: dict[str, str] = {}
    else:
        path = locate(env)
        rows, attributes = read_hdf5(path)
    culprit = str(path or env.name)
    prepared = transitions.build(rows, preprocessing, device, culprit)
    sha256 = _fingerprint(env, path) if path else None
    record = {
        "name": env.name,
        "source": env.source,
        "path": str(path) if path else None,
        "sha256": sha256,
        "provenance": _provenance(env, sha256, attributes),
        "recipe": attributes.get("recipe"),
        **prepared.description,
    }
    return Dataset(prepared.transitions, prepared.observations, prepared.actions, record)


def identify(env: EnvConfig) -> str:
    """What tells this data from all other: a file's sha256; raises DataError as `locate` does.

    Of generated data it is the arrays': a generated file also says which commit made it, and that
    makes no other data.
    """
    if env.source == "d4rl_package":
        return f"{env.source}:{env.name}"
    return _fingerprint(env, locate(env))


def identify_if_present(env: EnvConfig) -> str | None:
    """As `identify`, but None for a file that would first have to be downloaded or generated."""
    if env.source == "d4rl_package":
        return identify(env)
    path = _find(env)
    return _fingerprint(env, path) if path else None


def count_modes(env: EnvConfig, fetch: bool = True) -> Estimate:
    """How many modes the data's actions have, for M=auto.

    Raises DataError as `locate` does, for too few rows, and unless told to `fetch` it for data that
    would first have to be downloaded or generated.
    """
    from_package = env.source == "d4rl_package"  # which may download them
    if not fetch and (from_package or _find(env) is None):
        raise DataError(
            f"M=auto: the data of env={env.name} have yet to be downloaded or generated, so their "
            "modes cannot be counted; give the number of components, as in M=5, or start the runs"
        )
    if from_package:
        rows, _ = d4rl_package.read(env)
        return estimates.count_modes(env.name, rows)  # without a fingerprint, so not remembered
    path = locate(env)
    return estimates.remembered(
        _fingerprint(env, path), lambda: estimates.count_modes(env.name, read_hdf5(path)[0])
    )


def locate(env: EnvConfig) -> Path:
    """The dataset's HDF5 file, downloaded or generated if need be; raises DataError.

    Searched are env.path, which must then exist, $LOM_DATA_DIR and ~/.d4rl/datasets, in this order.
    What is downloaded or generated goes to $LOM_DATA_DIR if that may be written, else to
    ~/.d4rl/datasets (downloads) or the cache folder (generated data).
    """
    name, folder = _place(env)
    found = _find(env)
    target = found or writable_folder(folder) / name
    if env.source in GENERATED and env.path is None:
        generation.generate(env, target)
    elif found is None:
        download(env.url, target, env.bytes, env.sha256)
    return target


def _find(env: EnvConfig) -> Path | None:
    """The dataset's file; None where it has yet to be had. Raises DataError where it cannot be."""
    if env.path is not None:
        path = Path(env.path).expanduser().absolute()
        if not path.is_file():
            raise DataError(f"env.path={env.path} is not a file; correct it or leave it out")
        return path
    name, default = _place(env)
    if not name:
        raise DataError(f"env={env.name} names no file; give one as env.path=/folder/file.hdf5")
    folders = [folder for folder in (user_folder(), default) if folder is not None]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    if env.source not in GENERATED and not env.url:
        raise DataError(
            f"{name} is in none of {', '.join(map(str, folders))} and env.url is empty; "
            "copy it there, or give it as env.path=/folder/file.hdf5"
        )
    return None


def _place(env: EnvConfig) -> tuple[str, Path]:
    """A dataset's file name, and the folder it is kept in where $LOM_DATA_DIR does not say."""
    if env.source in GENERATED:
        return generation.file_name(env), cache_folder() / "datasets"
    return env.file, d4rl_folder()


def _fingerprint(env: EnvConfig, path: Path) -> str:
    return fingerprint(path, arrays_sha256 if env.source in GENERATED else file_sha256)


def _provenance(env: EnvConfig, sha256: str | None, attributes: dict[str, str]) -> str:
    if sha256 is not None and sha256 == env.sha256:
        return "d4rl"
    claim = attributes.get("provenance")
    # A file that calls itself D4RL's is not believed: only its hash could show it.
    return claim if claim in ("collected", "generated") else "unknown"
