"""The arithmetic of the benchmarks: floors, budget, shares, growth, and what their pages say.

Nothing is timed here; rates are made up.
"""

import json
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from benchmarks import floor, growth, runner, shares, suite, tables
from benchmarks.cases import Case, Timing, measurement, random_transitions, taken_apart
from lom_exp.algorithms import REGISTRY, lom, td3
from lom_exp.random import Rng

PAGES = Path(__file__).parents[1] / "docs" / "performance"
CEILINGS = {
    "copy_gb_per_second": 100.0,
    "matmul_gflops": {"float32": 50.0, "tf32": 400.0},
    "batched_gflops": [{"runs": 1, "rows": 256, "precision": "float32", "gflops": 40.0}],
}
TINY = {"hidden_sizes": [4], "behavior_hidden_sizes": [5], "num_components": 2}


def result(phase="policy", rate=10.0, runs=1, **changes):
    """A result of a case of LOM, as the worker sends it."""
    compile = changes.pop("compile", False)
    made = {
        "device": "cpu",
        "hardware": "Xeon",
        "threads": 1,
        "algorithm": "lom",
        "phase": phase,
        "runs": runs,
        "vectorized": False,
        "settings": {"compile": compile},
        "gflop": 2.0,
        "updates_per_second": rate,
        "slowest": rate - 1,
        "fastest": rate + 1,
        "first_update": 0.5,
        "versions": {"torch": "2"},
        "git_commit": None,
        "time": 0.0,
        "section": "updates",
        "label": "",
        "transitions": 100_000,
        "bytes": 1e6,
        "precision": "float32",
        "import_seconds": 2.0,
        "initialize_seconds": 0.1,
        "start_seconds": 0.7,
        "peak_bytes": 5_000_000,
        "reserved_bytes": None,
    }
    return made | changes


def test_the_floor_is_the_longer_of_products_and_bytes():
    products = floor.Work(gflop=5.0, bytes=1e9)  # 0.1 s against 0.01 s
    assert floor.seconds(products, 1, CEILINGS) == pytest.approx(0.1)
    assert floor.seconds(products, 4, CEILINGS) == pytest.approx(0.4)
    assert floor.seconds(products, 1, CEILINGS, "tf32") == pytest.approx(0.0125)
    traffic = floor.Work(gflop=5.0, bytes=50e9)
    assert floor.seconds(traffic, 2, CEILINGS) == pytest.approx(1.0)


def test_a_result_is_compared_with_the_floor_of_all_its_runs():
    compared = floor.compared(result(rate=10.0, runs=4), CEILINGS)  # 4 updates in 0.4 s
    assert compared["floor_seconds"] == pytest.approx(4 * 0.04)
    assert compared["ratio"] == pytest.approx(2.5)


def test_the_work_of_lom_s_phases_is_that_counted_by_hand():
    config = lom.Config(
        num_components=2,
        hidden_sizes=(4,),
        behavior_hidden_sizes=(5,),
        behavior_batch_size=7,
        critic_batch_size=6,
        hyper_critic_batch_size=3,
        policy_batch_size=2,
    )
    data = random_transitions(20, torch.device("cpu"))
    row = 2 * 11 + 2 * 3 + 2  # numbers of a transition
    mixture = (11 * 5 + 5) + (5 * 14 + 14)  # 2 (1 + 2 x 3) outputs
    behavior = floor.work(lom, "behavior", config, data)
    assert behavior.bytes == 4 * (7 * mixture + 7 * row + 2)  # and which components there are
    # Forward, and backward to the weights of both layers and the inputs of the second.
    assert behavior.gflop == pytest.approx(2 * 7 * (2 * 11 * 5 + 3 * 5 * 14) / 1e9)

    critic = (14 * 4 + 4) + (4 * 1 + 1)
    hyper = (11 * 4 + 4) + (4 * 2 + 2)
    policy = (11 * 4 + 4) + (4 * 3 + 3)  # its log-stds are there, but have no gradient
    log_std = 3
    trained = critic + hyper + policy + log_std
    # The target critic moves in the second of two updates and is only read in the first.
    moved = (2 * critic + critic) / 2
    expected = 7 * trained + moved + mixture + (6 + 3 + 2) * row + 2  # and the components
    assert floor.work(lom, "policy", config, data).bytes == pytest.approx(4 * expected)


def test_a_delayed_network_counts_where_it_is_trained():
    data = random_transitions(20, torch.device("cpu"))

    def bytes_of(period):
        config = td3.Config(policy_period=period, batch_size=2, hidden_sizes=(4,))
        return floor.work(td3, "policy", config, data).bytes / 4

    critics = 2 * ((14 * 4 + 4) + (4 + 1))
    policy = (11 * 4 + 4) + (4 * 3 + 3)
    # Each second update the targets move (2) and the policy is trained (7), instead of read (1).
    assert bytes_of(1) - bytes_of(2) == pytest.approx(
        ((2 - 1) * (critics + policy) + 6 * policy) / 2
    )


class Clock:
    """Time that passes when a case is got ready or timed."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Started:
    """A case whose start and measurement take so long, or that fails."""

    def __init__(self, case, clock, seconds, fails):
        self.case, self.clock, self.seconds, self.fails = case, clock, seconds, fails

    def ready(self):
        self.clock.now += self.seconds / 2
        if self.fails == "ready":
            raise runner.CaseFailed("no memory")

    def results(self):
        self.clock.now += self.seconds / 2
        if self.fails == "results":
            raise runner.CaseFailed("no device")
        return [{"runs": self.case.runs}]


def case(runs, **changes):
    fields = {"vectorize": False, "compile": False, "device": "cpu"}
    return Case(**{"algorithm": "bc", "runs": runs} | fields | changes)


def run_cases(seconds, *, budget, parallel=1, fails=None):
    clock, kept, said = Clock(), [], []
    outcome = runner.run(
        [case(runs) for runs in seconds],
        parallel=parallel,
        deadline=clock.now + budget,
        keep=kept.append,
        report=said.append,
        start=lambda made, _: Started(
            made, clock, seconds[made.runs], (fails or {}).get(made.runs, "")
        ),
        clock=clock,
    )
    assert outcome.results == kept
    return [entry["runs"] for entry in kept], outcome, said


def test_a_wave_that_would_end_after_the_budget_is_left_out_and_named():
    kept, outcome, said = run_cases({1: 10, 2: 30, 4: 30, 8: 10}, budget=95)
    assert kept == [1, 2, 4]  # 70 s are used, and another case may take 30
    assert outcome.left_out == [str(case(8))]
    assert "R=8" in outcome.left_out[0]
    assert said[-1] == "out of time; left out: 1 cases"
    kept, outcome, _ = run_cases({1: 10, 2: 30, 4: 30, 8: 10}, budget=100)
    assert (kept, outcome.left_out) == ([1, 2, 4, 8], [])


def test_a_budget_counts_whole_waves():
    kept, outcome, _ = run_cases(dict.fromkeys((1, 2, 4, 8, 20), 10), budget=59, parallel=2)
    assert kept == [1, 2, 4, 8]  # two waves of 20 s; a third of as long would end at 60
    assert outcome.left_out == [str(case(20))]


@pytest.mark.parametrize(("fails", "error"), [("ready", "no memory"), ("results", "no device")])
def test_a_case_that_fails_is_named_and_the_others_go_on(fails, error):
    kept, outcome, said = run_cases({1: 1, 2: 1, 4: 1}, budget=99, parallel=3, fails={2: fails})
    assert kept == [1, 4]
    assert outcome.failed == {str(case(2)): error}
    assert any("R=2" in text and error in text for text in said)


@pytest.mark.slow
def test_processes_time_what_they_can_and_say_why_they_cannot():
    common = {"repeats": 1, "seconds": 0.01, "threads": 1, "transitions": 2000}
    small = case(2, settings={"hidden_sizes": [8]}, **common)
    wrong = case(1, settings={"hidden_sizes": [0]}, **common)
    outcome = runner.run([small, wrong], parallel=2, deadline=float("inf"), keep=lambda _: None)
    [made] = outcome.results
    assert measurement(made).settings["hidden_sizes"] == [8]
    assert (made["phase"], made["runs"], made["transitions"]) == ("policy", 2, 2000)
    assert made["peak_bytes"] > 0
    assert list(outcome.failed) == [str(wrong)]
    assert "hidden_sizes" in outcome.failed[str(wrong)]
    late = runner.run([small], parallel=1, deadline=0, keep=print, clock=lambda: 0)
    assert (late.left_out, late.failed, late.results) == ([str(small)], {}, [])


def test_a_case_survives_json():
    [made, *_] = growth.cases(20, device="cuda", vectorize=True, compile=True, threads=None)
    assert Case(**json.loads(json.dumps(asdict(made)))) == made


def test_the_growth_settings_are_the_authors_at_the_center():
    default = lom.Config()
    for factor, value in growth.CENTER.items():
        made = Timing(case(1, algorithm="lom", settings=growth.settings(factor, value)))
        assert made.config == default
    assert not any(value in growth.OTHERS[factor] for factor, value in growth.CENTER.items())


def test_an_algorithm_taken_apart_does_the_same_updates():
    config = Timing(case(1, algorithm="lom", settings=TINY)).config
    data = random_transitions(2000, torch.device("cpu"))
    apart, zero = taken_apart(lom), torch.zeros((), dtype=torch.int64)
    assert list(apart.phases) == ["behavior", "critics", "hyper_critic", "policy"]
    rng = Rng.of(zero, "policy", zero)
    whole = one = lom.init(11, 3, config, rng)
    for update in lom.phases["policy"]:
        whole, _ = update(whole, data, config, rng)
    for name in ("critics", "hyper_critic", "policy"):
        [update] = apart.phases[name]
        one, _ = update(one, data, config, rng)
    for expected, found in zip(
        torch.utils._pytree.tree_leaves(whole), torch.utils._pytree.tree_leaves(one), strict=True
    ):
        assert torch.equal(expected, found)


def lom_shares(**overhead):
    """Two runs: the mixture takes 1/100 s an update, the policy phase 1/10 s."""
    part = {"section": "shares", "runs": 2}
    return [
        result("behavior", 200.0, runs=2),
        result("policy", 20.0, runs=2),
        result("behavior", 200.0, **part),
        result("critics", 100.0, **part),
        result("hyper_critic", 25.0, **part),
        result("policy", 20.0, **part),
        {"section": "overheads", "runs": 2, "compile": False}
        | {"seconds": {"logging": 0.5, "checkpoint": 3.0}, "left_out": {}}
        | overhead,
    ]


def test_shares_are_those_of_the_authors_budget_by_hand():
    seconds = {"logging": 0.5, "checkpoint": 3.0, "evaluation": 10.0}
    rows = shares.table(lom_shares(seconds=seconds), 2, False)
    found = {row["part"]: row["seconds"] for row in rows}
    assert found == pytest.approx(
        {
            "mixture": 200_000 / 100,
            "critic": 1_000_000 / 10 * 1 / 10,
            "hyper-Q": 1_000_000 / 10 * 4 / 10,
            "policy": 1_000_000 / 10 * 5 / 10,
            "evaluation": (100 + 10) * 10.0,  # one each 10,000 updates, and one of 100 episodes
            "logging": 1200 * 0.5,
            "checkpoint": (102_000 / 300 + 2) * 3.0,
        }
    )
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[2]["share"] == pytest.approx(40_000 / sum(found.values()))


def test_shares_name_what_was_left_out_and_need_every_phase():
    made = lom_shares(left_out={"evaluation": "SimulationError: no mujoco"})
    assert "evaluation" not in {row["part"] for row in shares.table(made, 2, False)}
    assert "Without evaluation: SimulationError: no mujoco." in tables.share_rows(made, 2, False)
    assert tables.share_cases(made) == [(2, False)]
    assert shares.table(made[1:], 2, False) == []
    assert tables.share_cases(made[1:]) == []
    assert shares.table(made, 4, False) == []
    assert shares.table(made, 2, True) == []


def grown():
    return [
        result("policy", 50.0, runs=1),
        result("policy", 100.0, runs=4),
        result("policy", 99.0, runs=1, vectorized=True),  # another layout: no part in it
        result("policy", 25.0, section="growth", label="M=20"),
        result("policy", 12.5, section="growth", label="rows=2000000"),
        result("behavior", 12.5, section="growth", label="M=20"),  # without a center: no row
    ]


def test_growth_is_relative_to_the_authors_setting():
    rows = [tuple(row.values()) for row in growth.table(grown())]
    assert rows == [
        ("R", 1, "policy", 20.0, 1.0),
        ("R", 4, "policy", 10.0, 0.5),
        ("M", 10, "policy", 20.0, 1.0),
        ("M", 20, "policy", 40.0, 2.0),
        ("width", 256, "policy", 20.0, 1.0),
        ("batch", 256, "policy", 20.0, 1.0),
        ("rows", 100_000, "policy", 20.0, 1.0),
        ("rows", 2_000_000, "policy", 80.0, 4.0),
    ]
    assert growth.table([]) == growth.table(grown()[:2]) == []


def content():
    measured = [
        *lom_shares(),
        *grown(),
        result("policy", 80.0, compile=True, start_seconds=31.4),
        result("policy", 80.0, compile=True, start_seconds=4.2, section="restart"),
    ]
    return {
        "machine": {"device": "cpu", "hardware": "Xeon", "memory_bytes": 25e9, "cores": 2}
        | {"threads": 1, "clock": "CPU time", "system": "Linux 6", "versions": {"torch": "2.13.0"}},
        "git_commit": "0123456789",
        "date": "2026-02-03",
        "command": "python -m benchmarks.suite",
        "note": "Busy.",
        "elapsed_seconds": 300.0,
        "ceilings": CEILINGS,
        "loading": None,
        "results": [
            floor.compared(made, CEILINGS) if "gflop" in made else made for made in measured
        ],
        "left_out": ["updates, cql, R=64, vmap, eager"],
        "failed": {"updates, iql, R=1, vmap, eager": "no memory"},
    }


def test_a_page_says_what_the_json_holds_and_what_is_missing():
    kept = json.loads(json.dumps(content()))
    text = tables.page(kept, "cpu")
    assert text == tables.page(content(), "cpu")
    assert (
        "| lom | policy | 2 | 2 | one by one | eager | 20.0 (19.0-21.0) | 1.25 | 5 MB | 0.7 |"
        in text
    )
    assert "| lom | policy | 1 | 2.0 | 0.1 | 31.4 | 4.2 |" in text
    assert "| M | 20 |  |  | 40 | 2.00 |" in text
    assert "| hyper-Q | 11.11 |" in text
    assert "For want of time: updates, cql, R=64, vmap, eager." in text
    assert "- updates, iql, R=1, vmap, eager: no memory" in text
    assert "## Loading" not in text
    assert "Commit 0123456, 2026-02-03" in text


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.json")), ids=lambda path: path.stem)
def test_the_kept_pages_are_made_of_their_json(path):
    text = path.with_suffix(".md").read_text()
    assert text == tables.page(json.loads(path.read_text()), path.stem)
    for figure in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (PAGES / figure).is_file()


@pytest.mark.slow
def test_the_suite_needs_no_hydra_simulator_tracker_or_plots():
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in {'hydra', 'omegaconf', 'mujoco', 'gymnasium', 'mlflow', 'matplotlib'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import benchmarks.suite, benchmarks.worker, benchmarks.updates\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PAGES.parents[1])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_suite_measures_every_algorithm_and_all_pack_sizes_of_lom(device):
    cases = suite.cpu_cases(1) if device == "cpu" else suite.cuda_cases(None)
    assert len({str(made) for made in cases}) == len(cases)
    assert {made.algorithm for made in cases} == set(REGISTRY)
    of_lom = {made.runs for made in cases if made.algorithm == "lom"}
    assert {1, 4, 8, 20, 64} <= of_lom
    assert {made.device for made in cases} == {device}
    # A second start of the same must find the first one's code: it comes a wave later.
    again = next(i for i, made in enumerate(cases) if made.section == "restart")
    same = {"algorithm", "runs", "vectorize", "compile", "settings"}
    first = next(
        i
        for i, made in enumerate(cases)
        if made.section == "updates"
        and all(asdict(made)[key] == asdict(cases[again])[key] for key in same)
    )
    assert again - first >= (1 if device == "cpu" else suite.WAVE)
