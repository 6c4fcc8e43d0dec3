"""The worker of a pack: its exit codes, and what it tells MLflow by itself."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_experiment import execute, make_spec, write_data

from lom_exp import experiment, handover, packfiles, worker
from lom_exp.packfiles import Pack
from lom_exp.runs import RunFolder
from lom_exp.runspec import ExecutionConfig
from lom_exp.trainer import Trainer


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data.hdf5")


def write_pack(tmp_path: Path, data: Path, seeds: range, execution: ExecutionConfig) -> Path:
    runs = experiment.prepare([make_spec(data, seed) for seed in seeds], Path(execution.results))
    names = tuple(run.folder.path.name for run in runs)
    specs = tuple(replace(run.spec, resolved={"seed": run.spec.seed}) for run in runs)
    plain = {"tracking": {"uri": None}}
    specs = tuple(replace(spec, resolved=spec.resolved | plain) for spec in specs)
    return packfiles.write(tmp_path, Pack("sweep", names, runs[0].data, specs, execution))


def statuses(execution: ExecutionConfig) -> list[str]:
    return [RunFolder(path).status for path in sorted(Path(execution.results, "runs").iterdir())]


def test_a_worker_says_when_all_runs_have_finished(data: Path, tmp_path: Path) -> None:
    execution = execute(tmp_path)
    paths = [str(write_pack(tmp_path, data, seeds, execution)) for seeds in (range(2), range(2, 3))]
    assert worker.main(paths) == handover.DONE
    assert statuses(execution) == ["finished"] * 3
    assert worker.main(paths) == handover.DONE  # and does nothing


def test_a_worker_that_meets_another_at_its_runs_leaves_them(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_PATIENCE", 0.0)
    execution = execute(tmp_path)
    path = write_pack(tmp_path, data, range(2), execution)
    with RunFolder(Path(execution.results, "runs", packfiles.read(path).names[0])):
        assert worker.main([str(path)]) == handover.ELSEWHERE
    assert statuses(execution) == ["new", "finished"]


def test_a_failure_counts_for_more_than_a_run_that_is_elsewhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_PATIENCE", 0.0)
    execution = execute(tmp_path)
    path = write_pack(tmp_path, data, range(2), execution)
    first, second = packfiles.read(path).names
    spoiled = Path(execution.results, "runs", second, "metrics.jsonl")
    spoiled.mkdir(parents=True)  # a folder in the place of a file
    with RunFolder(Path(execution.results, "runs", first)):
        assert worker.main([str(path)]) == handover.FAILED


def test_a_gpu_that_fails_stops_the_worker_and_leaves_its_runs_to_another_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    execution = execute(tmp_path)
    paths = [str(write_pack(tmp_path, data, seeds, execution)) for seeds in (range(2), range(2, 3))]
    advance, calls = Trainer.advance, []

    def fall_off_the_bus(self: Trainer, phase: str, first: int, *arguments: Any) -> int:
        calls.append(first)
        if len(calls) == 3:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        return advance(self, phase, first, *arguments)

    monkeypatch.setattr(Trainer, "advance", fall_off_the_bus)
    assert worker.main(paths) == handover.DEVICE_LOST
    assert "the GPU failed" in caplog.text
    assert "unspecified launch failure" in caplog.text
    assert statuses(execution) == ["running"] * 2  # the launcher marks them, if nobody goes on
    assert worker.main(paths) == handover.DONE
    assert statuses(execution) == ["finished"] * 3


def test_a_pack_that_cannot_be_read_is_a_failure_and_stops_no_other(
    data: Path, tmp_path: Path
) -> None:
    execution = execute(tmp_path)
    path = write_pack(tmp_path, data, range(1), execution)
    assert worker.main([str(tmp_path / "missing.json"), str(path)]) == handover.FAILED
    assert statuses(execution) == ["finished"]


def test_a_worker_on_a_cluster_tells_the_server_it_is_given_of_its_own_runs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'server.db'}"
    monkeypatch.setenv(handover.TRACKING_VARIABLE, uri)
    tracked = replace(execute(tmp_path).tracking, enabled=True, uri=None)
    execution = execute(tmp_path, tracking=tracked)
    path = write_pack(tmp_path, data, range(2), execution)
    assert worker.main([str(path)]) == handover.DONE
    client = MlflowClient(uri)
    [found] = [e for e in client.search_experiments() if e.name == "tests"]
    runs = client.search_runs([found.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.data.tags["status"] for run in children) == ["finished"] * 2
    assert all("final/score" in run.data.metrics for run in children)


def test_a_worker_that_is_given_no_server_says_so_and_trains(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(handover.TRACKING_VARIABLE, raising=False)
    tracked = replace(execute(tmp_path).tracking, enabled=True, uri=None)
    execution = execute(tmp_path, tracking=tracked)
    assert worker.main([str(write_pack(tmp_path, data, range(1), execution))]) == handover.DONE
    assert f"{handover.TRACKING_VARIABLE} is not set" in caplog.text
    assert not list(tmp_path.rglob("*.db"))
