"""Ranges of hyperparameters, checked by each algorithm's Config as it is made."""

import math
from collections.abc import Callable
from dataclasses import field
from difflib import get_close_matches
from typing import Any

from lom_exp.errors import ConfigError


def padded(default: int) -> Any:
    """A whole-number field in which the runs of a pack may differ, though it shapes networks.

    Runs train together with room for the largest (`trainer.padding`). So updates must not read the
    field but the shapes of their state, must draw random numbers with its axis first, and must
    leave out what lies beyond a run's own: a part of the state, ones in `init`, tells, as it too
    gets zeros there.
    """
    return field(default=default, metadata={"padded": True})


def _require(config: Any, names: tuple[str, ...], holds: Callable[[Any], bool], must: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not (math.isfinite(value) and holds(value)):
            raise ConfigError(f"{name}={value!r} cannot be used: it must be {must}")


def positive(config: Any, *names: str) -> None:
    """Finite and above 0."""
    _require(config, names, lambda value: value > 0, "a number above 0")


def non_negative(config: Any, *names: str) -> None:
    """Finite and at least 0."""
    _require(config, names, lambda value: value >= 0, "a number of at least 0")


def unit_interval(config: Any, *names: str) -> None:
    """In [0, 1]."""
    _require(config, names, lambda value: 0 <= value <= 1, "in [0, 1]")


def fraction(config: Any, *names: str) -> None:
    """In (0, 1]."""
    _require(config, names, lambda value: 0 < value <= 1, "in (0, 1]")


def layer_sizes(config: Any, *names: str) -> None:
    """At least one hidden layer, each of at least one unit."""
    for name in names:
        value = getattr(config, name)
        if not value or any(size < 1 for size in value):
            raise ConfigError(
                f"{name}={list(value)} cannot be used: it must be a list of at least one "
                "layer width, each above 0, such as [256,256]"
            )


def one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    """One of the named choices; the error names the nearest."""
    value = getattr(config, name)
    if value not in choices:
        nearest = get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"{name}={value!r} is not one of {', '.join(choices)}{hint}")


def ordered(config: Any, low: str, high: str) -> None:
    """The one finite and below the other."""
    _require(config, (low, high), lambda value: True, "finite")
    if not getattr(config, low) < getattr(config, high):
        raise ConfigError(
            f"{low}={getattr(config, low)!r} cannot be used: it must be below "
            f"{high}={getattr(config, high)!r}"
        )
