"""The configs of a sweep's jobs: what Hydra's load_sweep_config gives, without its repetitions.

The files that make up a job's config are decided by its choices of groups. Jobs of the same choices
are copies of one composition, on which each job's own values are set. A number as a choice (M=7) is
a file to Hydra, but one that sets a single key: here it is such a value, too. Hydra's own settings,
which are most of what there is to compose, are the sweep's: no job can change them.
"""

import copy
import pickle
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.default_element import GroupDefault, InputDefault
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from lom_exp.sources import Layer, layers_of, parse

# Of the `hydra` node: what is large and tells nothing of a job.
_LEFT_OUT = ("launcher", "job_logging", "hydra_logging", "help", "hydra_help")


class _Composition(NamedTuple):
    """What jobs have in common whose choices differ in numbers only."""

    config: bytes  # pickled: copy.deepcopy takes five times as long as loading it again
    layers: list[Layer]
    numbers: list[Layer]  # those it was composed with


class Composer:
    """Composes the jobs of one sweep; `loader` is Hydra's, with files that are parsed once.

    Every choice that a job can make must be in Hydra's ConfigStore or a file by the time a job
    with that choice is composed.
    """

    def __init__(self, loader: ConfigLoader, sweep_config: DictConfig) -> None:
        search_path = copy.deepcopy(loader.get_search_path())
        schemas = search_path.get_path().pop()  # which Hydra wants to come last
        for path in sweep_config.hydra.searchpath:
            search_path.append("hydra.searchpath", path)
        search_path.get_path().append(schemas)
        self._files = _Files(search_path)
        self.loader = ConfigLoaderImpl(search_path)
        self.loader.repository = self._files
        self._sweep_config = sweep_config
        kept = [key for key in sweep_config.hydra if key not in _LEFT_OUT]
        self._hydra = OmegaConf.masked_copy(sweep_config.hydra, kept)
        self._numbers: dict[str, Layer | None] = {}  # by path
        self._compositions: dict[tuple[str, ...], _Composition] = {}

    def compose(self, job: Sequence[str]) -> tuple[DictConfig, list[Layer]]:
        """The config of a job's overrides and the layers it is made of.

        Its `hydra` node is the sweep's, without launcher, logging and help.
        """
        overrides = {text: parse(text) for text in job}
        choices = [text for text in job if self._decides_files(overrides[text])]
        values = [overrides[text] for text in job if text not in choices]
        numbers = {text: layer for text in choices if (layer := self._number(overrides[text]))}
        key = tuple(overrides[text].key_or_group if text in numbers else text for text in choices)
        if key not in self._compositions:
            self._compositions[key] = self._load(choices, list(numbers.values()))
        composition = self._compositions[key]
        config, layers = pickle.loads(composition.config), composition.layers
        for number, other in zip(numbers.values(), composition.numbers, strict=True):
            group, choice = number.path.rsplit("/", 1)
            layers = [number if layer == other else layer for layer in layers]
            settings = [layer.settings for layer in layers if group in layer.settings]
            config[group] = settings[-1][group]  # the number, unless an experiment's file sets it
            config.hydra.runtime.choices[group] = choice
        self.loader._apply_overrides_to_config(values, config)
        config.hydra.overrides.task = list(job)
        return config, layers

    def _load(self, choices: list[str], numbers: list[Layer]) -> _Composition:
        """As Hydra's load_configuration does it, but for the `hydra` node."""
        name = self._hydra.job.config_name
        overrides, files = self.loader._parse_overrides_and_create_caching_repo(name, choices)
        self.loader.validate_sweep_overrides_legal(overrides, RunMode.RUN, from_shell=True)
        found = create_defaults_list(
            files, name, overrides, prepend_hydra=False, skip_missing=False
        )
        config = self.loader._compose_config_from_defaults_list(found.defaults, files)
        with open_dict(config):
            config.hydra = self._hydra
            config.hydra.runtime.choices = found.overrides.known_choices
        OmegaConf.set_struct(config, True)
        OmegaConf.copy_cache(self._sweep_config, config)
        return _Composition(pickle.dumps(config), layers_of(self.loader, found.defaults), numbers)

    def _decides_files(self, override: Override) -> bool:
        """Whether Hydra takes it for a group's choice, or is to refuse it as a sweep."""
        is_choice = self._files.group_exists(override.key_or_group)
        is_choice &= not isinstance(override.value(), dict)
        return is_choice or override.is_sweep_override()

    def _number(self, override: Override) -> Layer | None:
        """The layer of a choice that does nothing but set its group's key to a number."""
        group, path = override.key_or_group, f"{override.key_or_group}/{override.value()}"
        if override.type is not OverrideType.CHANGE or override.package is not None:
            return None
        if path not in self._numbers:
            self._numbers[path] = None
            found = self._files.load_config(path)
            if found and not found.defaults_list and found.header["package"] == "_global_":
                content: Any = OmegaConf.to_container(found.config)
                if list(content) == [group] and isinstance(content[group], int | float):
                    self._numbers[path] = Layer(path, content)
        return None if group in self._files.consulted else self._numbers[path]


class _Files(ConfigRepository):
    """Hydra's repository, with files that are parsed once and that say nothing to Hydra itself."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self._loaded: dict[str, bytes] = {}
        self._groups: dict[str, bool] = {}
        # Groups whose choice leads to other files, as in `optional /tuned/lom: ${env}`.
        self.consulted: set[str] = set()

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy: Hydra merges others into what it loads."""
        if config_path not in self._loaded:
            loaded = super().load_config(config_path)
            if loaded is not None:
                defaults = loaded.defaults_list or []
                loaded.defaults_list = [each for each in defaults if not _chooses_for_hydra(each)]
                for reference in re.findall(r"\$\{(.*?)\}", repr(loaded.defaults_list)):
                    self.consulted.update(re.findall(r"\w+", reference))
                if "hydra" in loaded.config:
                    with open_dict(loaded.config):
                        del loaded.config["hydra"]
            self._loaded[config_path] = pickle.dumps(loaded)
        result: ConfigResult | None = pickle.loads(self._loaded[config_path])
        return result

    def group_exists(self, config_path: str) -> bool:
        if config_path not in self._groups:
            self._groups[config_path] = super().group_exists(config_path)
        return self._groups[config_path]

    def __deepcopy__(self, memo: object) -> "_Files":
        """For each composition Hydra takes a copy, of the whole ConfigStore with it.

        It wants to be able to give the copy other sources, which does not touch what is shared.
        """
        return copy.copy(self)


def _chooses_for_hydra(default: InputDefault) -> bool:
    """Whether it is as `override hydra/launcher: local`."""
    group = default.group if isinstance(default, GroupDefault) else None
    return group is not None and group.lstrip("/").startswith("hydra/")
