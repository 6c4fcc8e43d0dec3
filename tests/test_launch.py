"""The command line as it is typed: what is run, under which name, and what is said."""

import logging
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import yaml

from lom_exp import experiment
from lom_exp.experiment import Result
from lom_exp.launcher import command_line as launcher
from lom_exp.launcher import control
from lom_exp.launcher.status import Row, Survey
from lom_exp.overrides import CONF, options
from lom_exp.sweeps import SweepFolder

LAUNCH = Path(launcher.__file__).parents[2] / "launch.py"


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Run a command line up to the training, which is replaced; returns its calls and exit code."""
    calls = []
    states = iter([])

    def carry_out(specs, settings, sweep):
        calls.append((specs, settings.execution, sweep))
        rows = [Row(f"run{i}", next(states, "finished")) for i in range(len(specs))]
        return Survey(SweepFolder(tmp_path / "results" / "sweeps" / sweep.name), rows, 0.0)

    def run(specs, execution, sweep):
        calls.append((specs, execution, sweep))
        return [Result(Path("run"), next(states, "finished"), "why")]

    def command(*arguments, states_of_runs=()):
        nonlocal states
        states = iter(states_of_runs)
        monkeypatch.setattr(sys, "argv", ["launch.py", *arguments])
        try:
            return launcher.main(), calls
        except SystemExit as exit:  # of --help and --cfg
            return exit.code, calls

    monkeypatch.setattr(control, "carry_out", carry_out)
    monkeypatch.setattr(experiment, "run", run)  # of Hydra's other launchers
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main sets it: restored afterwards
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield command
    root.setLevel(level)  # Hydra configures logging
    root.handlers[:] = handlers


def experiment_params(name):
    """The numbers that an experiment's file sweeps."""
    config = yaml.safe_load((CONF / "experiment" / f"{name}.yaml").read_text())
    params = config["hydra"]["sweeper"]["params"]
    return {key: [int(v) for v in params[key].split(",")] for key in ("M", "seed")}


def swept(specs, *names):
    return [tuple(getattr(spec, name) for name in names) for spec in specs]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("M=7", [7]),
        ("M=2,7", [2, 7]),
        ("M=range(2,5)", [2, 3, 4]),
        ("M=choice(2,7)", [2, 7]),
        ("M=tuned,2", [5, 2]),
        ("M=2,2,2.0", [2]),
    ],
)
def test_m_is_swept_as_typed(launch, typed, values):
    code, [(specs, _, _)] = launch("-m", "env=hopper-medium-replay", typed)
    assert code == 0
    assert [spec.M for spec in specs] == values


def test_m_is_swept_over_the_choices_a_pattern_matches(launch):
    _, [(specs, _, _)] = launch("M=glob(1*)")
    assert {(1,), (10,), (15,)} <= set(swept(specs, "M"))  # other tests may have made up more


def test_a_sweep_needs_no_flag(launch):
    _, [(specs, _, _)] = launch("M=2,7")
    assert swept(specs, "M") == [(2,), (7,)]


def test_beta_is_swept_as_typed(launch):
    _, [(specs, _, _)] = launch("-m", "beta=0.1,1e-3,5")
    assert [spec.config.inverse_temperature for spec in specs] == [0.1, 1e-3, 5.0]


def test_all_runs_of_a_sweep_reach_the_training_together(launch):
    _, [(specs, execution, sweep)] = launch("-m", "M=2,7", "seed=0,1", "device=cpu")
    assert swept(specs, "M", "seed") == [(2, 0), (2, 1), (7, 0), (7, 1)]
    assert execution.device == "cpu"
    assert sweep.overrides == ["M=2,7", "seed=0,1", "device=cpu"]


def test_one_wrong_run_stops_all_before_any_work(launch, capsys):
    code, calls = launch("-m", "M=2,0")
    assert (code, calls) == (1, [])
    assert capsys.readouterr().err.startswith("error: M=0 cannot be used")


def test_a_mistake_beside_a_sweep_is_the_one_named(launch, capsys):
    code, _ = launch("M=2,5", "algo.tua=1")
    assert code == 1
    assert "did you mean algo.tau?" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["smoke", "figure3_reduced"])
def test_an_experiment_sweeps_what_its_file_says(launch, name):
    params = experiment_params(name)
    code, [(specs, _, sweep)] = launch(f"experiment={name}")
    assert code == 0
    assert sweep.name == name
    assert swept(specs, "M", "seed") == list(product(params["M"], params["seed"]))
    assert specs[0].sources["M"] == f"M={specs[0].M} (experiment={name})"


def test_figure3_sweeps_m_on_the_replay_datasets(launch):
    assert experiment_params("figure3")["M"] == [1, 2, 5, 10, 15, 20]
    assert experiment_params("figure3")["seed"] == [0, 1, 2, 3]
    _, [(specs, _, _)] = launch("experiment=figure3", "M=20", "seed=0")
    assert {spec.env.name for spec in specs} == {
        name for name in options("env") if name.endswith("-replay")
    }
    assert len(specs) == 6


def test_table1_is_the_grid_of_the_paper(launch):
    params = yaml.safe_load((CONF / "experiment" / "table1.yaml").read_text())["hydra"]["sweeper"]
    datasets, methods, seeds = (params["params"][key].split(",") for key in ("env", "algo", "seed"))
    assert (len(datasets), len(methods), len(seeds)) == (15, 9, 4)
    assert set(datasets) <= set(options("env"))
    assert set(methods) <= set(options("algo"))

    _, [(specs, _, sweep)] = launch(
        "-m", "+experiment=table1", "env=hopper-medium-replay,hopper-expert"
    )
    assert sweep.name.startswith("table1_")
    assert swept(specs, "label", "seed") == 2 * [(m, s) for m in methods for s in range(4)]
    tuned = {spec.env.name: spec.M for spec in specs if spec.label == "lom"}
    assert tuned == {"hopper-medium-replay": 5, "hopper-expert": 2}


def test_a_dry_run_counts_runs_packs_and_updates_and_leaves_no_trace(launch, capsys, tmp_path):
    typed = ["algo=lom,bc", "env=hopper-medium,hopper-expert", "M=tuned", "updates.policy=1000"]
    typed.append("pack_size=32")  # without one, it follows this machine's cores
    code, calls = launch("-m", *typed, "seed=0,1,2", "algo.tau=0.1,0.2", "--dry-run")
    assert (code, calls) == (1, [])  # bc has no tau
    assert capsys.readouterr().err.startswith("error: algo.tau: there is no such key")

    code, calls = launch("-m", *typed, "seed=0,1,2", "--dry-run")
    assert (code, calls) == (0, [])
    assert list(tmp_path.iterdir()) == []
    text = capsys.readouterr().out
    rows = [line.split() for line in text.splitlines()]
    assert "12 runs in 4 packs, 4 jobs, 1,212,000 updates." in " ".join(text.split())
    assert [row for row in rows if row[:1] == ["hopper-medium"]] == [
        ["hopper-medium", "3", "3", "6"]
    ]
    assert ["all", "6", "6", "12"] in rows
    assert ["packs", "2", "2", "4"] in rows
    assert ["updates", "1.206M", "6k", "1.212M"] in rows
    assert ["200,000", "behavior", "+", "1,000", "policy:", "lom"] in rows
    assert ["1,000", "policy:", "bc"] in rows


def test_a_dry_run_needs_no_dataset_and_no_multirun_flag(launch, capsys):
    code, calls = launch("env=hopper-medium", "env.path=/nowhere/x.hdf5", "--dry-run")
    assert (code, calls) == (0, [])
    assert "1 run in 1 pack, " in capsys.readouterr().out


def test_packs_of_a_dry_run_are_those_that_would_train_together(launch, capsys):
    launch("M=2,5", "algo.tau=0.1,0.2", "seed=0,1", "pack_size=32", "--dry-run")
    assert "8 runs in 1 pack" in capsys.readouterr().out  # M is padded, tau a number
    launch("algo.num_critics=1,2", "algo.tau=0.1,0.2", "pack_size=32", "--dry-run")
    assert "4 runs in 2 packs" in capsys.readouterr().out  # whose critics have other shapes


def test_a_dry_run_of_submitted_jobs_submits_none(launch, capsys):
    code, calls = launch("hydra/launcher=submitit_slurm", "seed=0,1", "--dry-run")
    assert (code, calls) == (0, [])
    assert "2 runs in 2 packs" in capsys.readouterr().out


def test_a_dry_run_finds_what_the_launcher_would_refuse(launch, capsys):
    code, calls = launch("seed=0,1", "device=cpu,cuda", "--dry-run")
    assert (code, calls) == (1, [])
    assert "device differs between runs of one sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting",
    [
        *("cpus=x", "cpus=0", "max_jobs=1.5", "array_parallelism=-1", "signal_delay=null"),
        *("setup='module load cuda'", "setup=[1]", "sbatch=mail-type"),
    ],
)
def test_a_setting_of_a_cluster_that_makes_no_sense_is_named(setting, launch, capsys):
    code, calls = launch("hydra/launcher=slurm", f"hydra.launcher.{setting}", "--dry-run")
    assert (code, calls) == (1, [])
    name = setting.partition("=")[0]
    assert capsys.readouterr().err.startswith(f"error: hydra.launcher.{name}=")


@pytest.mark.parametrize("workers", ["0", "-1", "many"])
def test_a_number_of_workers_that_makes_no_sense_is_named(workers, launch, capsys):
    code, calls = launch(f"hydra.launcher.workers={workers}", "--dry-run")
    assert (code, calls) == (1, [])
    assert "hydra.launcher.workers" in capsys.readouterr().err


def test_a_plus_before_a_group_changes_nothing(launch):
    launch("-m", "experiment=smoke", "M=2,7")
    code, calls = launch("-m", "+experiment=smoke", "+M=2,7")
    assert code == 0
    (plain, _, first), (with_plus, _, second) = calls
    assert plain == with_plus
    assert first.name == second.name


def test_the_command_line_replaces_what_an_experiment_sweeps(launch):
    _, [(specs, _, sweep)] = launch("experiment=figure3_reduced", "M=3", "seed=8,9")
    assert swept(specs, "M", "seed") == [(3, 8), (3, 9)]
    assert sweep.name.startswith("figure3_reduced_M3_seed8+9_")
    assert specs[0].sources["M"] == "M=3 (command line)"


def test_a_sweep_is_named_by_what_is_swept(launch):
    _, [(_, _, sweep)] = launch("-m", "env=hopper-medium", "M=2,5", "algo.tau=0.1,0.2")
    assert sweep.name.startswith("lom_hopper-medium_M2+5_tau0.1+0.2_")
    assert len(sweep.name.rpartition("_")[2]) == 8


def test_a_sweep_has_one_name_wherever_and_in_whatever_order_it_is_run(launch):
    launch("-m", "M=2,5", "network=toy")
    launch("-m", "M=2,5", "network=toy", "results=elsewhere", "device=cpu")
    launch("-m", "network=toy", "M=2,5")
    _, calls = launch("-m", "M=2,5", "network=paper")
    names = [sweep.name for _, _, sweep in calls]
    assert names[0] == names[1] == names[2] != names[3]


def test_a_long_sweep_has_a_short_name(launch):
    datasets = "halfcheetah-medium-expert,halfcheetah-medium-replay,halfcheetah-full-replay"
    rates = "algo.behavior_learning_rate=0.123456789,0.987654321"
    _, [(_, _, sweep)] = launch("-m", f"env={datasets}", rates, "M=123456", "seed=123456789")
    assert len(sweep.name) <= 110


def test_a_sweep_can_be_named(launch):
    _, [(_, _, sweep)] = launch("-m", "M=2,5", "sweep_name=mine")
    assert sweep.name == "mine"


def test_a_command_whose_runs_did_not_all_finish_fails(launch, capsys):
    code, _ = launch("-m", "seed=0,1,2", states_of_runs=["finished", "failed", "diverged"])
    assert code == 1
    assert capsys.readouterr().err == "error: 1 of 3 runs did not finish (see above)\n"


def test_an_interrupted_command_says_how_to_go_on(launch, monkeypatch, capsys):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(control, "carry_out", interrupted)
    code, _ = launch()
    assert code == 130
    assert "the same command" in capsys.readouterr().err


def test_a_bug_is_not_passed_off_as_a_users_mistake(launch, monkeypatch):
    monkeypatch.setattr(control, "carry_out", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        launch()


def test_hydras_submitit_launcher_runs_one_run_a_job(launch, monkeypatch):
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher

    monkeypatch.setattr(LocalLauncher, "_EXECUTOR", "debug")  # in this process
    code, calls = launch("-m", "hydra/launcher=submitit_local", "M=range(6,8)", "beta=0.3")
    assert code == 0
    assert [swept(specs, "M", "beta") for specs, _, _ in calls] == [[(6, 0.3)], [(7, 0.3)]]
    assert len({sweep.name for _, _, sweep in calls}) == 1


def test_a_mistake_is_found_before_jobs_are_submitted(launch, capsys):
    code, calls = launch("-m", "hydra/launcher=submitit_slurm", "M=2,-1")
    assert (code, calls) == (1, [])
    assert capsys.readouterr().err.startswith("error: M=-1 cannot be used")


def test_the_composed_config_can_be_looked_at(launch, capsys):
    code, calls = launch("--cfg", "job", "M=7", "beta=0.3")
    assert (code, calls) == (0, [])
    assert "\nM: 7\nbeta: 0.3\n" in capsys.readouterr().out


def test_launching_leaves_nothing_behind_but_what_the_training_writes(launch, tmp_path):
    launch("-m", "M=2,7")
    assert list(tmp_path.iterdir()) == []


def test_warnings_of_ours_stay_audible(launch):
    before = logging.getLogger("lom_exp.checkpoints")
    launch("seed=0")
    assert not before.disabled
    assert before.isEnabledFor(logging.INFO)


def test_help_fits_a_screen_and_knows_every_choice(launch, capsys):
    code, _ = launch("--help")
    text = capsys.readouterr().out
    assert code == 0
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 100
    for group in ("algo", "env", "M", "beta", "network", "experiment"):
        assert all(choice in text for choice in options(group))


def test_help_waits_for_no_heavy_import():
    code = (
        "import sys; sys.argv = ['launch.py', '--help'];"
        "from lom_exp.launcher.command_line import main;"
        "import atexit;"
        "heavy = {'torch', 'mlflow', 'gymnasium', 'mujoco'};"
        "atexit.register(lambda: print(heavy & set(sys.modules)));"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_an_error_is_one_message_and_an_exit_code(tmp_path):
    command = [sys.executable, str(LAUNCH), "-m", "M=2,5", "env=hoper-medium"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    first, *rest = done.stderr.splitlines()
    assert first == "error: env=hoper-medium: there is no such choice; did you mean hopper-medium?"
    assert len(rest) == 1
