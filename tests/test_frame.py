"""All runs as one table: nothing is left out silently, and what is kept between times is true."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from result_folders import ResultsFolder, evaluation

from analysis import cache, frame, runs, scores, table, tracked
from analysis.folders import AnalysisError


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


@pytest.fixture
def cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is otherwise kept of many runs only is kept of any number."""
    monkeypatch.setattr(cache, "_FROM", 1)


def record(results: ResultsFolder, run: str, **changes: object) -> None:
    file = results.path / "runs" / run / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def unlike(results: ResultsFolder) -> list[str]:
    return [f"{run}: {text}" for run, text in runs.load(results.path).unlike]


def test_runs_of_other_code_than_most_are_named(results: ResultsFolder) -> None:
    names = [results.add(2, seed, [[1.0]]) for seed in range(6)]
    for name in names[:3]:
        record(results, name, git_commit="a" * 40)
    record(results, names[3], git_commit="b" * 40)
    record(results, names[4], git_commit="a" * 40, git_dirty=True)
    record(results, names[5], git_commit="a" * 40, earlier_commits=["c" * 40])

    assert unlike(results) == [
        f"{names[3]}: trained with commit bbbbbbbb, most runs here with aaaaaaaa",
        f"{names[4]}: trained with commit aaaaaaaa with changes that are in no commit, most runs "
        "here with aaaaaaaa",
        f"{names[5]}: trained with several commits: cccccccc, aaaaaaaa",
    ]


def test_runs_of_other_data_than_most_of_their_dataset_are_named(results: ResultsFolder) -> None:
    same = [results.add(2, seed, [[1.0]]) for seed in range(2)]
    other = results.add(5, 0, [[1.0]], sha256="cd" * 32)
    results.add(2, 0, [[1.0]], env="hopper-medium", sha256="ef" * 32)

    assert unlike(results) == [
        f"{other}: trained on other data for hopper-medium-replay (collected data, sha256 "
        "cdcdcdcd) than most runs (collected data, sha256 abababab)"
    ]
    assert not any(name in text for name in same for text in unlike(results))


def test_two_runs_that_claim_one_identity_are_named_and_never_averaged(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = results.add(2, 0, [[10.0], [20.0]])
    record(results, name, id="0123abcd")
    shutil.copytree(results.path / "runs" / name, results.path / "runs" / "a_copy")

    assert unlike(results) == [
        f"a_copy: claims to be the same run (0123abcd) as {name}: keep one of them",
        f"{name}: claims to be the same run (0123abcd) as a_copy: keep one of them",
    ]
    assert runs.load(results.path).episodes["run"].nunique() == 2  # nothing is lost
    assert table.main([str(results.path)]) == 1
    assert "a seed counts twice" in capsys.readouterr().err


def test_a_run_cut_off_in_the_middle_of_a_line_keeps_the_lines_before(
    results: ResultsFolder,
) -> None:
    name = results.add(2, 0, [[10.0], [20.0], [30.0]], status="running")
    file = results.path / "runs" / name / "evaluations.jsonl"
    file.write_text(file.read_text()[:-25])

    loaded = runs.load(results.path)

    assert loaded.episodes["score"].tolist() == [10.0, 20.0]
    assert any(
        run == name and "evaluations.jsonl line 3 left out" in text for run, text in loaded.problems
    )


def test_of_a_run_without_reference_returns_the_returns_are_kept(results: ResultsFolder) -> None:
    name = results.add(2, 0, [[10.0, 20.0]])
    config = results.path / "runs" / name / "config.yaml"
    config.write_text(config.read_text().replace("expert_return: 180.0", "expert_return: null"))

    loaded = runs.load(results.path)

    assert loaded.episodes["score"].isna().all()
    assert loaded.episodes["return"].tolist() == [0.0, 20.0]
    assert [text for run, text in loaded.problems if run == name] == [
        "no score: config.yaml has no env.random_return and env.expert_return that differ; its "
        "returns are kept"
    ]
    assert pd.isna(scores.per_run(loaded)["last"].iloc[0])


def test_an_empty_results_folder_is_an_error_that_says_so(
    results: ResultsFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table.main([str(results.path)]) == 1
    assert "holds no runs" in capsys.readouterr().err
    assert table.main([str(tmp_path)]) == 1
    assert "neither a folder with a sweep.json or a runs folder" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", "- 1\n- 2\n", "a: [1", "\x00\x01"])
def test_a_damaged_configuration_is_named_whatever_it_holds(
    results: ResultsFolder, text: str
) -> None:
    results.add(5, 0, [[1.0]])
    name = results.add(2, 0, [[1.0]])
    (results.path / "runs" / name / "config.yaml").write_text(text)

    loaded = runs.load(results.path)

    assert loaded.runs["M"].tolist() == [5]
    assert [run for run, why in loaded.problems if "unreadable, left out" in why] == [name]


def test_the_command_writes_the_table_the_runs_and_what_is_wrong(results: ResultsFolder) -> None:
    name = results.add(2, 0, [[10.0, 20.0], [30.0]], status="running")

    assert frame.main([str(results.path)]) == 0

    episodes = pd.read_parquet(results.path / "episodes.parquet")
    assert episodes["score"].tolist() == [10.0, 20.0, 30.0]
    assert episodes["run"].tolist() == [name] * 3
    assert pd.read_csv(results.path / "runs.csv")["run"].tolist() == [name]
    problems = pd.read_csv(results.path / "problems.csv")
    assert problems["problem"].tolist() == ["running at policy update 2,000 of 10,000"]


def test_what_is_kept_gives_the_same_table_without_opening_a_run(
    results: ResultsFolder, cached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        results.add(2, seed, [[10.0 * seed, 1.5], [3.0]], final=[7.0], final_rewards=[0.5, 1.0][:1])
    broken = results.add(5, 0, [[1.0]])
    (results.path / "runs" / broken / "record.json").write_text("{")
    first = runs.load(results.path)
    opened: list[str] = []
    real = cache.folders.read
    monkeypatch.setattr(cache.folders, "read", lambda path: opened.append(path.name) or real(path))

    second = runs.load(results.path)

    assert opened == [broken]  # what could not be read is tried again
    pd.testing.assert_frame_equal(first.episodes, second.episodes)
    pd.testing.assert_frame_equal(first.runs, second.runs)
    assert first.problems == second.problems


def test_a_run_that_goes_on_is_read_again_and_one_that_is_gone_is_forgotten(
    results: ResultsFolder, cached: None
) -> None:
    running = results.add(2, 0, [[10.0]], status="running")
    gone = results.add(2, 1, [[20.0]])
    runs.load(results.path)
    with (results.path / "runs" / running / "evaluations.jsonl").open("a") as file:
        file.write(evaluation(2000, [40.0]))
    shutil.rmtree(results.path / "runs" / gone)

    assert runs.load(results.path).episodes["score"].tolist() == [10.0, 40.0]


def test_a_file_replaced_by_one_of_the_same_size_and_time_is_read_again(
    results: ResultsFolder, cached: None
) -> None:
    name = results.add(2, 0, [[10.0]])
    runs.load(results.path)
    file = results.path / "runs" / name / "evaluations.jsonl"
    stat, other = file.stat(), file.with_name("other")
    other.write_text(file.read_text().replace("[10.0]", "[20.0]"))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)

    assert runs.load(results.path).episodes["score"].tolist() == [20.0]


@pytest.mark.parametrize("damage", ["cut", "garbage", "folder", "other version", "bit"])
def test_a_damaged_cache_is_done_without(
    results: ResultsFolder, cached: None, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.add(2, 0, [[10.0], [20.0]])
    expected = runs.load(results.path).episodes
    file = results.path / cache.NAME
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        file.write_bytes(b"not a Parquet file")
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    elif damage == "bit":
        middle = len(content) // 3
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    else:
        monkeypatch.setattr(cache, "_VERSION", b"another reader")

    pd.testing.assert_frame_equal(runs.load(results.path).episodes, expected)


def test_a_sweep_does_not_forget_what_is_kept_of_the_other_runs(
    results: ResultsFolder, cached: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [results.add(2, seed, [[10.0 * seed]]) for seed in range(3)]
    runs.load(results.path)
    with (results.path / "runs" / names[0] / "evaluations.jsonl").open("a") as file:
        file.write(evaluation(2000, [5.0]))
    assert runs.load(results.sweep(names[:1])).episodes["score"].tolist() == [0.0, 5.0]

    def refuse(path: Path) -> None:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(cache.folders, "read", refuse)
    assert runs.load(results.path).episodes["score"].tolist() == [0.0, 5.0, 10.0, 20.0]


def test_many_runs_are_read_by_several_processes_in_their_order(
    results: ResultsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        results.add(2, seed, [[float(seed)]])
    alone = runs.load(results.path)
    monkeypatch.setattr(cache, "_PROCESSES_FROM", 1)
    monkeypatch.setattr(cache, "_CHUNK", 2)

    together = runs.load(results.path)

    pd.testing.assert_frame_equal(alone.episodes, together.episodes)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> tuple[ResultsFolder, str]:
    """Two ended runs as MLflow has them, and one that goes on."""
    folder = tmp_path_factory.mktemp("mlflow")
    results = ResultsFolder(folder / "results")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("lom-exp", (folder / "artifacts").as_uri())
    for seed in range(3):
        name = results.add(2, seed, [[10.0, 20.0 + seed]])
        record(results, name, name=name if seed else "../../escaped")
        run = client.create_run(experiment, run_name=f"M2 seed{seed}").info.run_id
        client.log_param(run, "seed", seed)
        if seed < 2:
            for file in cache.folders.FILES:
                client.log_artifact(run, str(results.path / "runs" / name / file))
            client.set_terminated(run)
    client.create_run(experiment, run_name="the sweep")
    return results, uri


def test_runs_that_mlflow_has_are_read_and_those_not_ended_named(
    database: tuple[ResultsFolder, str], tmp_path: Path
) -> None:
    _, uri = database

    loaded = runs.read(uri, tmp_path)

    assert sorted(loaded.episodes["score"]) == [10.0, 10.0, 20.0, 21.0]
    assert loaded.name == uri
    [(run, problem)] = loaded.problems
    assert run.startswith("M2 seed2 (")
    assert "MLflow has it as running" in problem
    assert all(Path(folder).parent == loaded.folder / "runs" for folder in loaded.runs["folder"])
    assert not list(tmp_path.parent.rglob("escaped"))


def test_what_mlflow_gave_once_is_not_fetched_again_until_it_changes(
    database: tuple[ResultsFolder, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, uri = database
    before = runs.read(uri, tmp_path)
    monkeypatch.setattr(MlflowClient, "download_artifacts", None)

    pd.testing.assert_frame_equal(runs.read(uri, tmp_path).episodes, before.episodes)


def test_an_experiment_or_a_database_that_is_not_there_is_named_and_not_made(
    database: tuple[ResultsFolder, str], tmp_path: Path
) -> None:
    with pytest.raises(AnalysisError, match=r"no experiment 'lom' .it has: .*lom-exp"):
        runs.read(f"{database[1]}#lom", tmp_path)
    with pytest.raises(AnalysisError, match="no such file"):
        runs.read(f"sqlite:///{tmp_path / 'missing.db'}", tmp_path)
    assert not (tmp_path / "missing.db").exists()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://user:secret@127.0.0.1:{listener.getsockname()[1]}"


def test_a_server_that_does_not_answer_is_an_error_without_its_password(
    silent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracked, "_PATIENCE", 0.2)

    assert table.main([silent, "--results", str(tmp_path)]) == 1

    error = capsys.readouterr().err
    assert "no MLflow server answers at http://***@127.0.0.1" in error
    assert "secret" not in error
