"""Hours of training, hyper-parameters used, and whether intervals overlap the paper's."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
from result_folders import ResultsFolder

from analysis import hours, runs, table1, table3
from analysis.folders import AnalysisError


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def timed(
    results: ResultsFolder, seed: int, log: str | None, rates: list[tuple[int, float]]
) -> str:
    """A run evaluated at steps 1,500 and 2,500 that logged these (step, updates per second)."""
    name = results.add(2, seed, [[10.0], [20.0]])
    folder = results.path / "runs" / name
    (folder / "metrics.jsonl").write_text(
        "".join(
            json.dumps(
                {"phase": "policy", "update": step, "step": step, "updates_per_second": rate}
                | {"metrics": {}}
            )
            + "\n"
            for step, rate in rates
        )
    )
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"log": log}))
    return name


def test_hours_are_of_the_updates_and_a_pack_shares_its_device(results: ResultsFolder) -> None:
    # 1,000 updates at 10/s and 2,000 at 20/s are 100 s each; step 1,500 is after 125 s.
    rates = [(1000, 10.0), (3000, 20.0)]
    together = [timed(results, seed, "logs/pack.log", rates) for seed in (0, 1)]
    alone = timed(results, 2, None, rates)

    found = hours.compute(runs.load(results.path))

    totals = found.runs.set_index("run")
    assert totals["hours"].tolist() == pytest.approx([200 / 3600] * 3)
    assert totals.loc[together, "device_hours"].tolist() == pytest.approx([100 / 3600] * 2)
    assert totals.loc[alone, "device_hours"] == pytest.approx(200 / 3600)
    mine = found.evaluations[found.evaluations["run"] == alone]
    assert mine["hours"].tolist() == pytest.approx([125 / 3600, 175 / 3600])


def test_a_run_that_logged_no_rate_is_named_and_none_at_all_is_an_error(
    results: ResultsFolder,
) -> None:
    without = results.add(5, 0, [[10.0]])
    with pytest.raises(AnalysisError, match="no run has logged how fast it trains"):
        hours.write(runs.load(results.path), results.path)
    timed(results, 0, None, [(1000, 10.0), (3000, 20.0)])

    written = hours.write(runs.load(results.path), results.path)

    assert [run for run, text in written.problems if "no updates per second" in text] == [without]
    assert (results.path / "hours.pdf").read_bytes().startswith(b"%PDF")
    assert len(pd.read_csv(results.path / "hours.csv")) == 2


def test_the_hyperparameters_are_those_of_the_runs_and_where_they_hold(
    results: ResultsFolder,
) -> None:
    for env, M in (("hopper-medium", 5), ("walker2d-medium", 10)):
        for seed in (0, 1):
            results.add(M, seed, [[1.0]], env=env, config={"tau": 0.01, "a|b": f"{seed}"})
    results.add(None, 0, [[1.0]], label="bc", env="hopper-medium", beta=None)

    frame = table3.compute(runs.load(results.path)).set_index("setting")

    assert frame.loc["M"].tolist() == [
        "", "5 (hopper-medium), 10 (walker2d-medium)", "see Figure 3; {2, 5, 10, 15, 20}",
    ]  # fmt: skip
    assert frame.loc["algo.tau", ["bc", "lom"]].tolist() == ["0.005", "0.01"]
    assert frame.loc["algo.a|b", "lom"] == "0, 1"
    table3.write(runs.load(results.path), results.path)
    assert "algo.a\\|b" in (results.path / "table3.md").read_text()
    assert r"algo.a\textbar{}b" in (results.path / "table3.tex").read_text()


def test_table1_tells_whether_the_intervals_of_ours_and_the_paper_overlap(
    results: ResultsFolder,
) -> None:
    # LOM on hopper-medium: 87.2 ± 2.8 of 4 seeds, which is 82.7 to 91.7. AWAC has no deviation.
    for seed, offset in enumerate((-1.0, 0.0, 1.0)):  # ± 2.5
        results.add(5, seed, [[80.5 + offset]], env="hopper-medium")
        results.add(5, seed, [[70.0 + offset]], env="walker2d-medium")  # 85.1 ± 0.7
        results.add(None, seed, [[59.8 + offset]], label="awac", env="hopper-medium", beta=None)

    table1.write(runs.load(results.path), results.path)

    grid = pd.read_csv(results.path / "table1.csv").set_index(["dataset", "method"])
    assert grid.loc[("hopper-medium", "lom"), "overlap"] == "yes"
    assert grid.loc[("walker2d-medium", "lom"), "overlap"] == "no"
    assert math.isnan(grid.loc[("hopper-medium", "awac"), "overlap"])
    assert "overlap" in (results.path / "table1.md").read_text()
