"""Tables and figures from hand-made result folders with numbers worked out by hand."""

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.text import Text
from result_folders import ResultsFolder, evaluation

from analysis import curves, drawing, figure3, runs, scores, sweep, table
from analysis.folders import AnalysisError


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def test_a_run_is_one_row_per_evaluation_and_episode(results: ResultsFolder) -> None:
    results.add(2, 7, [[10.0, 20.0], [30.0, 40.0]], final=[50.0, 60.0, 70.0])

    episodes = runs.load(results.path).episodes

    assert len(episodes) == 7
    last = episodes.iloc[-1]
    assert last[["M", "beta", "seed", "phase", "update", "step"]].tolist() == [
        2, 5.0, 7, "policy", 2000, 2500,
    ]  # fmt: skip
    assert last[["final", "episode", "return", "length", "score"]].tolist() == [
        True, 2, 120.0, 100, 70.0,
    ]  # fmt: skip
    assert last[["provenance", "status", "label"]].tolist() == ["collected", "finished", "lom"]


def test_the_reward_of_an_episodes_last_step_is_nan_where_a_run_did_not_record_it(
    results: ResultsFolder,
) -> None:
    old = results.add(2, 0, [[10.0, 20.0]])
    new = results.add(2, 1, [[10.0, 20.0]], final_rewards=[2.0, 0.0])

    loaded = runs.load(results.path)

    assert loaded.problems == []
    last = loaded.episodes.groupby("run", observed=True)["final_reward"].agg(list)
    assert last[new] == [2.0, 0.0]
    assert [math.isnan(value) for value in last[old]] == [True, True]


@pytest.mark.parametrize(
    ("rewards", "problem"),
    [
        ([2.0], "its return, length, score, final_reward lists differ in length or are empty"),
        ([2.0, math.nan], "it holds a value that is no finite number"),
    ],
)
def test_an_evaluation_whose_last_rewards_are_damaged_is_left_out_and_named(
    results: ResultsFolder, rewards: list[float], problem: str
) -> None:
    name = results.add(2, 0, [[10.0, 20.0]], final_rewards=rewards)

    loaded = runs.load(results.path)

    assert loaded.episodes.empty
    assert loaded.problems[0] == (
        name, f"evaluation at policy update 1,000, left out: {problem}",
    )  # fmt: skip


def test_an_average_over_evaluations_of_which_one_was_not_recorded_is_not_known(
    results: ResultsFolder,
) -> None:
    name = results.add(2, 0, [[10.0], [20.0]])
    with (results.path / "runs" / name / "evaluations.jsonl").open("a") as file:
        file.write(evaluation(3000, [30.0], final_rewards=[2.0]))  # resumed with a newer version

    row = scores.per_run(runs.load(results.path), "final_reward").iloc[0]

    assert row["last"] == 2.0
    assert math.isnan(row["last_ten"])


def test_the_last_ten_evaluations_are_averaged_and_the_final_one_replaces_its_neighbor(
    results: ResultsFolder,
) -> None:
    # Evaluations 1 to 12, of which the last ten are 3 to 12; the final one (30) replaces the 12.
    results.add(2, 0, [[index - 1.0, index + 1.0] for index in range(1, 13)], final=[25.0, 35.0])

    row = scores.per_run(runs.load(results.path)).iloc[0]

    assert row["last"] == 30.0
    assert row["last_ten"] == (3 + 4 + 5 + 6 + 7 + 8 + 9 + 10 + 11 + 30) / 10
    assert row[["evaluations", "evaluated_update"]].tolist() == [10, 12000]


def test_a_cell_is_the_mean_and_the_sample_deviation_over_seeds(results: ResultsFolder) -> None:
    for seed, mean in enumerate([10.0, 20.0, 60.0]):
        results.add(5, seed, [[mean - 5, mean + 5]])

    cell = scores.per_cell(scores.per_run(runs.load(results.path))).iloc[0]

    assert cell["seeds"] == 3
    assert cell["last_ten"] == 30.0
    assert cell["last_ten_std"] == pytest.approx(700**0.5)  # (20² + 10² + 30²) / 2
    assert cell["dataset_score"] == 40.0  # (60 + 20) / 2


def test_the_interval_is_students_and_there_is_none_of_one_seed() -> None:
    # Mean 2, standard error 1 / sqrt(3), and 4.3027 of them to either side with 2 degrees.
    low, high, kind = scores.interval([3.0, 1.0, 2.0])
    assert (low, high) == (
        pytest.approx(2 - 2.48414, abs=1e-5),
        pytest.approx(2 + 2.48414, abs=1e-5),
    )
    assert kind == "95% t"
    # Mean 2, standard error 1, and 12.7062 of them with one degree.
    assert scores.interval([3.0, 1.0])[:2] == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert scores.interval([3.0]).kind == "none: one seed"
    assert math.isnan(scores.interval([3.0]).low)


def test_what_is_not_finished_or_not_sound_is_listed_by_name(results: ResultsFolder) -> None:
    done = results.add(2, 0, [[10.0]])
    young = results.add(2, 1, [], status="running")
    lost = results.add(5, 0, [[1.0]], status="diverged", error="critics/loss is not finite")
    failed = results.add(5, 1, [[1.0]], status="failed", error="no space left on device")
    foreign = results.add(10, 0, [[1.0]])
    (results.path / "runs" / foreign / "record.json").write_text("{")
    cut = results.add(10, 1, [[1.0], [2.0]])
    with (results.path / "runs" / cut / "evaluations.jsonl").open("a") as file:
        file.write('{"phase": "policy", "upd')
    sweep = results.sweep([done, young, lost, failed, foreign, cut, "lom_M20_missing"])

    loaded = runs.load(sweep)

    problems = [f"{run}: {text}" for run, text in loaded.problems]
    assert [run for run, _ in loaded.problems] == [
        young, young, lost, failed, foreign, cut, "lom_M20_missing"
    ]  # fmt: skip
    assert problems[0].endswith("running at policy update 0 of 10,000")
    assert problems[1].endswith("no evaluation yet")
    assert problems[2].endswith(
        "diverged at policy update 1,000 of 10,000: critics/loss is not finite"
    )
    assert problems[3].endswith("no space left on device")
    assert "unreadable, left out" in problems[4]
    assert "record.json" in problems[4]
    assert "evaluations.jsonl line 3 left out" in problems[5]
    assert "not started" in problems[6]
    assert scores.per_run(loaded)["run"].tolist() == [done, lost, failed, cut]


def test_an_evaluation_with_a_value_that_is_no_number_is_left_out_and_named(
    results: ResultsFolder,
) -> None:
    name = results.add(2, 0, [[10.0], [float("nan")]])

    loaded = runs.load(results.path)

    assert scores.per_run(loaded)["last"].tolist() == [10.0]
    assert [run for run, text in loaded.problems if "policy update 2,000, left out" in text] == [
        name
    ]


def test_an_evaluation_made_again_after_a_resume_counts_once(results: ResultsFolder) -> None:
    name = results.add(2, 0, [[10.0], [20.0]])
    with (results.path / "runs" / name / "evaluations.jsonl").open("a") as file:
        file.write(evaluation(2000, [40.0]))

    assert scores.per_run(runs.load(results.path))["last_ten"].tolist() == [25.0]


def test_runs_that_differ_by_more_than_the_seed_are_not_averaged(results: ResultsFolder) -> None:
    results.add(2, 0, [[10.0]], config={"tau": 0.01})
    results.add(2, 0, [[30.0]], config={"tau": 0.02})

    cells = scores.per_cell(scores.per_run(runs.load(results.path)))

    assert cells["settings"].tolist() == ["algo.tau=0.01", "algo.tau=0.02"]
    assert cells["last"].tolist() == [10.0, 30.0]


@pytest.mark.parametrize("other", [{"provenance": "d4rl"}, {"sha256": "cd" * 32}])
def test_a_cell_of_mixed_data_is_an_error_that_lists_the_runs(
    results: ResultsFolder, other: dict[str, str]
) -> None:
    names = [results.add(2, 0, [[10.0]]), results.add(2, 1, [[10.0]], **other)]

    with pytest.raises(AnalysisError, match="different data") as error:
        table.write(runs.load(results.path), results.path)
    assert all(name in str(error.value) for name in names)


def test_a_seed_that_counts_twice_is_an_error_that_lists_the_runs(results: ResultsFolder) -> None:
    results.add(2, 0, [[10.0]], config={"tau": 0.01})
    twin = results.path / "runs" / "twin"
    (results.path / "runs" / results.add(2, 0, [[12.0]])).rename(twin)
    text = (twin / "config.yaml").read_text().replace("tau: 0.005", "tau: 0.01")
    (twin / "config.yaml").write_text(text)

    with pytest.raises(AnalysisError, match="a seed counts twice") as error:
        scores.per_run(runs.load(results.path))
    assert "twin (seed 0)" in str(error.value)


@pytest.mark.parametrize("provenance", ["collected", "generated", "unknown", "D4RL", ""])
def test_only_data_of_known_provenance_is_called_d4rl(
    results: ResultsFolder, provenance: str
) -> None:
    name = results.add(2, 0, [[10.0]], provenance=provenance)
    sweep = results.sweep([name])

    written = figure3.write(runs.load(sweep), sweep)
    table.write(runs.load(sweep), sweep)

    pages = [path.read_text() for path in written.files if path.suffix in (".csv", ".md")]
    pages += [(sweep / "table.md").read_text(), (sweep / "table.csv").read_text()]
    for page in pages:
        assert "D4RL" not in page.replace("data, not D4RL", "")


def test_d4rl_data_is_called_so(results: ResultsFolder) -> None:
    results.add(2, 0, [[10.0]], provenance="d4rl")

    cells, _ = table.write(runs.load(results.path), results.path)

    assert cells["data"].tolist() == ["D4RL"]


def test_the_table_holds_the_numbers_as_csv_and_markdown(results: ResultsFolder) -> None:
    names = [results.add(2, seed, [[10.0 + 4 * seed], [20.0 + 4 * seed]]) for seed in (0, 1)]
    names.append(results.add(10, 0, [[7.0]], status="interrupted"))
    sweep = results.sweep(names)

    table.write(runs.load(sweep), sweep)

    frame = pd.read_csv(sweep / "table.csv", keep_default_na=False)
    assert frame["M"].tolist() == [2, 10]
    assert frame["last_ten"].tolist() == [17.0, 7.0]
    assert frame["last"].tolist() == [22.0, 7.0]
    assert frame["last_ten_std"].tolist() == ["2.828427", ""]
    assert frame["interval"].tolist() == ["95% t", "none: one seed"]
    assert frame["status"].tolist() == ["finished", "0 of 1 finished"]
    page = (sweep / "table.md").read_text()
    assert (
        "| lom | hopper-medium-replay | 2 | 5 |  | 2 | 22.0 ± 2.8 | -3.4 to 47.4 | 17.0 ± 2.8 | "
        "22.0 ± 2.8 | 2 | 40.0 | collected data, not D4RL | finished |"
    ) in page
    assert f"- `{names[2]}`: interrupted at policy update 1,000 of 10,000" in page
    assert "`python launch.py -m M=2,5`" in page


def test_figure3_draws_and_writes_each_point_with_its_interval(results: ResultsFolder) -> None:
    names = [
        results.add(M, seed, [[M + 10.0 * seed]] * 3, final=[M + 10.0 * seed] * 4)
        for M in (2, 10)
        for seed in range(4)
    ]
    sweep = results.sweep(names)

    written = figure3.write(runs.load(sweep), sweep)

    assert [path.name for path in written.files] == [
        "figure3.png", "figure3.pdf", "figure3.csv", "figure3.md"
    ]  # fmt: skip
    assert written.files[0].read_bytes().startswith(b"\x89PNG")
    assert written.files[1].read_bytes().startswith(b"%PDF")
    frame = pd.read_csv(sweep / "figure3.csv")
    assert frame["score"].tolist() == [2, 12, 22, 32, 10, 20, 30, 40]
    assert frame["mean"].tolist() == [17.0] * 4 + [25.0] * 4
    assert set(frame["interval"]) == {"95% t"}
    assert frame["low"].iloc[0] == pytest.approx(17 - 3.18245 * 12.90994 / 2, abs=1e-4)
    assert "0: 10.0, 1: 20.0, 2: 30.0, 3: 40.0" in (sweep / "figure3.md").read_text()


def test_the_figure_itself_says_what_it_shows(
    results: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        results.add(2, seed, [[10.0, 20.0], [30.0, 40.0]], status=("finished", "running")[seed])
    drawn = []
    monkeypatch.setattr(drawing, "save", lambda figure, stem: drawn.append(figure) or [])

    figure3.write(runs.load(results.path), results.path)
    curves.write(runs.load(results.path), results.path)

    for figure in drawn:
        text = " ".join(" ".join(item.get_text().split()) for item in figure.findobj(Text))
        assert "hopper-medium-replay" in text
        assert "collected data, not D4RL" in text
        assert "eeds 0, 1" in text
        assert "500 behavior + 10,000 policy updates" in text
        assert "dataset's own mean" in text
        assert "one seed, unfinished" in text
        assert "INCOMPLETE: 1 of 2 runs of results" in text
    assert "last evaluation (here 2 episodes)" in " ".join(
        item.get_text().replace("\n", " ") for item in drawn[0].findobj(Text)
    )


def test_the_same_results_give_the_same_files(results: ResultsFolder, tmp_path: Path) -> None:
    results.add(2, 0, [[10.0], [20.0]], metrics={"policy/loss": [1.0, 2.0]})
    loaded = runs.load(results.path)
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        table.write(loaded, folder)
        figure3.write(loaded, folder)
        curves.write(loaded, folder, ["policy/loss"])

    files = [sorted(folder.iterdir()) for folder in folders]
    assert len(files[0]) == 9
    for first, second in zip(*files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_curves_are_drawn_for_each_dataset_and_hold_every_evaluation(
    results: ResultsFolder,
) -> None:
    for env in ("hopper-medium", "walker2d-medium"):
        results.add(2, 0, [[1.0, 3.0], [5.0, 7.0]], env=env, metrics={"critics/loss": [3.0, 2.0]})
    results.add(None, 0, [[4.0]], label="bc", env="hopper-medium", beta=None)

    written = curves.write(runs.load(results.path), results.path, ["critics/loss"])

    assert sorted(path.name for path in written.files) == [
        "curves.csv",
        *(f"curves_{run}.{kind}" for run in (
            "bc_hopper-medium", "lom_hopper-medium", "lom_walker2d-medium"
        ) for kind in ("pdf", "png")),
    ]  # fmt: skip
    frame = pd.read_csv(results.path / "curves.csv")
    assert frame.loc[frame["label"] == "lom", "score"].tolist() == [2.0, 6.0] * 2
    assert frame["update"].tolist() == [1000, 1000, 2000, 1000, 2000]


def test_curves_of_several_betas_do_not_overwrite_each_other(results: ResultsFolder) -> None:
    for beta in (0.1, 5.0):
        results.add(2, 0, [[1.0]], beta=beta)

    written = curves.write(runs.load(results.path), results.path)

    assert {path.name for path in written.files if path.suffix == ".png"} == {
        "curves_lom_hopper-medium-replay_beta-0.1.png",
        "curves_lom_hopper-medium-replay_beta-5.0.png",
    }


def test_an_unknown_metric_is_an_error_that_names_the_nearest(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0]], metrics={"critics/loss": [1.0], "policy/advantage": [2.0]})

    with pytest.raises(AnalysisError, match="did you mean 'policy/advantage'"):
        curves.write(runs.load(results.path), results.path, ["policy/advantages"])


def test_an_algorithm_without_M_is_named_as_not_drawn(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0]])
    without = results.add(None, 0, [[1.0]], label="bc", beta=None)

    written = figure3.write(runs.load(results.path), results.path)

    assert written.problems == [(without, "not drawn: it has no M")]
    assert "bc" not in pd.read_csv(results.path / "figure3.csv")["label"].tolist()


def test_commands_write_into_the_newest_sweep(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = results.add(2, 0, [[10.0]], status="running")
    results.sweep([name], "new", time=20.0)
    results.sweep([name], "old", time=10.0)

    for module in (table, figure3, curves):
        assert module.main(["--results", str(results.path)]) == 0

    newest = results.path / "sweeps" / "new"
    written = {path.name for path in newest.iterdir()}
    assert {"table.md", "figure3.png", "curves_lom_hopper-medium-replay.pdf"} <= written
    assert [path.name for path in (results.path / "sweeps" / "old").iterdir()] == ["sweep.json"]
    output = capsys.readouterr().out
    assert f"{name}: running at policy update 1,000 of 10,000" in output
    assert "collected data, not D4RL" in output


def test_a_sweep_that_does_not_exist_is_named_and_the_others_listed(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    results.sweep([], "main")
    results.sweep([], "reduced")

    assert figure3.main(["mian", "--results", str(results.path)]) == 1
    error = capsys.readouterr().err
    assert "no sweep 'mian'" in error
    assert "main, reduced" in error


def test_a_results_folder_without_a_sweep_is_an_error(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main(["--results", str(results.path)]) == 1
    assert "no sweep in" in capsys.readouterr().err


def test_a_sweep_without_an_evaluation_is_an_error_that_says_how_far_it_is(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = results.add(2, 0, [], status="running")
    sweep = results.sweep([name, "not_there"])

    assert figure3.main([str(sweep)]) == 1
    error = capsys.readouterr().err
    assert "no run has an evaluation yet" in error
    assert f"{name}: running at policy update 0" in error
    assert "not_there: not started" in error


def test_a_sweep_reports_all_there_is_to_show(results: ResultsFolder) -> None:
    names = [results.add(M, 0, [[10.0], [20.0]]) for M in (2, 5)]
    folder = results.sweep(names)
    assert sweep.report(folder)
    written = {path.name for path in folder.iterdir()} - {"sweep.json"}
    assert {"table.csv", "table.md", "figure3.png", "figure3.pdf", "figure3.csv"} <= written
    assert {"curves.csv", "curves_lom_hopper-medium-replay.png"} <= written


def test_a_sweep_of_one_m_has_no_figure3_and_one_without_evaluations_nothing(
    results: ResultsFolder,
) -> None:
    one = results.sweep([results.add(2, 0, [[10.0]])], "one")
    assert sweep.report(one)
    assert not (one / "figure3.png").exists()
    none = results.sweep([results.add(5, 0, [])], "none")
    assert not sweep.report(none)
    assert not sweep.report(results.path / "sweeps" / "missing")
    assert {path.name for path in none.iterdir()} == {"sweep.json"}
