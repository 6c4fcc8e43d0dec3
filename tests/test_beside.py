"""Evaluation beside training leaves what evaluation in line does, whatever happens meanwhile."""

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_experiment import assert_same, execute, journal, make_spec, run, write_data

from lom_exp import datasets, experiment
from lom_exp.algorithms import REGISTRY
from lom_exp.checkpoints import Snapshot
from lom_exp.envs.parallel import ParallelEnvironments
from lom_exp.evaluator import Evaluator
from lom_exp.runspec import RunSpec
from lom_exp.trainer import Trainer
from lom_exp.training import Interrupted, PackTraining

PATIENCE = 60.0  # seconds
BEFORE = 6  # updates of the phase before the one that is evaluated, after 4, 8 and 12 of its own


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunSpec]]:
    """Two runs of a pack."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        path = write_data(folder / "data.hdf5")
        yield [make_spec(path, seed) for seed in range(2)]


@pytest.fixture(scope="module")
def in_line(specs: list[RunSpec], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of the two runs, trained undisturbed and evaluated in line."""
    tmp_path = tmp_path_factory.mktemp("in_line")
    return [result.folder for result in train(specs, tmp_path, evaluation_workers=0)]


def train(specs: list[RunSpec], tmp_path: Path, **changes: Any) -> list[experiment.Result]:
    """Train with two processes for evaluation, and no more checkpoints than need be."""
    changes = {"evaluation_workers": 2, "log_every": 2, "checkpoint_every": 1e9} | changes
    return run(specs, execute(tmp_path, **changes))


def folders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "results/runs").iterdir())


@pytest.mark.parametrize("vectorize", ["false", "true"])
def test_runs_end_to_the_bit_where_they_end_with_evaluation_in_line(
    specs: list[RunSpec], in_line: list[Path], tmp_path: Path, vectorize: str
) -> None:
    expected = in_line
    if vectorize == "true":
        changes = {"evaluation_workers": 0, "results": str(tmp_path / "in_line")}
        together = train(specs, tmp_path, vectorize="true", **changes)
        expected = [result.folder for result in together]
    for result, other in zip(train(specs, tmp_path, vectorize=vectorize), expected, strict=True):
        assert result.status == "finished"
        assert_same(result.folder, other)
        status, expected_status = (
            json.loads((folder / "status.json").read_text()) for folder in (result.folder, other)
        )
        assert status["score"] == expected_status["score"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_frozen_policies_play_the_same_episodes_while_they_are_trained_on(
    specs: list[RunSpec], device: str
) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    spec, where = specs[0], torch.device(device)
    data = datasets.load(spec.env, spec.preprocessing, where)
    seeds, living = np.array([[3, 1, 4], [1, 5, 9]]), [0, 2]  # of three runs one is lost
    trainer = Trainer(
        REGISTRY["lom"], [spec.config] * 3, [0, 1, 2], data.transitions, vectorize=True
    )
    trainer.initialize()
    trainer.advance("behavior", 0, 3)
    trainer.take_metrics()

    def evaluator(workers: int) -> Evaluator:
        return Evaluator(spec.env.environment, workers, data, where, lambda: False)

    with closing(evaluator(0)) as in_line, closing(evaluator(2)) as beside:
        trained: Any = beside.start(trainer.freeze(), 3, living, seeds, step=7)
        expected = in_line.start(trainer.freeze(), 3, living, seeds, step=7).result()
        assert not trained.done()
        update = 0
        while not trained.done():
            update = trainer.advance("policy", update, update + 1)
        for values, same in zip(trained.result(), expected, strict=True):
            assert np.array_equal(values, same)


class Evaluations:
    """Lets a test act on the evaluation of a number, in the thread that plays it, as it begins."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, act: Callable[[int, Evaluator], None]):
        self.number = 0
        real = Evaluator._play

        def play(evaluator: Evaluator, *arguments: Any) -> Any:
            self.number += 1
            act(self.number, evaluator)
            return real(evaluator, *arguments)

        monkeypatch.setattr(Evaluator, "_play", play)


def on_log(monkeypatch: pytest.MonkeyPatch, act: Callable[[PackTraining, int], None]) -> None:
    """Call `act` with the step before metrics are journaled."""
    real = PackTraining._log

    def log(training: PackTraining, position: dict[str, Any], rate: float) -> None:
        act(training, position["step"])
        real(training, position, rate)

    monkeypatch.setattr(PackTraining, "_log", log)


def test_training_goes_on_while_the_last_snapshot_is_evaluated(
    specs: list[RunSpec], in_line: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on = threading.Event()

    def hold(number: int, evaluator: Evaluator) -> None:
        if number == 1:
            assert trained_on.wait(PATIENCE), "training waits for the evaluation"

    def release(training: PackTraining, step: int) -> None:
        if step == BEFORE + 8:  # 4 updates after the snapshot
            assert training.pending is not None
            assert training.pending.position["step"] == BEFORE + 4
            trained_on.set()

    Evaluations(monkeypatch, hold)
    on_log(monkeypatch, release)
    for result, other in zip(train(specs, tmp_path), in_line, strict=True):
        assert_same(result.folder, other)


def test_no_checkpoint_is_written_ahead_of_an_evaluation(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled = []
    real = PackTraining._save

    def save(training: PackTraining, position: dict[str, Any], snapshots: list[Snapshot]) -> None:
        lines = journal(training.runs[0].folder.path, "evaluations.jsonl")
        journaled.append((position["step"], [line["step"] for line in lines]))
        real(training, position, snapshots)

    monkeypatch.setattr(PackTraining, "_save", save)
    train(specs[:1], tmp_path, log_every=4, checkpoint_every=1e-9)
    assert journaled == [(4, []), (6, []), (10, []), (14, [10]), (18, [10, 14])]


class Stop(experiment.StopSignal):
    """Set by a test; there is one at a time."""

    set_by_test = False

    def __call__(self) -> bool:
        self._set |= Stop.set_by_test
        return self._set


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> type[Stop]:
    monkeypatch.setattr(Stop, "set_by_test", False)
    monkeypatch.setattr(experiment, "StopSignal", Stop)
    return Stop


@pytest.mark.parametrize("moment", ["in training", "while it is waited for"])
def test_a_stop_waits_for_no_evaluation_and_leaves_checkpoints_of_its_snapshot(
    specs: list[RunSpec],
    in_line: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[Stop],
    moment: str,
) -> None:
    snapshot = BEFORE + 8

    def hold(number: int, evaluator: Evaluator) -> None:
        if number == 2:
            while not evaluator._closed:
                time.sleep(0.01)

    def set_in_training(training: PackTraining, step: int) -> None:
        stop.set_by_test |= step == snapshot + 2

    real_join = PackTraining._join

    def set_in_join(training: PackTraining) -> None:
        pending = training.pending
        stop.set_by_test |= pending is not None and pending.position["step"] == snapshot
        real_join(training)

    Evaluations(monkeypatch, hold)
    if moment == "in training":
        on_log(monkeypatch, set_in_training)
    else:
        monkeypatch.setattr(PackTraining, "_join", set_in_join)
    with pytest.raises(Interrupted):
        train(specs, tmp_path)
    for folder in folders(tmp_path):
        status = json.loads((folder / "status.json").read_text())
        assert (status["status"], status["update"], status["step"]) == ("interrupted", 8, snapshot)
        assert max((folder / "checkpoints").glob("*.pt")).name == f"{snapshot:010d}.pt"
        assert journal(folder, "metrics.jsonl")[-1]["step"] > snapshot
        assert [line["step"] for line in journal(folder, "evaluations.jsonl")] == [snapshot - 4]
    monkeypatch.undo()
    for result, other in zip(train(specs, tmp_path), in_line, strict=True):
        assert result.status == "finished"
        assert_same(result.folder, other)


def test_a_stop_in_the_midst_of_episodes_is_heeded_by_their_thread(
    specs: list[RunSpec],
    in_line: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[Stop],
) -> None:
    def set_at_the_third(call: int, environments: ParallelEnvironments) -> None:
        stop.set_by_test |= call == 3

    on_step(monkeypatch, set_at_the_third)
    with pytest.raises(Interrupted):
        train(specs, tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("evaluation")]
    monkeypatch.undo()
    for result, other in zip(train(specs, tmp_path), in_line, strict=True):
        assert_same(result.folder, other)


def test_a_run_that_diverges_after_its_snapshot_is_evaluated_all_the_same(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on = threading.Event()

    def hold(number: int, evaluator: Evaluator) -> None:
        assert number > 1 or trained_on.wait(PATIENCE)

    def release(training: PackTraining, step: int) -> None:
        if step == BEFORE + 6:  # 2 updates after the first snapshot
            trained_on.set()

    logs = itertools.count(1)
    monkeypatch.setattr(Trainer, "finite", lambda trainer: [True, next(logs) != 6])
    expected = train(specs, tmp_path, evaluation_workers=0, results=str(tmp_path / "in_line"))
    logs = itertools.count(1)
    Evaluations(monkeypatch, hold)
    on_log(monkeypatch, release)
    good, bad = train(specs, tmp_path)
    assert_same(good.folder, expected[0].folder)
    assert bad.status == expected[1].status == "diverged"
    assert_same(bad.folder, expected[1].folder)
    [evaluation] = journal(bad.folder, "evaluations.jsonl")
    status = json.loads((bad.folder / "status.json").read_text())
    assert status["score"] == pytest.approx(sum(evaluation["scores"]) / 2)


def on_step(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[int, ParallelEnvironments], None]
) -> None:
    """Call `act` with the number of each step of environments in processes, before it is made."""
    calls, real = itertools.count(1), ParallelEnvironments.step

    def step(environments: ParallelEnvironments, *arguments: Any) -> Any:
        act(next(calls), environments)
        return real(environments, *arguments)

    monkeypatch.setattr(ParallelEnvironments, "step", step)


def test_an_evaluation_that_lost_a_process_is_played_again_and_nothing_is_lost(
    specs: list[RunSpec],
    in_line: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    used = []

    def kill(call: int, environments: ParallelEnvironments) -> None:
        if environments not in used:
            used.append(environments)
        if call == 3:
            os.kill(environments._workers[0]._process.pid, signal.SIGKILL)

    on_step(monkeypatch, kill)
    for result, other in zip(train(specs, tmp_path), in_line, strict=True):
        assert result.status == "finished"
        assert_same(result.folder, other)
    assert caplog.text.count("exit code -9; the evaluation is played again in this process") == 1
    assert len(used) == 2  # and the next one has processes again


def test_what_goes_wrong_beside_training_is_raised_in_training(
    specs: list[RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(call: int, environments: ParallelEnvironments) -> None:
        raise ZeroDivisionError("planted")

    on_step(monkeypatch, fail)
    [result] = train(specs[:1], tmp_path)
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.rstrip().endswith("ZeroDivisionError: planted")
