"""From conf/ and a command line to RunSpecs: Hydra's composition, checked before any work.

Defaults live once: an algorithm's in its Config, which is the schema of `algo`; everything else's
in conf/. Schemas close the config: an unknown key or a value of the wrong type does not compose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from typing import Any

import yaml
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import MISSING, Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lom_exp import automatic, checks, datasets
from lom_exp.algorithms import REGISTRY
from lom_exp.automatic import CountModes
from lom_exp.composition import Composer
from lom_exp.composition_errors import explain, nearest
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.errors import ConfigError
from lom_exp.overrides import CONF, quote_numbers
from lom_exp.runspec import (
    EvaluationConfig,
    ExecutionConfig,
    LaunchConfig,
    RunSpec,
    TrackingConfig,
)
from lom_exp.sources import History, history, layers


@dataclass
class _Network:
    """Widths of hidden layers; the schema of conf/network."""

    hidden_sizes: list[int] = MISSING
    behavior_hidden_sizes: list[int] = MISSING


@dataclass
class _Schema:
    """Types of the keys of conf/config.yaml and of what the groups set."""

    algorithm: str = MISSING
    label: str = MISSING
    algo: Any = MISSING  # the algorithm's Config
    M: int | None = None
    beta: float | None = None
    network: _Network = MISSING
    env: EnvConfig = MISSING
    preprocessing: Preprocessing = MISSING
    updates: dict[str, int] = MISSING
    seed: int = MISSING
    evaluation: EvaluationConfig = MISSING
    dtype: str = MISSING
    device: str = MISSING
    compile: str = MISSING
    cuda_graphs: bool = MISSING
    tf32: bool = MISSING
    share: bool = MISSING
    threads: int | None = MISSING
    vectorize: str = MISSING
    evaluation_workers: int | None = MISSING
    log_every: int = MISSING
    checkpoint_every: float = MISSING
    results: str = MISSING
    tracking: TrackingConfig = MISSING
    pack_size: int | None = MISSING
    retries: int = MISSING
    wait: bool = MISSING
    sweep_name: str | None = MISSING


EXECUTION_KEYS = (  # of _Schema: what changes no result
    *(
        "device",
        "compile",
        "cuda_graphs",
        "tf32",
        "share",
        "threads",
        "vectorize",
        "evaluation_workers",
        "log_every",
    ),
    *("checkpoint_every", "results", "tracking", "pack_size", "retries", "wait", "sweep_name"),
)
# Of _Schema: whose fields' sources are recorded; they decide what a run is.
_RECORDED_NODES = ("algo", "updates", "preprocessing", "evaluation")


@cache
def register() -> None:
    """Give Hydra the schemas, the rows of conf/tuned and the resolvers of conf/."""
    store = ConfigStore.instance()
    schema = OmegaConf.structured(_Schema)
    for key, kind in (
        ("env", EnvConfig),
        ("preprocessing", Preprocessing),
        ("evaluation", EvaluationConfig),
        ("tracking", TrackingConfig),
    ):
        schema[key] = _writable(kind)
    store.store(group="schema", name="run", node=schema, package="_global_", provider="lom_exp")
    for name, algorithm in REGISTRY.items():
        node = _writable(algorithm.Config)
        store.store(group="schema", name=name, node=node, provider="lom_exp")
    for path in sorted((CONF / "tuned").glob("*.yaml")):
        for name, row in yaml.safe_load(path.read_text()).items():
            shared = {key: row[key] for key in row if key in (*checks.RULES, "preprocessing")}
            fields = {key: row[key] for key in row if key not in shared}
            store.store(
                group=f"tuned/{path.stem}",
                name=name,
                node={**shared, "algo": fields},
                package="_global_",
                provider="lom_exp",
            )
    OmegaConf.register_new_resolver("inverse", lambda value: 1 / value, replace=True)
    automatic.register()


def _writable(kind: type) -> DictConfig:
    """A frozen dataclass as a schema; OmegaConf would refuse all overrides of a read-only one."""
    node: DictConfig = OmegaConf.structured(kind)
    OmegaConf.set_readonly(node, None)
    return node


def compose(overrides: Sequence[str] = ()) -> RunSpec:
    """The run of a command line's overrides (no sweeps), as in compose(["algo=bc", "seed=3"]).

    Raises ConfigError.
    """
    register()
    with ExitStack() as stack:
        stack.enter_context(initialize_config_dir(str(CONF), version_base="1.3"))
        loader = GlobalHydra.instance().config_loader()
        try:
            arguments = quote_numbers(overrides)
            config = loader.load_configuration("config", arguments, RunMode.RUN)
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise ConfigError(message) from error
        return run_spec(config, loader)


def run_spec(config: DictConfig, loader: ConfigLoader) -> RunSpec:
    """The run that a composed config (with its `hydra` node) describes.

    In the config, M=auto becomes a number. Raises ConfigError, and for M=auto DataError.
    """
    origins = history(loader, config, layers(loader, config))
    spec = _run_spec(config, origins, None)
    return _run_spec(config, origins, datasets.count_modes) if automatic.is_auto(origins) else spec


def _run_spec(config: DictConfig, origins: History, count_modes: CountModes | None) -> RunSpec:
    """The run of a config; None for `count_modes` takes M=auto for 1, to find other mistakes."""
    algorithm = checks.find_algorithm(config)
    origins = automatic.settle(config, origins, count_modes)
    checks.check_symbols(config, origins)
    checks.check_network(config, origins)
    checks.check_updates(config, algorithm, origins)
    plain = _plain(config)
    return RunSpec(
        algorithm=plain["algorithm"],
        label=plain["label"],
        env=_build(EnvConfig, plain["env"], "env"),
        preprocessing=_build(Preprocessing, plain["preprocessing"], "preprocessing"),
        config=_build(algorithm.Config, plain["algo"], "algo"),
        updates={phase: plain["updates"][phase] for phase in algorithm.phases},
        seed=plain["seed"],
        evaluation=_build(EvaluationConfig, plain["evaluation"], "evaluation"),
        dtype=plain["dtype"],
        M=plain["M"],
        beta=plain["beta"],
        sources={
            key: origins.source(key)
            for key in ("M", "beta", "dtype", *_fields(plain, _RECORDED_NODES))
            if plain.get(key, "") is not None
        },
        resolved=plain,
    )


def _fields(plain: Mapping[str, Any], nodes: Iterable[str]) -> list[str]:
    return [f"{node}.{name}" for node in nodes for name in plain[node]]


def run_specs(
    jobs: Sequence[Sequence[str]], sweep_config: DictConfig, loader: ConfigLoader
) -> list[RunSpec]:
    """The runs of a sweep's jobs, each a list of overrides.

    Raises ConfigError, and for M=auto DataError: where the modes of the data cannot be counted, as
    those of data that are not there in a dry run.
    """
    composer = Composer(loader, sweep_config)
    specs, has_auto = _run_specs(jobs, composer, None)
    if has_auto:
        fetch = not OmegaConf.select(sweep_config, "hydra.sweeper.dry_run")
        specs, _ = _run_specs(jobs, composer, cache(partial(datasets.count_modes, fetch=fetch)))
    return specs


def _run_specs(
    jobs: Sequence[Sequence[str]], composer: Composer, count_modes: CountModes | None
) -> tuple[list[RunSpec], bool]:
    """The runs as `_run_spec` gives them, and whether there is an M=auto among them.

    Jobs that differ by seed alone are composed once, unless something is computed from the seed.
    """
    has_auto = False
    composed: dict[tuple[str, ...], RunSpec] = {}  # by all overrides but the seed
    specs = []
    for job in jobs:
        seeds = [text for text in job if re.fullmatch(r"seed=\d+", text)]
        rest = tuple(text for text in job if text not in seeds)
        if len(seeds) != 1 or rest not in composed:
            config, made_of = composer.compose(job)
            origins = history(composer.loader, config, made_of)
            has_auto |= automatic.is_auto(origins)
            spec = _run_spec(config, origins, count_modes)
            if not _is_read("seed", job, origins):
                composed[rest] = spec
        else:
            seed = int(seeds[0].removeprefix("seed="))
            first = composed[rest]
            spec = replace(first, seed=seed, resolved={**first.resolved, "seed": seed})
        specs.append(spec)
    return specs, has_auto


def _is_read(key: str, job: Iterable[str], origins: History) -> bool:
    """Whether an interpolation may lead to the key, as in ${seed} or ${oc.select:seed}."""
    set_by_files = (str(place.value) for places in origins.values() for place in places)
    return any("${" in text and key in text for text in (*job, *set_by_files))


def execution_config(specs: Sequence[RunSpec]) -> tuple[ExecutionConfig, LaunchConfig]:
    """How these runs are carried out and handed out, together; raises ConfigError."""
    first, *rest = [{key: spec.resolved[key] for key in EXECUTION_KEYS} for spec in specs]
    for key, value in first.items():
        if any(other[key] != value for other in rest):
            raise ConfigError(
                f"{key} differs between runs of one sweep, but it belongs to the process that "
                "trains them all; start one sweep for each value"
            )
    del first["sweep_name"]
    launch = LaunchConfig(**{field.name: first.pop(field.name) for field in fields(LaunchConfig)})
    tracking = TrackingConfig(**first.pop("tracking"))
    for switch in ("vectorize", "compile"):
        first[switch] = first[switch].lower()  # YAML's true becomes Python's True
    return ExecutionConfig(**first, tracking=tracking), launch


def _plain(config: DictConfig) -> dict[str, Any]:
    """All but the `hydra` node, interpolations resolved, in plain containers."""
    _refuse_unknown("", config, {field.name for field in fields(_Schema)} | {"hydra"})
    try:
        return {
            str(key): OmegaConf.to_container(node, resolve=True)
            if isinstance(node, Container)
            else node
            for key, node in config.items()
            if key != "hydra"
        }
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error


def _refuse_unknown(prefix: str, keys: Iterable[Any], known: Iterable[str]) -> None:
    """A key that `+key=value` has smuggled past the schema is a mistake all the same."""
    for key in map(str, keys):
        if key not in known:
            raise ConfigError(
                f"{prefix}{key}: there is no such key{nearest(key, known, prefix)}; leave it out"
            )


def _build(kind: Any, values: Mapping[str, Any], key: str) -> Any:
    """The dataclass of a node; its own range checks speak with the node's name."""
    _refuse_unknown(f"{key}.", values, [field.name for field in fields(kind)])
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except ConfigError as error:
        raise ConfigError(str(error) if key == "env" else f"{key}.{error}") from error
