"""Composing a sweep's jobs together gives what composing each alone gives."""

from collections.abc import Iterator

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from lom_exp import configuration
from lom_exp.composition import Composer
from lom_exp.errors import ConfigError
from lom_exp.overrides import CONF, quote_numbers


@pytest.fixture(scope="module")
def hydra() -> Iterator[ConfigLoader]:
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def sweep_config(hydra: ConfigLoader, *typed: str) -> DictConfig:
    return hydra.load_configuration("config", list(typed), RunMode.MULTIRUN)


JOBS = [
    ["algo=lom", "seed=0"],
    ["algo=lom", "seed=1"],
    ["algo=lom", "seed=7", "algo.tau=0.1"],
    ["algo=lom", "algo.tau=0.1", "updates={policy: 5, behavior: 6}"],
    ["algo=lom", "M=7", "beta=0.3", "seed=1"],
    ["algo=lom", "M=8", "beta=0.3", "seed=1"],
    ["algo=bc", "env=hopper-medium", "+updates={policy: 9}"],
    ["algo=bc", "env=hopper-expert", "++seed=3", "network=toy"],
    ["algo=bc", "network.hidden_sizes=[8,8]", "tracking.uri=null"],
    ["algo=lom_paper", "experiment=smoke", "seed=2"],
    ["algo=lom", "experiment=smoke", "evaluation.every=${log_every}", "~threads"],
    ["algo=lom", "algo.hyper_critic_batch_size=${seed}", "seed=4"],
    ["algo=lom", "algo.hyper_critic_batch_size=${seed}", "seed=5"],
    ["algo=lom", "algo.hyper_critic_batch_size=${oc.select:seed}", "seed=6"],
    ["algo=lom", "algo.hyper_critic_batch_size=${oc.select:seed}", "seed=7"],
]


@pytest.mark.parametrize("typed", [[], ["experiment=smoke", "hydra.sweeper.dry_run=true"]])
def test_a_job_composes_as_it_does_alone(hydra: ConfigLoader, typed: list[str]) -> None:
    master = sweep_config(hydra, *typed)
    jobs = [quote_numbers(job) for job in JOBS if "~threads" not in job]
    alone = [configuration.run_spec(hydra.load_sweep_config(master, job), hydra) for job in jobs]

    assert configuration.run_specs(jobs, master, hydra) == alone


def test_the_config_of_a_job_is_the_one_hydra_loads(hydra: ConfigLoader) -> None:
    master = sweep_config(hydra)
    composer = Composer(hydra, master)
    for job in map(quote_numbers, JOBS):
        together, alone = composer.compose(job), hydra.load_sweep_config(master, job)
        # The name that Hydra's own launchers would give the job's folder is not wanted here.
        together.hydra.job.override_dirname = alone.hydra.job.override_dirname
        assert together == alone


@pytest.mark.parametrize(
    "wrong", ["algo=lon", "algo.tua=1", "seed=x", "seed=1.5", "~nothing", "+seed=3", "M=2,5"]
)
def test_a_mistake_is_refused_as_it_is_alone(hydra: ConfigLoader, wrong: str) -> None:
    master = sweep_config(hydra)
    with pytest.raises((HydraException, ValueError)) as alone:
        hydra.load_sweep_config(master, [wrong])
    with pytest.raises(type(alone.value)) as together:
        configuration.run_specs([["seed=1"], [wrong]], master, hydra)
    assert str(together.value) == str(alone.value)


def test_a_seed_that_cannot_be_is_refused_beside_others(hydra: ConfigLoader) -> None:
    with pytest.raises(ConfigError, match="seed=-1 cannot be used"):
        configuration.run_specs([["seed=0"], ["seed=-1"]], sweep_config(hydra), hydra)


def test_runs_of_two_seeds_share_nothing_that_one_could_change(hydra: ConfigLoader) -> None:
    first, second = configuration.run_specs(
        [["algo=lom", "seed=0"], ["algo=lom", "seed=1"]], sweep_config(hydra), hydra
    )
    assert (first.seed, first.resolved["seed"]) == (0, 0)
    assert (second.seed, second.resolved["seed"]) == (1, 1)
    assert {**second.resolved, "seed": 0} == first.resolved
