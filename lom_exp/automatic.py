"""M=auto in a composed config: counted in the data, after whatever else can be a mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lom_exp import datasets
from lom_exp.datasets import EnvConfig, Estimate
from lom_exp.sources import History, Origin

CountModes = Callable[[EnvConfig], Estimate]
_RESOLVER = "count_modes"  # of conf/M/auto.yaml


def register() -> None:
    """Give OmegaConf the resolver of conf/M/auto.yaml, as `--cfg job --resolve` needs it."""
    OmegaConf.register_new_resolver(
        _RESOLVER, lambda env: datasets.count_modes(_env(env)).M, replace=True
    )


def is_auto(origins: History) -> bool:
    """Whether M is to be counted in the data."""
    return str(origins["M"][-1].value).startswith(f"${{{_RESOLVER}:")


def settle(config: DictConfig, origins: History, count_modes: CountModes | None) -> History:
    """Write the number that M=auto stands for to the config; a history that says how it was found.

    None for `count_modes` puts a 1 there, with which all but the count itself can be checked.
    Raises DataError.
    """
    if not is_auto(origins):
        return origins
    if count_modes is None:
        config.M = 1
        return origins
    found = count_modes(_env(config.env))
    config.M = found.M
    typed = origins["M"]
    return History({**origins, "M": [*typed, Origin(f"{typed[-1].source}, {found}", found.M)]})


def _env(node: DictConfig) -> EnvConfig:
    env: Any = OmegaConf.to_object(node)
    assert isinstance(env, EnvConfig)  # its schema
    return env
