"""The configs of a sweep's jobs: what Hydra's load_sweep_config gives, without its repetitions.

The files that make up a job's config are decided by its choices of groups. Jobs of the same choices
are copies of one composition, on which each job's own values are set; and each file is parsed once
for all jobs.
"""

import copy
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig


class Composer:
    """Composes the jobs of one sweep; `loader` is Hydra's, with files that are parsed once.

    Every choice that a job can make must be in Hydra's ConfigStore or a file by the time a job
    with that choice is composed.
    """

    def __init__(self, loader: ConfigLoader, sweep_config: DictConfig) -> None:
        self.loader = ConfigLoaderImpl(loader.get_search_path())
        self.loader.repository = _ParsedOnce(loader.get_search_path())
        self._sweep_config = sweep_config
        self._overrides: dict[str, Override] = {}  # by text: the jobs of a sweep share them
        self._compositions: dict[tuple[str, ...], DictConfig] = {}  # by choices of groups

    def compose(self, job: Sequence[str]) -> DictConfig:
        """The config of a job's overrides, `hydra` node included."""
        choices = tuple(text for text in job if self._decides_files(self._parsed(text)))
        if choices not in self._compositions:
            self._compositions[choices] = self.loader.load_sweep_config(
                self._sweep_config, list(choices)
            )
        config = copy.deepcopy(self._compositions[choices])
        values = [self._parsed(text) for text in job if text not in choices]
        self.loader._apply_overrides_to_config(values, config)
        config.hydra.overrides.task = [
            text for text in job if not self._parsed(text).is_hydra_override()
        ]
        return config

    def _parsed(self, text: str) -> Override:
        if text not in self._overrides:
            self._overrides[text] = OverridesParser.create().parse_override(text)
        return self._overrides[text]

    def _decides_files(self, override: Override) -> bool:
        """Whether Hydra takes it for a group's choice, or it is a setting of Hydra's own."""
        is_choice = self.loader.repository.group_exists(override.key_or_group)
        is_choice &= not isinstance(override.value(), dict)
        return is_choice or override.is_hydra_override() or override.is_sweep_override()


class _ParsedOnce(ConfigRepository):
    """Hydra's repository, which keeps what it has parsed."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self._parsed: dict[str, ConfigResult] = {}
        self._groups: dict[str, bool] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """A copy: Hydra merges others into what it loads."""
        if config_path not in self._parsed:
            loaded = super().load_config(config_path)
            if loaded is None:
                return None
            self._parsed[config_path] = loaded
        return copy.deepcopy(self._parsed[config_path])

    def group_exists(self, config_path: str) -> bool:
        if config_path not in self._groups:
            self._groups[config_path] = super().group_exists(config_path)
        return self._groups[config_path]

    def __deepcopy__(self, memo: object) -> "_ParsedOnce":
        """For each composition Hydra takes a copy, of the whole ConfigStore with it.

        It wants to be able to give the copy other sources, which does not touch what is shared.
        """
        return copy.copy(self)
