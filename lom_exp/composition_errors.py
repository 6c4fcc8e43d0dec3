"""Hydra's and OmegaConf's refusals in the words of the command line, with the nearest name."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
    ValidationError,
)

from lom_exp.overrides import VALUE_GROUPS, options

_KINDS = {"Integer": "a whole number", "Float": "a number"}
_SWEEP = re.compile(r"Ambiguous value for argument '(.+)'|Sweep parameters '(.+)' requires")


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """'; did you mean x?' for the name most like the given one, else nothing."""
    match = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {prefix}{match[0]}?" if match else ""


def explain(error: Exception) -> str | None:
    """One message that names the culprit, its value and the remedy.

    None for errors that are not a refusal of what the user asked for.
    """
    text = str(error)
    # The only two of Hydra's refusals that are of no class of its own.
    plain = isinstance(error, ValueError) and text.startswith(("Config group", "Only one of --"))
    if not plain and not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error, error.missing_cfg_file)
    if isinstance(error, OverrideParseException):
        details = [
            line
            for line in text.splitlines()
            if not line.startswith(("See https://", "Error parsing")) and line.strip("^ ")
        ]
        return (
            f"{error.override!r} cannot be read ({' '.join(details)}); write key=value, with a "
            "value of other characters than letters, digits and -+./_ in quotes: 'key=\"value\"'"
        )
    if match := _SWEEP.match(text):
        return f"{match[1] or match[2]} is a sweep, but only one run can be shown; give one value"
    # Hydra raises its own error from OmegaConf's, or while handling it.
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    cause = cause or error.__context__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _unknown_key(cause)
    if isinstance(cause, ValidationError):
        return _wrong_type(cause)
    return "\n".join([text, str(cause)] if cause and cause is not error else [text]).strip()


def _unknown_option(error: MissingConfigException, path: str) -> str:
    group, _, choice = path.rpartition("/")
    if group in VALUE_GROUPS:
        words = " or ".join(name for name in options(group) if name.isalpha())
        return f"{group}={choice} cannot be used: it must be a number, or {words}"
    if group == "schema":
        return (
            f"conf/algo asks for the Config of {choice}, but lom_exp/algorithms/__init__.py has no "
            f"{choice} in its REGISTRY; add it there"
        )
    if group.startswith("tuned/"):
        return (
            f"conf/algo asks for the row {choice} of conf/{group}.yaml, which is not there; add "
            "the table with that row, or leave the line out"
        )
    known = options(group) or [str(option) for option in error.options or ()]
    return f"{group}={choice}: there is no such choice{_hint(choice, known)}"


def _unknown_key(error: OmegaConfBaseException) -> str:
    *parents, name = str(error.full_key).split(".")
    prefix = "".join(f"{parent}." for parent in parents)
    node = error.parent_node
    known = [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else []
    below = [
        f"{key}.{name}"
        for key in known
        if isinstance(node, DictConfig) and isinstance(child := node._get_node(key), DictConfig)
        if name in child
    ]
    if below:
        return f"{prefix}{name}: there is no such key; did you mean {prefix}{below[0]}?"
    if not known:
        return f"{prefix}{name}: there is no such key; a new one is given as +{prefix}{name}=..."
    return f"{prefix}{name}: there is no such key{_hint(name, known, prefix)}"


def _hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest name and all others."""
    names = ", ".join(prefix + each for each in known)
    return f"{nearest(name, known, prefix)}\nKnown are {names}"


def _wrong_type(error: OmegaConfBaseException) -> str:
    first = str(error).splitlines()[0]
    key = error.full_key
    if match := re.match(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", first):
        return f"{key}={match[1]} cannot be used: it must be {_KINDS.get(match[2], match[2])}"
    if match := re.match(r"Value '(.*)' is not a valid bool", first):
        return f"{key}={match[1]} cannot be used: it must be true or false"
    return f"{key}: {first}"
