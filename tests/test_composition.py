"""Composing a sweep's jobs together gives what composing each alone gives."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from lom_exp import configuration
from lom_exp.composition import Composer
from lom_exp.composition_errors import explain
from lom_exp.errors import ConfigError
from lom_exp.overrides import CONF, options, quote_numbers
from lom_exp.runspec import RunSpec


@pytest.fixture(scope="module")
def hydra() -> Iterator[ConfigLoader]:
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def sweep_config(hydra: ConfigLoader, *typed: str) -> DictConfig:
    return hydra.load_configuration("config", list(typed), RunMode.MULTIRUN)


def compose_alone(hydra: ConfigLoader, master: DictConfig, job: Sequence[str]) -> RunSpec:
    return configuration.run_spec(hydra.load_sweep_config(master, list(job)), hydra)


def parts(config: DictConfig) -> tuple[DictConfig, DictConfig, list[str]]:
    """A job's config without its `hydra` node, and what that says of the job."""
    choices, task = config.hydra.runtime.choices, config.hydra.overrides.task
    with open_dict(config):
        del config["hydra"]
    return config, {key: choices[key] for key in choices if not key.startswith("hydra/")}, task


JOBS = [
    ["algo=lom", "seed=0"],
    ["algo=lom", "seed=1"],
    ["algo=lom", "seed=7", "algo.tau=0.1"],
    ["algo=lom", "algo.tau=0.1", "updates={policy: 5, behavior: 6}"],
    ["algo=lom", "M=7", "beta=0.3", "seed=1"],
    ["algo=lom", "M=8", "beta=3", "seed=1"],
    ["algo=lom", "M=tuned", "beta=0.3", "seed=1"],
    ["beta=2", "algo=lom_paper", "M=8"],
    ["beta=4", "algo=lom_paper", "M=9", "results='${hydra.job.name}/${hydra.runtime.choices.M}'"],
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
    alone = [compose_alone(hydra, master, job) for job in jobs]

    assert configuration.run_specs(jobs, master, hydra) == alone


def test_the_config_of_a_job_is_the_one_hydra_loads(hydra: ConfigLoader) -> None:
    master = sweep_config(hydra)
    composer = Composer(hydra, master)
    for job in map(quote_numbers, JOBS):
        together, _ = composer.compose(job)
        assert parts(together) == parts(hydra.load_sweep_config(master, job))


def random_job(draw: random.Random) -> list[str]:
    """Choices and values in any order, some of which do not fit together."""
    possible = [
        f"algo={draw.choice(['lom', 'lom_paper', 'dmpo', 'infodmpo', 'crr', 'bc'])}",
        f"env={draw.choice(options('env'))}",
        f"network={draw.choice(options('network'))}",
        f"M={draw.choice(['2', '3', '04', '5.0', 'tuned', '0'])}",
        f"beta={draw.choice(['0.25', '1e-3', '7', '5', 'tuned', '-1'])}",
        draw.choice(["algo.policy_batch_size=${M}", "algo.num_components=3", "algo.tau=0.1"]),
        draw.choice(["network.hidden_sizes=[8]", "updates.policy=3", "dtype=float64"]),
    ]
    chosen = [text for text in possible if draw.random() < 0.4]
    draw.shuffle(chosen)
    return quote_numbers([*chosen, f"seed={draw.randrange(3)}"])


def words(error: Exception) -> str:
    """What the command line says of an error."""
    return explain(error) or str(error)


@pytest.mark.parametrize("typed", ["algo=lom", "experiment=table1"])
def test_random_jobs_compose_or_are_refused_as_alone(hydra: ConfigLoader, typed: str) -> None:
    master, draw = sweep_config(hydra, typed), random.Random(typed)
    alone: dict[tuple[str, ...], RunSpec] = {}
    refusals: dict[tuple[str, ...], str] = {}
    for _ in range(10):
        job = random_job(draw)
        if not any(text.startswith(f"{typed.partition('=')[0]}=") for text in job):
            job = [typed, *job]
        try:
            alone[tuple(job)] = compose_alone(hydra, master, job)
        except (ConfigError, HydraException) as error:
            refusals[tuple(job)] = words(error)
    assert alone
    assert refusals

    specs = configuration.run_specs(list(alone), master, hydra)
    assert specs == list(alone.values())
    assert list(map(repr, specs)) == list(map(repr, alone.values()))  # to ==, 5 is 5.0
    for job, refusal in refusals.items():
        with pytest.raises((ConfigError, HydraException, OmegaConfBaseException)) as together:
            configuration.run_specs([next(iter(alone)), job], master, hydra)
        assert words(together.value) == refusal


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


@pytest.mark.parametrize("wrong", ["M=2.5", "+M='3'", "++M='3'", "~M='3'"])
def test_a_number_that_cannot_be_chosen_is_refused_beside_others(
    hydra: ConfigLoader, wrong: str
) -> None:
    master = sweep_config(hydra)
    job = quote_numbers([wrong]) if wrong[0] == "M" else [wrong]
    with pytest.raises(HydraException) as alone:
        hydra.load_sweep_config(master, job)
    with pytest.raises((HydraException, OmegaConfBaseException)) as together:
        configuration.run_specs([["M='2'"], job], master, hydra)
    assert words(together.value) == words(alone.value)


def test_what_the_sweep_has_looked_up_is_not_looked_up_again(hydra: ConfigLoader) -> None:
    typed = "results='${now:%H%M%S%f}'"
    master = sweep_config(hydra, typed)
    results = master.results

    assert Composer(hydra, master).compose([typed, "seed=1"])[0].results == results


FILES = {
    "experiment/pinned.yaml": "# @package _global_\nM: 3\n",
    "experiment/free.yaml": "# @package _global_\nalgo: {num_critics: 7}\n",
    "algo/by_number.yaml": """# @package _global_
defaults:
  - /schema/lom@algo
  - _self_
  - optional /sizes: ${M}
algorithm: lom
label: by_number
algo: {num_components: "${M}", inverse_temperature: "${beta}"}
updates: {behavior: 1, policy: 1}
preprocessing: {observations: standard, next_actions: correct}
""",
    "sizes/3.yaml": "# @package _global_\nalgo: {policy_batch_size: 3}\n",
    "M/twelve.yaml": "# @package _global_\nM: 12\ndtype: float64\n",
    "M/thirteen.yaml": "# @package _global_\ndefaults: [/sizes/3]\nM: 13\n",
}


def test_a_number_that_does_more_than_set_its_key_is_not_taken_for_one(
    hydra: ConfigLoader, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    master = sweep_config(hydra, f"hydra.searchpath=['file://{tmp_path}']")
    jobs = [
        *([f"M={M}", "algo=lom", f"experiment={e}"] for M in (1, 2, 4) for e in ("pinned", "free")),
        *([f"M={M}", "algo=lom"] for M in (5, "twelve", "thirteen", 6)),
        *([f"M={M}", "algo=by_number"] for M in (1, 2, 3, 4)),
    ]
    composer = Composer(hydra, master)
    configs = [composer.compose(job)[0] for job in map(quote_numbers, jobs)]

    assert [config.M for config in configs] == [3, 1, 3, 2, 3, 4, 5, 12, 13, 6, 1, 2, 3, 4]
    assert [config.dtype for config in configs[6:8]] == ["float32", "float64"]
    sizes = [config.algo.policy_batch_size for config in configs[8:]]
    assert sizes == [3, 256, 256, 256, 3, 256]
    for job, config in zip(map(quote_numbers, jobs), configs, strict=True):
        assert parts(config) == parts(hydra.load_sweep_config(master, job))


NAMES = {
    "algo=lom": "lom_fetch-reach_M4_beta0.2_seed0_5e262fe3",
    "env=hopper-medium M=7 beta=0.3 seed=3": "lom_hopper-medium_M7_beta0.3_seed3_4ac495ce",
    "algo=lom_paper experiment=smoke": "lom_paper_fetch-reach_M4_beta5_seed0_7a0e3a4c",
    "algo=bc env=walker2d-expert network=toy seed=11": "bc_walker2d-expert_seed11_c1518691",
    "algo=dmpo env=halfcheetah-medium-replay algo.tau=0.1 dtype=float64": (
        "dmpo_halfcheetah-medium-replay_M8_beta10_seed0_41281635"
    ),
    "algo=onestep env=hopper-full-replay updates.policy=10": (
        "onestep_hopper-full-replay_beta1_seed0_a425863b"
    ),
}


def test_runs_keep_their_names(hydra: ConfigLoader) -> None:
    """A run of another name is another run: what was trained would be trained again."""
    jobs = [quote_numbers(typed.split()) for typed in NAMES]
    specs = configuration.run_specs(jobs, sweep_config(hydra), hydra)
    assert [spec.name("data") for spec in specs] == list(NAMES.values())
