"""Where each value of a composed config came from, read off Hydra's own defaults list."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # the names in ${M} and ${inverse:${beta}}


class Origin(NamedTuple):
    """One place that sets a key, and the value it sets, interpolations unresolved."""

    source: str
    value: Any


class History(dict[str, list[Origin]]):
    """The places that set each dotted key, of which the last one won."""

    def source(self, key: str) -> str:
        """Where the key's value came from; an interpolation is followed to what it refers to."""
        if key not in self:
            return "default"
        source, value = self[key][-1]
        references = dict.fromkeys(_REFERENCE.findall(str(value)))
        return " and ".join(map(self.source, references)) if references else source


def references(value: Any) -> list[str]:
    """The keys an uninterpolated value refers to."""
    return _REFERENCE.findall(str(value))


def history(loader: ConfigLoader, config: DictConfig) -> History:
    """The history of a composed job's config, `hydra` node included."""
    hydra = config.hydra
    task, choices = list(hydra.overrides.task), hydra.runtime.choices
    experiment_name = choices.get("experiment")
    experiment = f"experiment={experiment_name}"
    swept = _swept_by_experiment(tuple((hydra.sweeper.get("params") or {}).items()))
    # By whom, per override's key: the command line, read below, has the last word.
    chosen = dict.fromkeys(_overridden(loader, f"experiment/{experiment_name}"), experiment)
    values = []
    for override in map(_parsed, task):
        value = override.get_value_element_as_str().strip("'\"")
        by_experiment = value in swept.get(override.key_or_group, ())
        chosen[override.key_or_group] = experiment if by_experiment else "command line"
        if override.key_or_group not in choices or isinstance(override.value(), dict):
            values.append(override)
    result = History()
    group_choices = [line for line in task if line.lstrip("+~").partition("=")[0] in choices]
    overrides = (*hydra.overrides.hydra, *group_choices)
    for path, prefix in _defaults(loader, hydra.job.config_name, overrides):
        source = _describe(path, chosen)
        for key, value in _settings(loader, path):
            result.setdefault(prefix + key, []).append(Origin(source, value))
    for override in values:
        for key, value in _leaves({override.key_or_group: override.value()}):
            result.setdefault(key, []).append(Origin(chosen[override.key_or_group], value))
    return result


def _describe(path: str, chosen: Mapping[str, str]) -> str:
    """conf/algo/lom.yaml, conf/tuned/lom.yaml [hopper-medium], M=10 (command line), ..."""
    group, _, choice = path.rpartition("/")
    if group == "schema":
        return "default"
    if group.startswith("tuned/"):
        return f"conf/{group}.yaml [{choice}]"
    if group == "experiment":
        return f"experiment={choice}"
    if group in ("", "algo", "env"):
        return f"conf/{path}.yaml"
    return f"{group}={choice}" + (f" ({chosen[group]})" if group in chosen else "")


@cache
def _defaults(
    loader: ConfigLoader, config_name: str, overrides: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """The files and stored nodes of a config in order, each with the prefix of its keys."""
    computed = loader.compute_defaults_list(config_name, list(overrides), RunMode.RUN)
    return tuple(
        (default.config_path, f"{default.package}.".removeprefix("_global_.").lstrip("."))
        for default in computed.defaults
        if not default.config_path.startswith("hydra/")
    )


@cache
def _settings(loader: ConfigLoader, path: str) -> tuple[tuple[str, Any], ...]:
    """What one file or stored node sets; read once for all runs of a sweep."""
    for source in loader.get_sources():
        if source.is_config(path):
            return tuple(_leaves(OmegaConf.to_container(source.load_config(path).config)))
    return ()


@cache
def _overridden(loader: ConfigLoader, path: str) -> tuple[str, ...]:
    """The groups whose choice a file's own defaults override: `override /network: small`."""
    for source in loader.get_sources():
        if source.is_config(path):
            content: Any = OmegaConf.to_container(source.load_config(path).config)
            defaults = content.get("defaults") or []
            keys = [key for entry in defaults if isinstance(entry, dict) for key in entry]
            return tuple(key.split("/")[-1] for key in keys if key.startswith("override "))
    return ()


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys and values of nested mappings."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def _parsed(text: str) -> Override:
    """An override; the jobs of a sweep have most of theirs in common."""
    return OverridesParser.create().parse_override(text)


@cache
def _swept_by_experiment(params: tuple[tuple[str, str], ...]) -> dict[str, set[str]]:
    """The values that an experiment's file sweeps, as text."""
    swept = {}
    for key, text in params:
        override = _parsed(f"{key}={text}")
        if override.is_sweep_override():
            swept[key] = {value.strip("'\"") for value in override.sweep_string_iterator()}
        else:
            swept[key] = {override.get_value_element_as_str().strip("'\"")}
    return swept
