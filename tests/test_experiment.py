"""Whole runs on a small file: what they leave behind, and how they take crashes and bad input."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tiny import small_config

from lom_exp import experiment
from lom_exp.algorithms import lom
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.errors import ConfigError, DataError
from lom_exp.leases import LeaseHeld, LeaseLost
from lom_exp.runs import RunFolder
from lom_exp.runspec import EvaluationConfig, ExecutionConfig, RunSpec, Sweep, TrackingConfig
from lom_exp.sweeps import SweepError
from lom_exp.training import Interrupted, PackTraining

ROOT = Path(__file__).parent.parent
OBSERVATION_DIM, ACTION_DIM = 11, 3  # Hopper's


def write_data(path: Path, observation_dim: int = OBSERVATION_DIM) -> Path:
    """Twenty episodes of ten random steps each, all of them true ends."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(200, observation_dim)).astype(np.float32)
        file["actions"] = rng.uniform(-1, 1, (200, ACTION_DIM)).astype(np.float32)
        file["rewards"] = rng.normal(size=200).astype(np.float32)
        file["terminals"] = np.arange(200) % 10 == 9
        file["timeouts"] = np.zeros(200, bool)
        file.attrs["provenance"] = "generated"
    return path


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_data(tmp_path / "data.hdf5")


def make_spec(path: Path, seed: int = 0, **changes: Any) -> RunSpec:
    env = EnvConfig("hopper-small", "Hopper-v4", -20.0, 3234.3, path=str(path))
    spec = RunSpec(
        algorithm="lom",
        label="lom",
        env=env,
        preprocessing=Preprocessing(),
        config=small_config("lom"),
        updates={"behavior": 6, "policy": 12},
        seed=seed,
        evaluation=EvaluationConfig(every=4, episodes=2, final_episodes=3),
        dtype="float32",
        M=4,
        beta=5.0,
        sources={},
        resolved={"seed": seed, "tracking": {"uri": "https://user:secret@host"}},
    )
    return replace(spec, **changes)


def execute(tmp_path: Path, **changes: Any) -> ExecutionConfig:
    execution = ExecutionConfig(
        device="cpu",
        compile="auto",
        cuda_graphs=True,
        tf32=False,
        share=True,
        threads=1,
        vectorize="auto",
        evaluation_workers=0,
        log_every=4,
        checkpoint_every=1e-9,  # at every chance
        results=str(tmp_path / "results"),
        tracking=TrackingConfig(enabled=False, uri=None, experiment="tests"),
    )
    return replace(execution, **changes)


def run(
    specs: list[RunSpec], execution: ExecutionConfig, *, is_part: bool = True
) -> list[experiment.Result]:
    sweep = Sweep("sweep", ["python", "launch.py"], [], is_part)
    return experiment.run(specs, execution, sweep)


def journal(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def deterministic(folder: Path) -> dict[str, Any]:
    """All a run leaves that no clock can change."""
    volatile = ("time", "updates_per_second")
    journals = {
        name: [
            {k: v for k, v in entry.items() if k not in volatile} for entry in journal(folder, name)
        ]
        for name in ("metrics.jsonl", "evaluations.jsonl")
    }
    last = max((folder / "checkpoints").glob("*.pt"))
    content = torch.load(last, weights_only=True)
    return {**journals, "last": last.name, "state": content["state"]}


def assert_same(one: Path, other: Path) -> None:
    first, second = deterministic(one), deterministic(other)
    state, other_state = first.pop("state"), second.pop("state")
    assert first == second
    assert state.keys() == other_state.keys()
    assert all(torch.equal(state[name], other_state[name]) for name in state)


def test_a_run_leaves_its_config_record_metrics_returns_checkpoints_and_status(
    data: Path, tmp_path: Path
) -> None:
    [result] = run([make_spec(data, seed=3)], execute(tmp_path))
    assert (result.status, result.error) == ("finished", None)
    folder = result.folder
    assert folder.name.startswith("lom_hopper-small_M4_beta5_seed3_")
    status = json.loads((folder / "status.json").read_text())
    assert (status["status"], status["phase"], status["update"], status["step"]) == (
        "finished",
        "policy",
        12,
        18,
    )
    metrics = journal(folder, "metrics.jsonl")
    assert [(m["phase"], m["update"], m["step"]) for m in metrics] == [
        ("behavior", 4, 4),
        ("behavior", 6, 6),
        ("policy", 4, 10),
        ("policy", 8, 14),
        ("policy", 12, 18),
    ]
    evaluations = journal(folder, "evaluations.jsonl")
    assert [(e["update"], e["final"], len(e["returns"])) for e in evaluations] == [
        (4, False, 2),
        (8, False, 2),
        (12, False, 2),
        (12, True, 3),
    ]
    for evaluation in evaluations:
        per_episode = ("returns", "lengths", "scores", "final_rewards")
        assert len({len(evaluation[name]) for name in per_episode}) == 1
        for value, score in zip(evaluation["returns"], evaluation["scores"], strict=True):
            assert score == pytest.approx(100 * (value + 20) / 3254.3)
    record = json.loads((folder / "record.json").read_text())
    assert record["dataset"]["provenance"] == "generated"
    assert record["dataset"]["episodes"] == 20
    assert record["seed"] == 3
    assert record["versions"]["torch"] == torch.__version__
    sweep = json.loads((tmp_path / "results/sweeps/sweep/sweep.json").read_text())
    assert sweep["runs"] == [folder.name]


def test_seeds_train_together_and_end_to_the_bit_where_they_end_alone(
    data: Path, tmp_path: Path
) -> None:
    specs = [make_spec(data, seed) for seed in (0, 1)]
    together = run(specs, execute(tmp_path))
    for spec, packed in zip(specs, together, strict=True):
        [alone] = run([spec], execute(tmp_path, results=str(tmp_path / "alone")))
        assert_same(packed.folder, alone.folder)
    assert deterministic(together[0].folder) != deterministic(together[1].folder)


def test_a_finished_run_is_not_run_again_and_a_run_asked_for_twice_is_run_once(
    data: Path, tmp_path: Path
) -> None:
    spec = make_spec(data)
    [first] = run([spec, spec], execute(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.*") if path.is_file()}
    [again] = run([spec], execute(tmp_path))
    assert again == first
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_no_credentials_are_written(data: Path, tmp_path: Path) -> None:
    command = ["python", "launch.py", "tracking.uri=https://user:secret@host"]
    experiment.run([make_spec(data)], execute(tmp_path), Sweep("sweep", command, command[2:]))
    files = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert any(b"https://***@host" in path.read_bytes() for path in files)
    assert not [path for path in files if b"secret" in path.read_bytes()]


def test_another_setting_or_other_data_is_another_run(data: Path, tmp_path: Path) -> None:
    spec = make_spec(data)
    folders = {run([spec], execute(tmp_path))[0].folder}
    folders.add(
        run([replace(spec, config=small_config("lom", tau=0.1))], execute(tmp_path))[0].folder
    )
    with h5py.File(data, "r+") as file:
        file["rewards"][0] += 1
    folders.add(run([spec], execute(tmp_path))[0].folder)
    assert len(folders) == 3


def test_a_sweep_lists_its_runs_also_when_its_jobs_run_apart(data: Path, tmp_path: Path) -> None:
    def listed() -> list[str]:
        content = json.loads((tmp_path / "results/sweeps/sweep/sweep.json").read_text())
        names: list[str] = content["runs"]
        return names

    first, second = (
        run([make_spec(data, seed)], execute(tmp_path))[0].folder.name for seed in (0, 1)
    )
    assert listed() == [first, second]


def test_a_sweep_may_grow_but_not_become_another_one(data: Path, tmp_path: Path) -> None:
    first, second, third = (make_spec(data, seed) for seed in range(3))
    run([first], execute(tmp_path), is_part=False)
    run([first, second], execute(tmp_path), is_part=False)
    with pytest.raises(SweepError, match=r"belongs to another sweep.*sweep_name="):
        run([second, third], execute(tmp_path), is_part=False)
    assert len(list((tmp_path / "results/runs").iterdir())) == 2


PROGRAM = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
from pathlib import Path
import test_experiment as t
updates = {{"behavior": 6, "policy": {updates}}}
specs = [t.make_spec(Path({data!r}), seed, updates=updates) for seed in (0, 1)]
t.run(specs, t.execute(Path({tmp!r}), evaluation_workers={workers}))
"""


def start(data: Path, tmp: Path, updates: int, workers: int = 0) -> subprocess.Popen[str]:
    """Train two seeds in a process of their own, with others beside it that step environments."""
    values = {"data": str(data), "tmp": str(tmp), "updates": updates, "workers": workers}
    program = PROGRAM.format(tests=str(ROOT / "tests"), root=str(ROOT), **values)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
        start_new_session=True,
    )


def wait_for_checkpoints(tmp: Path, step: int) -> None:
    """Until a run has a checkpoint past a step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        names = [int(path.stem) for path in tmp.glob("results/runs/*/checkpoints/*.pt")]
        if any(found > step for found in names):
            return
        time.sleep(0.005)
    pytest.fail("no checkpoint was written")


UPDATES = 200


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folders, by seed, of runs that nothing disturbed."""
    tmp = tmp_path_factory.mktemp("uninterrupted")
    path = write_data(tmp / "data.hdf5")
    specs = [make_spec(path, seed, updates={"behavior": 6, "policy": UPDATES}) for seed in (0, 1)]
    return {seed: r.folder for seed, r in enumerate(run(specs, execute(tmp)))}


@pytest.mark.parametrize(("steps", "workers"), [((2,), 0), ((30, 90, 120), 0), ((60,), 1)])
def test_killed_runs_go_on_to_the_same_end(
    uninterrupted: dict[int, Path],
    data: Path,
    tmp_path: Path,
    steps: tuple[int, ...],
    workers: int,
) -> None:
    for step in steps:
        process = start(data, tmp_path, UPDATES, workers)
        wait_for_checkpoints(tmp_path, step)
        process.kill()
        process.wait()
    assert start(data, tmp_path, UPDATES, workers).wait() == 0
    folders = sorted((tmp_path / "results/runs").iterdir())
    assert len(folders) == 2
    for seed, folder in enumerate(folders):
        assert json.loads((folder / "status.json").read_text())["status"] == "finished"
        assert_same(folder, uninterrupted[seed])


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_leaves_a_checkpoint_of_that_moment_and_the_runs_go_on_from_it(
    uninterrupted: dict[int, Path], data: Path, tmp_path: Path, workers: int
) -> None:
    process = start(data, tmp_path, UPDATES, workers)
    wait_for_checkpoints(tmp_path, 20)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
    _, output = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "checkpoints will be written" in output
    for folder in (tmp_path / "results/runs").iterdir():
        status = json.loads((folder / "status.json").read_text())
        assert status["status"] == "interrupted"
        assert (folder / "checkpoints" / f"{status['step']:010d}.pt").exists()
    assert start(data, tmp_path, UPDATES).wait() == 0
    for seed, folder in enumerate(sorted((tmp_path / "results/runs").iterdir())):
        assert_same(folder, uninterrupted[seed])


def test_runs_killed_between_their_checkpoints_meet_at_the_older_one(
    data: Path, tmp_path: Path
) -> None:
    specs = [make_spec(data, seed) for seed in (0, 1)]
    undisturbed = run(specs, execute(tmp_path, results=str(tmp_path / "undisturbed")))
    results = run(specs, execute(tmp_path))
    # As if the kill had come after the first run's last checkpoint and before the second's.
    (results[1].folder / "checkpoints" / "0000000018.pt").unlink()
    for result in results:
        (result.folder / "status.json").unlink()
    for again, before in zip(run(specs, execute(tmp_path)), undisturbed, strict=True):
        assert again.status == "finished"
        assert_same(again.folder, before.folder)


def test_a_diverged_run_is_marked_and_keeps_its_last_good_checkpoint_beside_a_sound_one(
    data: Path, tmp_path: Path
) -> None:
    sound = make_spec(data)
    config = small_config("lom", behavior_learning_rate=1e-3, policy_learning_rate=1e38)
    wild = replace(sound, seed=1, config=config)
    [alone] = run([sound], execute(tmp_path, results=str(tmp_path / "alone")))
    good, bad = run([sound, wild], execute(tmp_path))
    assert good.status == "finished"
    assert_same(good.folder, alone.folder)
    assert bad.status == "diverged"
    assert bad.error is not None
    assert "diverged in the policy phase by update 4" in bad.error
    last_good = max((bad.folder / "checkpoints").glob("*.pt"))
    assert last_good.name == "0000000006.pt"  # the end of the behavior phase
    state = torch.load(last_good, weights_only=True)["state"]
    assert all(leaf.isfinite().all() for leaf in state.values())
    assert run([wild], execute(tmp_path))[0].status == "diverged"  # and is not tried again


def test_an_interrupt_puts_no_broken_checkpoint_in_the_place_of_the_last_good_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = itertools.count()
    monkeypatch.setattr(experiment.StopSignal, "__call__", lambda stop: next(asked) > 12)
    wild = make_spec(
        data,
        config=small_config("lom", policy_learning_rate=1e38),
        evaluation=EvaluationConfig(every=100, episodes=2, final_episodes=3),
    )
    with pytest.raises(Interrupted):
        run([wild], execute(tmp_path, log_every=100, checkpoint_every=1e9))
    [folder] = (tmp_path / "results/runs").iterdir()
    assert json.loads((folder / "status.json").read_text())["step"] > 6
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["0000000006.pt"]


def test_a_run_that_raises_stops_no_other(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise ZeroDivisionError("planted")

    monkeypatch.setitem(lom.phases, "policy", (broken,))
    bc = replace(
        make_spec(data),
        algorithm="bc",
        label="bc",
        config=small_config("bc"),
        updates={"policy": 4},
    )
    failed, other = run([make_spec(data), bc], execute(tmp_path))
    assert failed.status == "failed"
    assert failed.error is not None
    assert "planted" in failed.error
    assert "planted" in json.loads((failed.folder / "status.json").read_text())["error"]
    assert other.status == "finished"
    monkeypatch.undo()
    [mended] = run([make_spec(data)], execute(tmp_path))
    assert mended.status == "finished"


def test_a_full_disk_at_a_checkpoint_ends_the_run_and_leaves_the_last_good_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(data)
    real = os.fsync
    calls = []

    def fill_up(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if ".pt." in name:
            calls.append(name)
            if len(calls) > 2:
                raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fill_up)
    [result] = run([spec], execute(tmp_path))
    assert result.status == "failed"
    assert result.error is not None
    assert "No space left on device" in result.error
    assert "intact" in result.error
    left = sorted(path.name for path in (result.folder / "checkpoints").iterdir())
    assert left == ["0000000004.pt", "0000000006.pt"]
    monkeypatch.undo()
    [again] = run([spec], execute(tmp_path))
    [alone] = run([spec], execute(tmp_path, results=str(tmp_path / "alone")))
    assert again.status == "finished"
    assert_same(again.folder, alone.folder)


def test_a_read_only_checkpoint_folder_is_named_with_the_remedy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    def read_only(path: Path, *arguments: Any, **options: Any) -> Any:
        if "checkpoints" in path.parts and arguments[:1] == ("wb",):
            raise OSError(30, "Read-only file system")
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", read_only)  # root, who runs many tests, may write anywhere
    [result] = run([make_spec(data)], execute(tmp_path))
    assert result.status == "failed"
    assert result.error is not None
    assert "cannot write the checkpoint" in result.error
    assert "Read-only file system" in result.error


def cut_short(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])


def flip_a_bit(checkpoint: Path) -> None:
    """Of a parameter."""
    with zipfile.ZipFile(checkpoint) as archive:
        record = max(archive.infolist(), key=lambda info: info.file_size)
        parameters = archive.read(record)
    content = bytearray(checkpoint.read_bytes())
    content[content.index(parameters) + 10] ^= 1
    checkpoint.write_bytes(content)


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: Callable[[Path], None],
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = make_spec(data)
    [result] = run([spec], execute(tmp_path))
    undamaged = deterministic(result.folder)
    checkpoint = result.folder / "checkpoints" / "0000000018.pt"
    damage(checkpoint)
    (result.folder / "status.json").unlink()
    [again] = run([spec], execute(tmp_path))
    assert again.status == "finished"
    assert "0000000018.pt is damaged" in caplog.text
    assert deterministic(again.folder)["metrics.jsonl"] == undamaged["metrics.jsonl"]


def test_a_checkpoint_of_another_config_is_refused(data: Path, tmp_path: Path) -> None:
    [result] = run([make_spec(data)], execute(tmp_path))
    [other] = run([make_spec(data, seed=1)], execute(tmp_path))
    stranger = other.folder / "checkpoints" / "0000000018.pt"
    stranger.replace(result.folder / "checkpoints" / "0000000018.pt")
    (result.folder / "status.json").unlink()
    [refused] = run([make_spec(data)], execute(tmp_path))
    assert refused.status == "failed"
    assert refused.error is not None
    assert f"belongs to run {other.folder.name[-8:]}" in refused.error


def test_data_that_do_not_fit_the_environment_are_refused_before_training(
    data: Path, tmp_path: Path
) -> None:
    write_data(data, observation_dim=17)
    [result] = run([make_spec(data)], execute(tmp_path))
    assert result.status == "failed"
    assert result.error is not None
    assert "observations have 17 numbers, those of Hopper-v4 11" in result.error
    assert not (result.folder / "metrics.jsonl").exists()


def test_a_missing_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.hdf5"):
        run([make_spec(tmp_path / "nowhere.hdf5")], execute(tmp_path))
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_cannot_be_made_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SweepError, match=r"cannot write results to .*file.*; give a folder"):
        run([make_spec(data)], execute(tmp_path, results=str(tmp_path / "file")))


def test_a_simulator_that_is_not_installed_fails_the_run_with_the_remedy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    [result] = run([make_spec(data)], execute(tmp_path))
    assert result.status == "failed"
    assert result.error is not None
    assert "pip install" in result.error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_cuda_device_that_is_not_there_is_refused(
    device: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"device={device} is not there.*device=cpu"):
        run([make_spec(data)], execute(tmp_path, device=device))
    assert not (tmp_path / "results").exists()


def test_a_run_that_goes_on_with_other_code_names_all_commits_it_stands_on(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        for commit in ("first", None, "second", "second", "first", "third"):
            folder.describe({}, {"git_commit": commit})
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record == {"git_commit": "third", "earlier_commits": ["second", "first"]}


def test_a_run_in_the_hands_of_another_process_is_left_alone_and_stops_no_other(
    data: Path, tmp_path: Path
) -> None:
    [result] = run([make_spec(data)], execute(tmp_path))
    (result.folder / "status.json").unlink()
    with RunFolder(result.folder):
        with pytest.raises(LeaseHeld, match="is in use by pid"):
            RunFolder(result.folder).__enter__()
        refused, other = run([make_spec(data), make_spec(data, seed=1)], execute(tmp_path))
    assert refused.error is not None
    assert "is in use by pid" in refused.error
    assert not (result.folder / "status.json").exists()
    assert other.status == "finished"


def test_ctrl_c_is_the_callers_again_after_training(data: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run([make_spec(data)], execute(tmp_path))
    assert signal.getsignal(signal.SIGINT) is before


def test_float64_runs_are_other_runs_of_that_precision(data: Path, tmp_path: Path) -> None:
    [result] = run([make_spec(data, dtype="float64")], execute(tmp_path))
    state = deterministic(result.folder)["state"]
    assert {leaf.dtype for leaf in state.values()} == {torch.float64, torch.int64}
    assert torch.get_default_dtype() == torch.float32


def test_checkpoints_hold_plain_tensors_that_need_no_class_of_ours(
    data: Path, tmp_path: Path
) -> None:
    [result] = run([make_spec(data)], execute(tmp_path))
    content = torch.load(result.folder / "checkpoints" / "0000000018.pt", weights_only=True)
    assert set(content) == {"run", "step", "state", "sums", "num_summed"}
    assert asdict(make_spec(data).config)["num_components"] == 4
    assert content["run"] == result.folder.name[-8:]


class Culprits:
    """Makes training raise whenever certain seeds, or too many runs, are in a pack."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stops: Callable[[list[int]], None]) -> None:
        self.packs: list[list[int]] = []
        real = PackTraining._log

        def log(training: PackTraining, position: dict[str, Any], rate: float) -> None:
            seeds = [run.spec.seed for run in training.runs]
            if not self.packs or self.packs[-1] != seeds:
                self.packs.append(seeds)
            if position["step"] >= 10:
                stops(seeds)
            real(training, position, rate)

        monkeypatch.setattr(PackTraining, "_log", log)


def test_a_run_that_raises_fails_alone_and_its_pack_goes_on_to_the_same_end(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(data, seed) for seed in range(5)]
    undisturbed = run(specs, execute(tmp_path, results=str(tmp_path / "undisturbed")))

    def stop(seeds: list[int]) -> None:
        if 3 in seeds:
            raise ZeroDivisionError("planted")

    culprits = Culprits(monkeypatch, stop)
    results = run(specs, execute(tmp_path))
    assert [r.status for r in results] == ["finished"] * 3 + ["failed", "finished"]
    assert culprits.packs == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4], [3], [4]]
    error = json.loads((results[3].folder / "status.json").read_text())["error"]
    assert error.startswith("Traceback")
    assert error.rstrip().endswith("ZeroDivisionError: planted")
    for seed in (0, 1, 2, 4):
        assert_same(results[seed].folder, undisturbed[seed].folder)
    monkeypatch.undo()
    again = run(specs, execute(tmp_path))
    assert again[3].status == "finished"
    assert_same(again[3].folder, undisturbed[3].folder)


def test_a_pack_too_large_for_the_memory_is_split_until_it_fits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(data, seed) for seed in range(5)]
    undisturbed = run(specs, execute(tmp_path, results=str(tmp_path / "undisturbed")))

    def stop(seeds: list[int]) -> None:
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    culprits = Culprits(monkeypatch, stop)
    results = run(specs, execute(tmp_path))
    assert [len(pack) for pack in culprits.packs] == [5, 2, 3, 1, 2]
    for result, other in zip(results, undisturbed, strict=True):
        assert result.status == "finished"
        assert_same(result.folder, other.folder)


def test_a_run_too_large_for_the_memory_alone_fails_and_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(seeds: list[int]) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    Culprits(monkeypatch, stop)
    [result] = run([make_spec(data)], execute(tmp_path))
    assert result.status == "failed"
    assert result.error is not None
    assert "a single run does not fit into the memory of cpu: CUDA out of" in result.error
    assert "Tried to allocate 20.00 GiB" in result.error
    assert "narrower networks" in result.error


def test_a_broken_gpu_fails_no_run_but_the_process(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(seeds: list[int]) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    Culprits(monkeypatch, stop)
    with pytest.raises(torch.AcceleratorError):
        run([make_spec(data, seed) for seed in range(2)], execute(tmp_path))
    for folder in (tmp_path / "results/runs").iterdir():
        assert json.loads((folder / "status.json").read_text())["status"] == "running"


def test_the_memory_of_a_pack_that_failed_is_free_before_its_halves_begin(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    trainings: list[weakref.ref[PackTraining]] = []
    real = PackTraining.__init__

    def init(training: PackTraining, *arguments: Any) -> None:
        alive.append(sum(reference() is not None for reference in trainings))
        trainings.append(weakref.ref(training))
        real(training, *arguments)

    monkeypatch.setattr(PackTraining, "__init__", init)

    def stop(seeds: list[int]) -> None:
        if len(seeds) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    Culprits(monkeypatch, stop)
    run([make_spec(data, seed) for seed in range(2)], execute(tmp_path))
    assert alive == [0, 0, 0]


def test_a_stop_in_the_midst_of_an_evaluation_is_heeded_and_the_evaluation_made_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(data, seed) for seed in range(2)]
    undisturbed = run(specs, execute(tmp_path, results=str(tmp_path / "undisturbed")))

    class StopInEvaluation(experiment.StopSignal):
        """Set in the midst of the evaluation of this number, in this process."""

        number = 0

        def __init__(self) -> None:
            super().__init__()
            self.evaluations = 0

        def __call__(self) -> bool:
            frame = sys._getframe(1)
            if frame.f_code.co_name == "policy" and frame.f_locals["time_step"] == 3:
                self._set |= self.evaluations == self.number
                self.evaluations += 1
            return self._set

    monkeypatch.setattr(experiment, "StopSignal", StopInEvaluation)
    # At 4 updates; at 8, after those of 4 were made again; the final one, after those of 8 and 12.
    for number, step in ((0, 10), (1, 14), (2, 18)):
        monkeypatch.setattr(StopInEvaluation, "number", number)
        with pytest.raises(Interrupted):
            run(specs, execute(tmp_path, checkpoint_every=1e9))
        for folder in (tmp_path / "results/runs").iterdir():
            status = json.loads((folder / "status.json").read_text())
            assert (status["status"], status["step"]) == ("interrupted", step)
    monkeypatch.undo()
    for result, other in zip(run(specs, execute(tmp_path)), undisturbed, strict=True):
        assert result.status == "finished"
        assert_same(result.folder, other.folder)


def test_data_that_changed_since_a_pack_was_made_are_not_trained_on(
    data: Path, tmp_path: Path
) -> None:
    runs = experiment.prepare([make_spec(data)], tmp_path / "results")
    with h5py.File(data, "r+") as file:
        file["rewards"][0] += 1
    [result] = experiment.train(runs, execute(tmp_path), lambda: False)
    assert result.status == "failed"
    assert result.error is not None
    assert "are not those of" in result.error


def test_a_run_that_another_process_takes_over_is_given_up_and_not_written_to(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [make_spec(data, seed) for seed in range(2)]
    undisturbed = run(specs, execute(tmp_path, results=str(tmp_path / "undisturbed")))
    before: dict[str, bytes] = {}

    def stop(seeds: list[int]) -> None:
        [folder] = (tmp_path / "results/runs").glob("*seed1*")
        if not before:  # as a newcomer with a higher generation would, of whatever right
            newest = max((folder / ".lease").glob("*.json"))
            (folder / ".lease" / f"{int(newest.stem) + 1:06d}.json").write_bytes(
                newest.read_bytes()
            )
            before.update({p.name: p.read_bytes() for p in folder.glob("*.json*")})

    Culprits(monkeypatch, stop)
    kept, taken = run(specs, execute(tmp_path))
    assert_same(kept.folder, undisturbed[0].folder)
    assert taken.error is not None
    assert "must not write" in taken.error
    for name, content in before.items():
        if name != "metrics.jsonl":  # the newcomer has not replaced it yet, as its first act
            assert (taken.folder / name).read_bytes() == content


def test_a_process_that_was_taken_for_dead_writes_to_no_journal_of_its_successor(
    tmp_path: Path,
) -> None:
    first = RunFolder(tmp_path / "run")
    with first:
        first.rewind(0)
        first.append("metrics.jsonl", {"step": 1, "metrics": {}})
        second = RunFolder(tmp_path / "run")
        first.lease.release()  # as if it were found to be over
        with second:
            second.rewind(1)
            first.append("metrics.jsonl", {"step": 2, "metrics": {}})
            second.append("metrics.jsonl", {"step": 3, "metrics": {}})
            with pytest.raises(LeaseLost):
                first.write_status("finished", {})
        steps = [line["step"] for line in journal(tmp_path / "run", "metrics.jsonl")]
    assert steps == [1, 3]
