"""What a composed config must satisfy beyond its types; all raise ConfigError with the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lom_exp.algorithms import REGISTRY
from lom_exp.composition_errors import nearest
from lom_exp.errors import ConfigError
from lom_exp.sources import History, references
from lom_exp.types import Algorithm

# Of the paper's symbols: what they must be, and the test.
RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "M": ("a whole number of at least 1, such as M=10", lambda value: value >= 1),
    "beta": ("a finite number above 0, such as beta=0.3", lambda value: 0 < value < math.inf),
}


def find_algorithm(config: DictConfig) -> Algorithm:
    """The module that the config names, after looking that its fields were checked by it."""
    for key in ("algorithm", "label", "updates", "preprocessing"):
        if OmegaConf.is_missing(config, key):
            raise ConfigError(
                f"{key} is not set; the file of conf/algo must set it, and its first line must "
                "be: # @package _global_"
            )
    if config.algorithm not in REGISTRY:
        raise ConfigError(
            f"algorithm={config.algorithm} is no module of lom_exp.algorithms"
            f"{nearest(config.algorithm, REGISTRY)}; algo=... chooses one"
        )
    algorithm = REGISTRY[config.algorithm]
    if OmegaConf.get_type(config.algo) is not algorithm.Config:
        raise ConfigError(
            f"algo={config.label}: its fields are not checked; the defaults of its file in "
            f"conf/algo must begin with /schema/{config.algorithm}@algo"
        )
    return algorithm


def check_symbols(config: DictConfig, origins: History) -> None:
    """M and beta are in range, wanted by the algorithm, and not passed over."""
    fields = {field: origins[field] for field in origins if field.startswith("algo.")}
    for symbol, (rule, holds) in RULES.items():
        value = config[symbol]
        users = [
            field
            for field, places in fields.items()
            if any(symbol in references(place.value) for place in places)
        ]
        if value is not None and not users:
            source = origins.source(symbol)
            given = source if source.startswith(f"{symbol}=") else f"{symbol}={value} ({source})"
            raise ConfigError(f"{given}: algo={config.label} has no {symbol}; leave it out")
        if users and (value is None or not holds(value)):
            raise ConfigError(f"{symbol}={value} cannot be used: it must be {rule}")
        for field in users:
            place = origins[field][-1]
            if symbol not in references(place.value):
                equal = any(earlier.value == f"${{{symbol}}}" for earlier in origins[field])
                raise ConfigError(
                    f"{field}={place.value} ({place.source}) would pass over {symbol}, which "
                    f"algo={config.label} sets it from and which names the run; "
                    f"give {symbol}={place.value if equal else '...'} instead"
                )


def check_network(config: DictConfig, origins: History) -> None:
    """Widths that were asked for are of networks the algorithm has.

    An option may have more than the algorithm takes, but a width that was typed must be taken.
    """
    places = [place for field in origins if field.startswith("algo.") for place in origins[field]]
    used = {key for place in places for key in references(place.value)}
    has = sorted(key for key in used if key.startswith("network."))
    for key in (key for key in origins if key.startswith("network.")):
        source, value = origins[key][-1]
        if source == "command line" and key not in used:
            raise ConfigError(
                f"{key}={value}: algo={config.label} has no such network; leave it out"
                + (f", its widths are {', '.join(has)}" if has else "")
            )
        if source.endswith("(command line)") and not has:
            choice = source.removesuffix(" (command line)")
            raise ConfigError(f"{choice}: algo={config.label} has no network; leave it out")


def check_updates(config: DictConfig, algorithm: Algorithm, origins: History) -> None:
    """Each phase of the algorithm has its length, and nothing else has.

    A budget that knows nothing of the algorithm would leave it at the paper's length.
    """
    sources = {place.source for places in origins.values() for place in places}
    budgets = [source for source in sources if source.startswith("budget=")]
    if budgets and not any(source.startswith("budget/") for source in sources):
        choice = budgets[0].split()[0]
        name = config.algorithm
        raise ConfigError(
            f"{choice} has no updates for algo={config.label}; add them as "
            f"conf/budget/{name}/{choice.removeprefix('budget=')}.yaml, or leave the budget out"
        )
    for phase, length in config.updates.items():
        if phase not in algorithm.phases:
            raise ConfigError(
                f"updates.{phase}={length}: algo={config.label} has no phase {phase}"
                f"{nearest(phase, algorithm.phases)}; its phases are {', '.join(algorithm.phases)}"
            )
        if length < 0:
            raise ConfigError(f"updates.{phase}={length} cannot be used: it must be 0 or above")
    for phase in algorithm.phases:
        if phase not in config.updates:
            raise ConfigError(
                f"updates.{phase} is not set; add it to conf/algo/{config.label}.yaml"
            )
