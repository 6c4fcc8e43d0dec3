"""What a command line composes to, where each value came from, and what is refused."""

import dataclasses
import json
from functools import cache

import pytest
import torch
import yaml

from lom_exp import cores
from lom_exp.algorithms import REGISTRY, lom
from lom_exp.configuration import compose, execution_config
from lom_exp.errors import ConfigError
from lom_exp.overrides import CONF, options, quote_numbers
from lom_exp.runspec import RunSpec

ROWS = yaml.safe_load((CONF / "tuned" / "lom.yaml").read_text())


@cache
def default() -> RunSpec:
    return compose()


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    return str(error.value)


# Composition


@pytest.mark.parametrize("row", [name for name in ROWS if name != "default"])
def test_lom_takes_the_row_of_its_dataset(row):
    spec = compose(["algo=lom", f"env={row}"])
    fields = {key: value for key, value in ROWS[row].items() if key not in ("M", "beta")}
    expected = lom.Config(
        num_components=ROWS[row]["M"], inverse_temperature=ROWS[row]["beta"], **fields
    )
    assert spec.config == expected
    assert (spec.M, spec.beta) == (ROWS[row]["M"], ROWS[row]["beta"])


def test_the_table_has_a_row_for_each_dataset_of_table_1():
    robots, qualities = (
        ("halfcheetah", "hopper", "walker2d"),
        ("medium-replay", "full-replay", "medium", "medium-expert", "expert"),
    )
    ours = {"fetch-reach", "fetch-push", "fetch-pick-and-place", "rings", "rings-unrewarded"}
    assert set(ROWS) == {"default", *(f"{r}-{q}" for r in robots for q in qualities), *ours}


def rows_of(algo):
    """The table of conf/tuned that an algorithm's file takes, {} for none."""
    path = CONF / "tuned" / f"{algo}.yaml"
    return yaml.safe_load(path.read_text()) if path.exists() else {}


@pytest.mark.parametrize("algo", [algo for algo in options("algo") if algo != "lom"])
def test_every_row_of_an_algorithms_table_is_of_a_known_dataset_and_reaches_its_config(algo):
    for row, settings in rows_of(algo).items():
        assert row in ("default", *options("env"))
        spec = compose([f"algo={algo}", f"env={'hopper-random' if row == 'default' else row}"])
        for key, value in settings.items():
            if key == "preprocessing":
                assert dataclasses.asdict(spec.preprocessing).items() >= value.items()
            elif key in ("M", "beta"):
                assert getattr(spec, key) == value
            else:
                assert getattr(spec.config, key) == value


@pytest.mark.parametrize("algo", options("algo"))
def test_m_and_beta_reach_the_algorithms_that_have_them_and_are_refused_by_the_others(algo):
    taken = {
        "M": {"lom": 4, "lom_paper": 4, "mdn": 4, "dmpo": 4, "infodmpo": 4},
        "beta": {
            **dict.fromkeys(["lom", "awac", "crr", "iql", "onestep", "dmpo", "infodmpo"], 0.25),
            **dict.fromkeys(["wcgan", "wcvae"], 0.25),
            "lom_paper": 4.0,  # Eq. 18 divides by it
        },
    }
    for symbol, typed in (("M", 4), ("beta", 0.25)):
        if algo in taken[symbol]:
            values = dataclasses.asdict(compose([f"algo={algo}", f"{symbol}={typed}"]).config)
            assert taken[symbol][algo] in values.values()
        else:
            refusal = message(f"algo={algo}", f"{symbol}={typed}")
            assert f"algo={algo} has no {symbol}; leave it out" in refusal


@pytest.mark.parametrize("algo", options("algo"))
def test_the_network_reaches_every_algorithm(algo):
    spec = compose([f"algo={algo}", "network=toy"])
    widths = [value for key, value in vars(spec.config).items() if key.endswith("hidden_sizes")]
    assert widths
    assert all(width == (64, 64) for width in widths)


def test_widths_of_a_network_that_the_algorithm_lacks_are_refused():
    refusal = message("algo=bc", "network.behavior_hidden_sizes=[64]")
    assert "network.behavior_hidden_sizes=[64]: algo=bc has no such network" in refusal
    assert "its widths are network.hidden_sizes" in refusal
    assert compose(["algo=bc", "network.hidden_sizes=[64]"]).config.hidden_sizes == (64,)
    spec = compose(["algo=lom", "network.behavior_hidden_sizes=[64]"])
    assert spec.config.behavior_hidden_sizes == (64,)


@pytest.mark.parametrize("algo", options("algo"))
def test_every_algorithm_has_a_budget_of_minutes(algo):
    spec = compose([f"algo={algo}", "budget=minutes"])
    assert max(spec.updates.values()) <= 5000
    assert spec.evaluation.every == 500
    assert all("budget" in spec.sources[f"updates.{phase}"] for phase in spec.updates)


def test_a_dataset_without_a_row_takes_the_defaults():
    spec = compose(["algo=lom", "env=hopper-random"])
    assert spec.config == lom.Config()
    assert spec.sources["M"] == "conf/tuned/lom.yaml [default]"


def test_lom_paper_divides_by_beta_and_keeps_only_m_of_the_row():
    spec = compose(["algo=lom_paper", "env=hopper-medium-expert"])
    assert spec.config == lom.Config(
        num_components=2,
        inverse_temperature=1 / 5,
        num_critics=1,
        smoothing_std=0.0,
        action_noise_std=0.0,
        max_weight=50.0,
        squash_means=False,
        baseline="component_mean",
        policy_loss="log_likelihood",
        hidden_sizes=(512, 512),
        behavior_hidden_sizes=(512, 512),
    )
    assert (spec.algorithm, spec.label, spec.beta) == ("lom", "lom_paper", 5.0)


def test_bc_has_no_symbols_of_the_mixture():
    spec = compose(["algo=bc", "env=hopper-medium-replay"])
    assert (spec.M, spec.beta) == (None, None)
    assert list(spec.updates) == list(REGISTRY["bc"].phases)
    assert "M" not in spec.sources
    assert spec.name("data").startswith("bc_hopper-medium-replay_seed0_")


def test_later_layers_win():
    env, experiment = "env=hopper-medium-replay", "experiment=figure3_reduced"
    assert compose([env]).M == 5  # the row over the default row
    assert compose([env, "M=20"]).M == 20  # the group over the row
    assert compose([experiment]).updates["policy"] == 30000  # the experiment over conf/algo
    assert compose([experiment, "updates.policy=7"]).updates["policy"] == 7  # the command line
    assert compose(["algo=lom_paper", "network=toy"]).config.hidden_sizes == (64, 64)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("M=7", 7), ("M=10", 10), ("M='3'", 3), ("M=10.0", 10), ("M=1000000", 1000000)],
)
def test_m_takes_any_whole_number(typed, expected):
    spec = compose([typed])
    assert (spec.M, spec.config.num_components) == (expected, expected)


@pytest.mark.parametrize(
    ("typed", "expected"), [("beta=0.3", 0.3), ("beta=5", 5.0), ("beta=1e-3", 1e-3)]
)
def test_beta_takes_any_number(typed, expected):
    spec = compose([typed])
    assert (spec.beta, spec.config.inverse_temperature) == (expected, expected)


def test_a_number_is_one_choice_however_it_is_written():
    names = {compose([f"beta={text}"]).name("data") for text in ("5", "5.0", "5e0", "'5.0'")}
    assert len(names) == 1
    assert "_beta5_" in names.pop()


def test_only_choices_of_groups_are_quoted():
    typed = ["M=7", "seed=3", "-m", "algo.tau=0.1", "M=2,5", "M=range(2,8)", "beta=tuned"]
    assert quote_numbers(typed) == ["M='7'", *typed[1:]]


@pytest.mark.parametrize("group", ["algo", "env", "network", "experiment"])
def test_every_choice_of_a_group_composes(group):
    for choice in set(options(group)) - set(ROWS):  # the rows' datasets are composed above
        compose([f"{group}={choice}"])


def test_a_composed_config_is_plain_data():
    spec = compose(["algo=lom_paper", "M=7"])
    assert json.loads(json.dumps(spec.resolved)) == spec.resolved
    assert spec.resolved["algo"]["inverse_temperature"] == 0.2


# Where values came from


def test_sources_name_the_layer_that_won():
    typed = ["M=7", "algo.tau=0.01", "network=paper", "updates.behavior=5"]
    sources = compose(["env=hopper-medium-replay", *typed]).sources
    assert sources["M"] == "M=7 (command line)"
    assert sources["algo.num_components"] == "M=7 (command line)"
    assert sources["algo.inverse_temperature"] == "conf/tuned/lom.yaml [hopper-medium-replay]"
    assert sources["algo.num_critics"] == "conf/tuned/lom.yaml [hopper-medium-replay]"
    assert sources["algo.tau"] == "command line"
    assert sources["algo.hidden_sizes"] == "network=paper (command line)"
    assert sources["algo.discount"] == "default"
    fields = {f"algo.{field.name}" for field in dataclasses.fields(lom.Config)}
    assert {"M", "beta", *fields} <= set(sources)
    assert sources["updates.behavior"] == "command line"
    assert sources["updates.policy"] == "conf/algo/lom.yaml"
    assert sources["preprocessing.observations"] == "conf/algo/lom.yaml"
    assert sources["evaluation.every"] == "conf/config.yaml"


def test_sources_tell_the_authors_of_a_setting_apart():
    sources = compose(["algo=lom_paper", "experiment=smoke", "network.hidden_sizes=[8]"]).sources
    assert sources["algo.policy_loss"] == "conf/algo/lom_paper.yaml"
    assert sources["beta"] == "conf/algo/lom_paper.yaml"
    assert sources["algo.hidden_sizes"] == "command line"
    assert sources["algo.behavior_hidden_sizes"] == "network=toy (experiment=smoke)"
    assert compose(["algo=lom_paper"]).sources["algo.hidden_sizes"] == "network=paper"


def test_a_value_that_the_experiment_sweeps_is_the_experiments():
    sources = compose(["experiment=figure3_reduced", "M=15"]).sources
    assert sources["algo.num_components"] == "M=15 (experiment=figure3_reduced)"


# Identity


def test_a_name_tells_what_the_run_is():
    spec = compose(["env=hopper-medium-replay", "M=7", "beta=0.3", "seed=4"])
    assert spec.name("data").startswith("lom_hopper-medium-replay_M7_beta0.3_seed4_")
    assert len(spec.id("data")) == 8


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "M=7",
        "algo.tau=0.01",
        "updates.policy=7",
        "preprocessing.next_actions=legacy",
        "evaluation.every=7",
        "dtype=float64",
        "env.random_return=-1",
        "env.generator_seed=9",
    ],
)
def test_what_changes_results_changes_the_id(override):
    assert compose([override]).id("data") != default().id("data")


@pytest.mark.parametrize(
    "override",
    [
        "results=/elsewhere",
        "device=cuda",
        "threads=2",
        "compile=true",
        "cuda_graphs=false",
        "tf32=false",
        "share=false",
        "evaluation_workers=3",
        "log_every=7",
        "tracking.enabled=false",
        "label=mine",
        "env.path=/elsewhere.hdf5",
    ],
)
def test_what_changes_no_result_changes_no_id(override):
    assert compose([override]).id("data") == default().id("data")


def test_other_data_is_another_run():
    assert default().id("data") != default().id("other data")


# Execution


def test_execution_is_read_off_the_config():
    typed = ["vectorize=true", "device=cuda:1", "threads=2", "pack_size=7", "wait=false"]
    typed += ["compile=false", "share=false", "tf32=false"]
    execution, launch = execution_config([compose(typed)])
    assert (execution.vectorize, execution.device, execution.threads) == ("true", "cuda:1", 2)
    assert (execution.compile, execution.share, execution.tf32) == ("false", False, False)
    assert execution.tracking.enabled
    assert (launch.pack_size, launch.retries, launch.wait) == (7, 2, False)


@pytest.mark.parametrize("override", ["pack_size=0", "retries=-1", "pack_size=many"])
def test_a_launch_that_makes_no_sense_is_refused(override):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        execution_config([compose([override])])


@pytest.mark.parametrize(
    ("override", "device", "workers"),
    [("null", "cuda", 7), ("null", "cpu", 0), ("3", "cpu", 3), ("0", "cuda", 0), ("9", "cuda", 9)],
)
def test_on_a_gpu_all_cores_but_one_play_episodes_unless_told_otherwise(
    override, device, workers, monkeypatch
):
    monkeypatch.setattr(cores, "available", lambda: list(range(8)))
    execution, _ = execution_config([compose([f"evaluation_workers={override}"])])
    assert execution.num_evaluation_workers(torch.device(device)) == workers


def test_runs_of_one_process_share_its_device():
    with pytest.raises(ConfigError, match="device differs between runs"):
        execution_config([compose(["device=cpu"]), compose(["device=auto"])])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("device=gpu", "device=gpu cannot be used: it must be auto, cpu, cuda"),
        ("vectorize=maybe", "not one of auto, true, false"),
        ("compile=sometimes", "not one of auto, true, false"),
        ("threads=0", "threads=0"),
        ("checkpoint_every=-1", "checkpoint_every=-1"),
        ("evaluation_workers=-1", "evaluation_workers=-1 cannot be used.*at least 0"),
    ],
)
def test_an_execution_that_makes_no_sense_is_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        execution_config([compose([override])])


# Refusals: the culprit, its value, the remedy and the nearest valid name


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("algo.tua=1", "algo.tua: there is no such key; did you mean algo.tau?"),
        ("tau=1", "tau: there is no such key; did you mean algo.tau?"),
        ("evaluaton.every=5", "did you mean evaluation?"),
        ("evaluation.evry=5", "did you mean evaluation.every?"),
        ("+algo.tua=1", "algo.tua: there is no such key; did you mean algo.tau?"),
        ("++sed=1", "sed: there is no such key; did you mean seed?"),
        ("algo=lmo", "algo=lmo: there is no such choice; did you mean lom?"),
        ("env=hoper-medium", "did you mean hopper-medium?"),
        ("network=papr", "did you mean paper?"),
        ("budget=toy algo=cql", "budget=toy has no updates for algo=cql; add them as"),
        ("experiment=figure33", "did you mean figure3?"),
        ("algo=5", f"algo=5: there is no such choice\nKnown are {', '.join(options('algo'))}"),
        ("algo=td3bc", "did you mean td3_bc?"),
        ("seed=abc", "seed=abc cannot be used: it must be a whole number"),
        ("seed=-1", "seed=-1 cannot be used: it must be 0 or above"),
        ("algo.tau=fast", "algo.tau=fast cannot be used: it must be a number"),
        ("algo.tau=2", "algo.tau=2.0 cannot be used: it must be in (0, 1]"),
        ("algo.tau=0", "algo.tau=0.0 cannot be used: it must be in (0, 1]"),
        ("algo.discount=1.5", "algo.discount=1.5 cannot be used: it must be in [0, 1]"),
        (
            "algo.policy_learning_rate=-0.001",
            "algo.policy_learning_rate=-0.001 cannot be used: it must be a number above 0",
        ),
        ("tracking.enabled=maybe", "it must be true or false"),
        ("network.hidden_sizes=[2.5]", "2.5 cannot be used: it must be a whole number"),
        ("M=0", "M=0 cannot be used: it must be a whole number of at least 1"),
        ("M=-1", "M=-1 cannot be used: it must be a whole number of at least 1"),
        ("M=2.5", "M=2.5 cannot be used: it must be a whole number"),
        ("M=ten", "M=ten cannot be used: it must be a number, or auto or tuned"),
        ("M=true", "M=true cannot be used: it must be one number"),
        ("M=[2,5]", "M=2,5, are a sweep"),
        ("beta=0", "beta=0.0 cannot be used: it must be a finite number above 0"),
        ("beta=-1", "beta=-1.0 cannot be used"),
        ("beta=nan", "beta=nan cannot be used"),
        ("beta=inf", "beta=inf cannot be used"),
        ("beta=0 algo=lom_paper", "beta=0.0 cannot be used"),
        ("algo.num_components=3", "give M=3 instead"),
        ("algo={num_components:3}", "give M=3 instead"),
        ("algo.inverse_temperature=3 algo=lom_paper", "give beta=... instead"),
        ("algo=bc M=3", "M=3 (command line): algo=bc has no M; leave it out"),
        ("algo=bc beta=3", "algo=bc has no beta; leave it out"),
        ("updates.polcy=3", "updates.polcy: there is no such key; did you mean updates.policy?"),
        ("algo=bc updates.behavior=3", "updates.behavior: there is no such key"),
        ("algo=bc +updates.behavior=3", "algo=bc has no phase behavior"),
        ("updates.policy=-3", "updates.policy=-3 cannot be used: it must be 0 or above"),
        ("updates.policy=1.5", "updates.policy=1.5 cannot be used: it must be a whole number"),
        ("evaluation.every=0", "evaluation.every=0 cannot be used"),
        ("preprocessing.observations=standrd", "did you mean 'standard'?"),
        ("preprocessing.next_actions=wrong", "not one of correct, legacy"),
        ("dtype=float16", "dtype='float16' is not one of float32, float64"),
        ("algorithm=lmo", "algorithm=lmo is no module of lom_exp.algorithms; did you mean lom?"),
        ("label=../up", "label='../up' cannot be used"),
        ("M=2,5", "M=2,5 is a sweep, but only one run can be shown; give one value"),
        ("M=2,,5", "'M=2,,5' cannot be read"),
        ("seed", "'seed' cannot be read"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(overrides, words):
    assert words in message(*overrides.split())


# A new algorithm's file, half written

FILE = """# @package _global_
defaults:
  - /schema/bc@algo
  - _self_
algorithm: bc
label: mine
algo: {hidden_sizes: "${network.hidden_sizes}"}
updates: {policy: 10}
preprocessing: {observations: standard, next_actions: correct}
"""


def compose_file(folder, text, *overrides):
    (folder / "algo").mkdir(exist_ok=True)
    (folder / "algo" / "mine.yaml").write_text(text)
    return compose([f"hydra.searchpath=['file://{folder}']", "algo=mine", *overrides])


def test_an_algorithms_file_may_lie_elsewhere(tmp_path):
    assert compose_file(tmp_path, FILE).label == "mine"


@pytest.mark.parametrize(
    ("line", "mistake", "overrides", "words"),
    [
        ("schema/bc@algo", "schema/crs@algo", (), "__init__.py has no crs in its REGISTRY"),
        ("- _self_", "- _self_\n  - /tuned/mine/default", (), "conf/tuned/mine.yaml, which is not"),
        ("  - /schema/bc@algo\n", "", (), "must begin with /schema/bc@algo"),
        ("# @package _global_\n", "", (), "its first line must be: # @package _global_"),
        (
            'algo: {hidden_sizes: "${network.hidden_sizes}"}\n',
            "",
            ("network=toy",),
            "has no network",
        ),
    ],
)
def test_what_is_missing_in_it_is_named(line, mistake, overrides, words, tmp_path):
    assert FILE.count(line) == 1
    with pytest.raises(ConfigError) as error:
        compose_file(tmp_path, FILE.replace(line, mistake), *overrides)
    assert words in str(error.value)
