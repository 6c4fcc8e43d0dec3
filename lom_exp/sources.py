"""Where each value of a composed config came from, read off Hydra's own defaults list."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
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
        # A whole node, as that of the data in M=auto, is no setting that has a source.
        references = [key for key in dict.fromkeys(_REFERENCE.findall(str(value))) if key in self]
        return " and ".join(map(self.source, references)) if references else source


def references(value: Any) -> list[str]:
    """The keys an uninterpolated value refers to."""
    return _REFERENCE.findall(str(value))


class Layer(NamedTuple):
    """A file or stored node that a config is made of; of several that set a key the last wins."""

    path: str  # group/choice
    settings: dict[str, Any]  # by dotted key, interpolations unresolved


def layers(loader: ConfigLoader, config: DictConfig) -> list[Layer]:
    """The layers of a composed job's config (with its `hydra` node), first to last."""
    hydra = config.hydra
    choices = hydra.runtime.choices
    chosen = [
        line for line in hydra.overrides.task if line.lstrip("+~").partition("=")[0] in choices
    ]
    overrides = [*hydra.overrides.hydra, *chosen]
    computed = loader.compute_defaults_list(hydra.job.config_name, overrides, RunMode.RUN)
    return layers_of(loader, computed.defaults)


def layers_of(loader: ConfigLoader, defaults: Iterable[ResultDefault]) -> list[Layer]:
    """The layers of a defaults list, but for Hydra's own."""
    return [
        _layer(loader, path, f"{default.package}.")
        for default in defaults
        if (path := str(default.config_path)) and not path.startswith("hydra/")
    ]


@cache
def _layer(loader: ConfigLoader, path: str, prefix: str) -> Layer:
    """One layer, read once for all runs of a sweep."""
    prefix = prefix.removeprefix("_global_.").lstrip(".")
    return Layer(path, {prefix + key: value for key, value in _leaves(_content(loader, path))})


def history(loader: ConfigLoader, config: DictConfig, layers: Iterable[Layer]) -> History:
    """The history of a composed job's config (with its `hydra` node) that has these layers."""
    hydra = config.hydra
    choices = hydra.runtime.choices
    experiment_name = choices.get("experiment")
    experiment = f"experiment={experiment_name}"
    swept = _swept_by_experiment(tuple((OmegaConf.select(hydra, "sweeper.params") or {}).items()))
    # By whom, per override's key: the command line, read below, has the last word.
    chosen = dict.fromkeys(_overridden(loader, f"experiment/{experiment_name}"), experiment)
    values = []
    for override in map(parse, hydra.overrides.task):
        value = override.get_value_element_as_str().strip("'\"")
        by_experiment = value in swept.get(override.key_or_group, ())
        chosen[override.key_or_group] = experiment if by_experiment else "command line"
        if override.key_or_group not in choices or isinstance(override.value(), dict):
            values.append(override)
    result = History()
    for path, settings in layers:
        source = _describe(path, chosen)
        for key, value in settings.items():
            result.setdefault(key, []).append(Origin(source, value))
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


def _overridden(loader: ConfigLoader, path: str) -> list[str]:
    """The groups whose choice a file's own defaults override: `override /network: small`."""
    defaults = _content(loader, path).get("defaults") or []
    keys = [key for entry in defaults if isinstance(entry, dict) for key in entry]
    return [key.split("/")[-1] for key in keys if key.startswith("override ")]


@cache
def _content(loader: ConfigLoader, path: str) -> dict[str, Any]:
    """What one file or stored node says; read once for all runs of a sweep."""
    for source in loader.get_sources():
        if source.is_config(path):
            content: Any = OmegaConf.to_container(source.load_config(path).config)
            return dict(content)
    return {}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys and values of nested mappings."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@cache
def parse(text: str) -> Override:
    """An override; the jobs of a sweep have most of theirs in common."""
    return OverridesParser.create().parse_override(text)


@cache
def _swept_by_experiment(params: tuple[tuple[str, str], ...]) -> dict[str, set[str]]:
    """The values that an experiment's file sweeps, as text."""
    swept = {}
    for key, text in params:
        override = parse(f"{key}={text}")
        if override.is_sweep_override():
            swept[key] = {value.strip("'\"") for value in override.sweep_string_iterator()}
        else:
            swept[key] = {override.get_value_element_as_str().strip("'\"")}
    return swept
