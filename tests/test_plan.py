"""What a dry run says: runs, packs, jobs, what is finished, and hours from kept benchmarks."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from lom_exp import experiment, packs, plan, rates
from lom_exp.algorithms import REGISTRY
from lom_exp.configuration import compose, execution_config
from lom_exp.rates import Measurement, RatesError

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "updates.py"
HOUR = 3600
GPU, CPU = torch.device("cuda"), torch.device("cpu")
DAY = time.mktime((2026, 2, 3, 12, 0, 0, 0, 0, -1))


@cache
def composed(algo):
    return compose([f"algo={algo}", "env=hopper-medium"])


def runs(algo="bc", env="hopper-medium", seeds=4, **changes):
    spec = composed(algo)
    changes.setdefault("updates", dict.fromkeys(spec.updates, HOUR))
    env_config = replace(spec.env, name=env)
    return [replace(spec, seed=seed, env=env_config, **changes) for seed in range(seeds)]


def measured(algorithm="bc", *, rate=1.0, runs=1, config=None, **changes):
    """Every phase of an algorithm at this rate of all runs together, on a GPU."""
    config = config or composed(algorithm).config
    fields = {
        "device": "cuda",
        "hardware": "NVIDIA H200",
        "threads": 16,
        "algorithm": algorithm,
        "runs": runs,
        "vectorized": True,
        "settings": rates.settings(config, "float32", changes.get("device", "cuda") == "cuda"),
        "gflop": 1.0,
        "updates_per_second": rate,
        "slowest": rate,
        "fastest": rate,
        "first_update": 0.1,
        "versions": {"torch": "2.13.0"},
        "git_commit": None,
        "time": DAY,
    }
    return [
        Measurement(**{**fields, "phase": phase, **changes}) for phase in REGISTRY[algorithm].phases
    ]


@pytest.fixture
def described(tmp_path):
    """The description of specs, some of them finished, after some measurements."""

    def describe(specs, *measurements, finished=(), device=GPU, absent=(), pack_size=4, **changes):
        rates.record(tmp_path, [made for group in measurements for made in group])
        left = [spec for i, spec in enumerate(specs) if i not in finished]
        grouped = packs.group(left, [experiment.pack_key(spec, spec.env.name) for spec in left])
        execution, _ = execution_config([composed("bc")])
        return plan.describe(
            "mine",
            specs,
            grouped,
            jobs=len(grouped),
            absent=absent,
            pack_size=pack_size,
            execution=replace(execution, results=str(tmp_path), **changes),
            device=device,
        )

    return describe


def row(text, name):
    """The cells of a row of the table."""
    table = text.split("\n\n")[1]
    [cells] = [line.split() for line in table.splitlines() if line.split()[0] == name]
    return cells[1:]


def test_runs_packs_jobs_and_updates_are_counted(described):
    specs = [*runs("bc"), *runs("td3"), *runs("bc", "hopper-expert", seeds=2)]
    text = described(specs)
    assert text.startswith("mine: 10 runs in 3 packs, 3 jobs, 36,000 updates.\n")
    assert "train together, at most 4 of them" in text
    assert row(text, "runs") == ["bc", "td3", "all"]
    assert row(text, "hopper-medium") == ["4", "4", "8"]
    assert row(text, "hopper-expert") == ["2", "2"]
    assert row(text, "all") == ["6", "4", "10"]
    assert row(text, "packs") == ["2", "1", "3"]
    assert row(text, "updates") == ["21.6k", "14.4k", "36k"]
    assert "  3,600 policy: bc, td3" in text
    assert "finished" not in text.split("\n\n")[1]


def test_what_is_finished_is_shown_and_only_the_rest_is_counted(described):
    specs = [*runs("bc"), *runs("td3")]
    text = described(specs, measured("bc"), measured("td3"), finished={0, 1, 2, 3, 4})
    assert text.startswith("mine: 8 runs, 5 of them finished. Left: 3 runs in 1 pack, 1 job, ")
    assert row(text, "finished/runs") == ["bc", "td3", "all"]
    assert row(text, "hopper-medium") == row(text, "all") == ["4/4", "1/4", "5/8"]
    assert row(text, "packs") == ["0", "1", "1"]
    assert row(text, "updates") == ["0", "10.8k", "10.8k"]
    assert row(text, "GPU-hours") == ["0", "3", "3"]


def test_a_finished_sweep_says_so_and_has_no_hours(described):
    text = described(runs("bc"), finished=range(4))
    assert text.startswith("mine: 4 runs, all of them finished; there is nothing left")
    assert row(text, "all") == ["4/4", "4/4"]
    assert "python benchmarks" not in text


def test_datasets_that_are_not_here_are_named(described):
    specs = [*runs("bc"), *runs("bc", "hopper-expert")]
    assert "Not on this machine yet: hopper-expert. Without its data" in described(
        specs, absent=["hopper-expert"]
    )
    both = described(specs, absent=["hopper-expert", "hopper-medium"])
    assert "Not on this machine yet: all datasets." in both
    assert "Not on this machine yet" not in described(specs)


def test_hours_are_those_of_packs_at_the_measured_rate(described):
    """Four runs of an hour's updates each at two updates a second of all runs together."""
    text = described(runs("bc"), measured("bc", rate=2.0, runs=4))
    assert row(text, "GPU-hours") == ["2", "2"]
    assert "GPU-hours: about 2, the longest pack 2. Evaluations come on top." in text
    assert "measured on 2026-02-03 on NVIDIA H200, torch 2.13.0: bc" in text
    assert "rough" not in text
    assert "not known" not in text


def test_hours_are_summed_over_phases_and_packs(described):
    behavior, policy = measured("lom", runs=4)
    specs = [*runs("lom"), *runs("lom", "hopper-expert", seeds=8)]
    updates = {"behavior": HOUR, "policy": 10 * HOUR}
    specs = [replace(spec, updates=updates) for spec in specs]
    behavior = replace(behavior, updates_per_second=4.0)
    text = described(specs, [behavior, replace(policy, updates_per_second=8.0)])
    # 1 + 5 hours for four runs, twice that for eight
    assert row(text, "GPU-hours") == ["18", "18"]
    assert "the longest pack 12." in text


@pytest.mark.parametrize(
    ("pack", "hours"),
    [
        (1, "1"),  # of R=1
        (2, "2"),
        (4, "0.8"),  # of R=8, which would take as long
        (8, "0.8"),
        (16, "1.6"),
    ],
)
def test_the_measured_pack_nearest_in_size_counts(described, pack, hours):
    measurements = (measured(rate=1.0, runs=1), measured(rate=10.0, runs=8))
    assert row(described(runs(seeds=pack), *measurements), "GPU-hours") == [hours, hours]


def test_runs_one_after_another_take_as_long_as_each_alone(described):
    measurements = measured(rate=10.0, runs=8, vectorized=False, device="cpu")
    text = described(runs(seeds=5), measurements, device=CPU)
    assert row(text, "job-hours") == ["0.5", "0.5"]


def test_a_measurement_on_another_device_or_in_another_layout_does_not_count(described):
    on_cpu = measured(device="cpu", vectorized=False)
    one_by_one = measured(vectorized=False)
    text = described(runs(), on_cpu, one_by_one)
    assert row(text, "GPU-hours") == ["?", "?"]
    assert "GPU-hours are not known for bc: not measured on a GPU yet." in text
    assert row(described(runs(), device=CPU), "job-hours") == ["4", "4"]


def test_algorithms_without_a_benchmark_are_named_with_the_command_that_makes_it(
    described, tmp_path, monkeypatch
):
    specs = [*runs("bc"), *runs("td3"), *runs("iql")]
    text = described(specs, measured("bc", runs=4))
    assert row(text, "GPU-hours") == ["4", "?", "?", "4+"]
    assert "GPU-hours are not known for td3, iql: " in text
    command = "python benchmarks/updates.py td3 iql --device cuda --compile"
    assert text.endswith(f"\n  {command} --results {tmp_path}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(tmp_path)
    rates.record(Path("results"), [])
    execution, _ = execution_config(specs[:1])
    options = {"jobs": 1, "absent": [], "pack_size": None, "device": GPU}
    text = plan.describe("mine", specs[4:], [specs[4:8]], execution=execution, **options)
    assert text.endswith("\n  python benchmarks/updates.py td3 --device cuda --compile")


def test_the_measurement_at_the_run_s_own_settings_counts_before_nearer_sizes(described):
    config = composed("lom").config
    other = measured("lom", runs=4, rate=100.0, config=replace(config, num_components=20))
    own = measured("lom", runs=1, rate=8.0)
    text = described(runs("lom"), other, own)
    assert row(text, "GPU-hours") == ["1", "1"]
    assert "rough" not in text


def test_hours_from_other_settings_are_called_rough(described):
    config = replace(composed("lom").config, num_components=20, hidden_sizes=(8, 8))
    text = described(runs("lom"), measured("lom", config=config))
    assert "rough, as measured at other settings: lom (hidden_sizes, num_components)" in text
    text = described(runs("bc", dtype="float64"), measured("bc"), compile="false")
    assert "rough, as measured at other settings: bc (compile, dtype)" in text


def test_methods_that_share_a_pack_share_its_hours(described):
    """Labels are for people: what is trained decides what may train together."""
    specs = [*runs("bc", seeds=3), *runs("bc", label="mine", seeds=1)]
    text = described(specs, measured("bc", runs=4, rate=0.5))
    assert row(text, "runs") == ["bc", "mine", "all"]
    assert row(text, "packs") == ["1", "1", "1"]
    assert row(text, "GPU-hours") == ["6", "2", "8"]
    assert "torch 2.13.0: bc, mine" in text


def test_floats_of_a_config_do_not_make_hours_rough(described):
    config = composed("lom").config
    specs = runs("lom", config=replace(config, inverse_temperature=0.123))
    assert "rough" not in described(specs, measured("lom"))


def test_the_last_of_equal_measurements_counts_whatever_it_was_made_on(described):
    older = measured(rate=1.0, hardware="NVIDIA A100", time=DAY - 86400)
    text = described(runs(), measured(rate=4.0), older)
    assert row(text, "GPU-hours") == ["1", "1"]
    assert "A100" not in text


def test_a_cpu_is_named_with_its_threads(described):
    made = measured(device="cpu", vectorized=False, hardware="Xeon", threads=1)
    assert "measured on 2026-02-03 on Xeon, 1 thread, torch" in described(runs(), made, device=CPU)


@pytest.mark.parametrize("finished", [(), range(5, 300)])
def test_a_plan_of_nine_methods_fits_a_hundred_columns(described, finished):
    methods = ["onestep", "awac", "cql", "td3_bc", "lapo", "dmpo", "wcgan", "wcvae", "lom"]
    names = ["halfcheetah-medium-expert", "walker2d-medium-replay", "hopper-expert"]
    specs = [
        replace(run, updates=composed(method).updates)
        for name in names
        for method in methods
        for run in runs(method, name, seeds=20)
    ]
    text = described(
        specs,
        *(measured(method, rate=20.0) for method in methods[1:]),
        finished=finished,
        absent=names[:2],
    )
    *lines, command = text.splitlines()
    assert command.startswith("  python ")
    assert max(map(len, lines)) <= 100


def test_a_plan_of_ten_thousand_runs_is_made_without_delay(described):
    specs = [run for i in range(500) for run in runs("lom", f"env{i}", seeds=20)]
    made = [measured("lom", runs=size, rate=size) for size in range(1, 20)]
    started = time.monotonic()
    text = described(specs, *made)
    assert time.monotonic() - started < 5
    assert "10,000 runs in 500 packs" in text


def test_a_measurement_replaces_the_earlier_one_under_the_same_conditions(tmp_path):
    rates.record(tmp_path, measured("lom", rate=1.0))
    rates.record(tmp_path, [*measured("lom", rate=2.0), *measured("lom", runs=4)])
    config = replace(composed("lom").config, num_components=20)
    for other in ({"threads": 1}, {"hardware": "NVIDIA A100"}, {"config": config}):
        rates.record(tmp_path, measured("lom", **other))
    kept = rates.read(tmp_path)
    assert len(kept) == 2 * 5
    assert [made.updates_per_second for made in kept[:2]] == [2.0, 2.0]


def test_measurements_of_another_version_or_a_damaged_file_are_passed_over(tmp_path):
    assert rates.read(tmp_path) == []
    rates.record(tmp_path, measured())
    path = tmp_path / "benchmarks" / "updates.json"
    content = json.loads(path.read_text())
    content["measurements"] += [{"device": "cuda"}, None]
    path.write_text(json.dumps(content))
    assert rates.read(tmp_path) == measured()
    path.write_text(path.read_text()[:100])
    assert rates.read(tmp_path) == []


def test_measurements_that_cannot_be_kept_are_an_error_that_names_the_file(tmp_path):
    (tmp_path / "benchmarks").write_text("a file")
    with pytest.raises(RatesError, match=r"cannot write .*benchmarks/updates\.json"):
        rates.record(tmp_path, [])


@pytest.mark.slow
def test_the_benchmark_makes_what_a_plan_reads(described, tmp_path):
    command = [sys.executable, str(SCRIPT), "bc", "--device", "cpu", "--results", str(tmp_path)]
    command += ["--set", "hidden_sizes=(8,)", "--runs", "1", "2"]
    command += ["--seconds", "0.01", "--repeats", "1", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = rates.read(tmp_path)
    assert [(made.runs, made.vectorized) for made in kept] == [
        (1, False),
        (1, True),
        (2, False),
        (2, True),
    ]
    config = replace(composed("bc").config, hidden_sizes=(8,))
    text = described(runs("bc", seeds=2, config=config), device=CPU)
    hours = 2 / kept[2].updates_per_second
    assert row(text, "job-hours")[0] == ("<0.01" if hours < 0.01 else f"{hours:.2g}")
    assert "rough" not in text
    assert f"{kept[2].updates_per_second:.1f} (" in done.stdout
    assert kept[0].versions["torch"] == torch.__version__
    assert kept[0].hardware in text
    assert abs(kept[0].time - time.time()) < 600
