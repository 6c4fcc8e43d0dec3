"""Sweeps on this machine: real launchers and workers that are killed, stopped and started again."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from local_sweeps import (
    PATIENCE,
    ROOT,
    Lab,
    events,
    eventually,
    frozen,
    is_alive,
    is_told_to_stop,
    status,
    steps,
    worker_at_work,
)
from test_experiment import assert_same, execute, write_data
from test_worker import write_pack

from lom_exp import configuration, cores, datasets, handover, packfiles, worker
from lom_exp.code_version import PARTS
from lom_exp.launcher import __main__ as looking_after
from lom_exp.launcher import command_line, local
from lom_exp.launcher.attempts import Attempts
from lom_exp.launcher.local import LocalQueue, Slot
from lom_exp.leases import holder
from lom_exp.packfiles import Pack
from lom_exp.runs import RunFolder
from lom_exp.sweeps import SweepFolder

SEEDS = (0, 1, 2)
Launch = Callable[..., tuple[int, str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of runs, by seed, that one process has trained without any launcher."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lab = Lab(write_data(folder / "data.hdf5"), folder / "results")
    return [r.folder for r in lab.train_here([[f"seed={seed}", "threads=1"] for seed in SEEDS])]


@pytest.fixture
def lab(undisturbed: list[Path], tmp_path: Path) -> Iterator[Lab]:
    """An empty folder of results; what a test leaves at work there is ended."""
    lab = Lab(undisturbed[0].parents[2] / "data.hdf5", tmp_path / "results")
    yield lab
    lab.clear()


@pytest.fixture
def launch(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Launch]:
    """Launch a sweep from this process, which spares its start; gives exit code and output."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]

    def command(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "launch.py"), *lab.arguments(*more)])
        monkeypatch.setattr(sys, "orig_argv", [sys.executable, *sys.argv])
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # main sets it: restored afterwards
        capsys.readouterr()
        code = command_line.main()
        return code, "".join(capsys.readouterr())

    yield command
    root.setLevel(level)  # Hydra configures logging
    root.handlers[:] = handlers


def look_after(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `python -m lom_exp.launcher` says to someone who has just logged in."""
    command = [sys.executable, "-m", "lom_exp.launcher", *arguments, "--results", str(lab.results)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_a_sweep_runs_in_worker_processes_to_the_bits_of_one_and_grows_by_new_runs_alone(
    lab: Lab, launch: Launch, undisturbed: list[Path]
) -> None:
    command = ("threads=1", "pack_size=1", "sweep_name=grows")
    process = lab.start("seed=0,1", *command)
    _, output = process.communicate()
    assert process.returncode == 0, output
    assert "2 runs: 2 running" in output
    folders = [lab.run(path.name) for path in undisturbed]
    for folder, other in zip(folders[:2], undisturbed[:2], strict=True):
        assert f"{folder.name} finished, score" in output
        assert_same(folder, other)
    workers = {status(folder)["job"] for folder in folders[:2]}
    assert len(workers - {f"pid {process.pid}"}) == 2

    def files() -> dict[Path, int]:
        paths = [path for folder in folders[:2] for path in folder.rglob("*") if path.is_file()]
        return {path: path.stat().st_mtime_ns for path in paths}

    before = files()
    code, output = launch("seed=0,1,2", *command)
    assert code == 0, output
    assert_same(folders[2], undisturbed[2])
    assert files() == before

    code, output = launch("seed=2,3", *command)
    assert code == 1
    assert "grows belongs to another sweep" in output
    assert "2 runs that are not among these" in output
    assert "sweep_name=" in output
    assert files() == before
    assert not list(lab.results.glob("runs/*seed3*"))


def test_a_run_that_raises_is_named_stops_no_other_and_leaves_its_traceback(
    lab: Lab, launch: Launch, undisturbed: list[Path]
) -> None:
    sound, broken = (lab.run(path.name) for path in undisturbed[:2])
    planted = broken / "checkpoints" / "0000000003.pt"
    planted.parent.mkdir(parents=True)
    torch.save({"run": broken.name[-8:], "step": 3}, planted)  # it lacks its state
    command = ("seed=0,1", "threads=1", "pack_size=2", "sweep_name=broken")
    code, output = launch(*command)
    assert code == 1
    assert f"{broken.name} failed: KeyError" in output
    assert "error: 1 of 2 runs did not finish" in output
    assert_same(sound, undisturbed[0])
    said = status(broken)
    assert said["status"] == "failed"
    assert str(said["error"]).startswith("Traceback")
    sweep = lab.sweep("broken")
    assert [e.event for e in events(sweep, broken.name)] == ["started", "failed"]  # and not again
    [log] = sweep.path.glob("logs/*.log")
    assert str(said["error"]) in log.read_text()
    shown = look_after(lab, "logs", broken.name[-8:])
    assert shown.returncode == 0
    assert str(said["error"]) in shown.stdout
    planted.unlink()
    code, output = launch(*command)
    assert code == 0, output
    assert_same(broken, undisturbed[1])


def test_a_worker_killed_more_often_than_it_is_retried_is_lost_until_the_command_is_given_again(
    lab: Lab, launch: Launch, undisturbed: list[Path]
) -> None:
    command = ("seed=0", "threads=1", "retries=1", "sweep_name=lost")
    folder = lab.run(undisturbed[0].name)
    process = lab.start(*command)
    first = worker_at_work(folder)
    os.kill(first, signal.SIGKILL)
    second = worker_at_work(folder, other_than=first)
    os.kill(second, signal.SIGKILL)
    _, output = process.communicate()
    assert process.returncode == 1
    assert f"{folder.name} lost: lost 2 times, at last: killed (SIGKILL)" in output
    assert status(folder)["status"] == "lost"
    ends = [(e.event, e.job) for e in events(lab.sweep("lost"), folder.name)]
    of_workers = [("started", f"pid {first}"), ("lost", f"pid {first}")]
    of_workers += [("started", f"pid {second}"), ("lost", f"pid {second}")]
    assert ends == of_workers
    code, output = launch(*command)
    assert code == 0, output
    assert_same(folder, undisturbed[0])


def test_however_a_launcher_is_stopped_its_workers_leave_checkpoints_and_the_command_goes_on(
    lab: Lab, launch: Launch, undisturbed: list[Path]
) -> None:
    folder, command = lab.run(undisturbed[0].name), ("seed=0", "sweep_name=stopped")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = lab.start(*command, "threads=1")
        with frozen(worker_at_work(folder)) as pid:
            process.send_signal(number)
            eventually(lambda pid=pid: is_told_to_stop(pid))
        _, output = process.communicate()
        eventually(lambda pid=pid: not is_alive(pid))  # also without a launcher that waits for it
        said = status(folder)
        assert said["status"] == "interrupted"
        assert said["step"] == steps(folder)[-1] < 200
        assert [e.event for e in events(lab.sweep("stopped"), folder.name)][-1] == (
            "started" if number == signal.SIGKILL else "interrupted"
        )
        if number != signal.SIGKILL:
            assert process.returncode == 130
            assert f"{folder.name} interrupted" in output
            assert "interrupted; the same command again goes on" in output
    # A run goes on with the threads it began with: with others it would come to other bits.
    code, output = launch(*command, "threads=2")
    assert code == 0, output
    [pack] = lab.sweep("stopped").path.glob("packs/????????.json")
    assert packfiles.read(pack).execution.threads == 1
    assert json.loads((folder / "record.json").read_text())["threads"] == 1
    assert_same(folder, undisturbed[0])


def test_workers_that_have_not_begun_when_the_launcher_is_stopped_are_not_lost(
    lab: Lab, undisturbed: list[Path]
) -> None:
    folder, sweep = lab.run(undisturbed[0].name), lab.sweep("early")
    process = lab.start("seed=0", "threads=1", "sweep_name=early")
    eventually(lambda: events(sweep, folder.name))
    process.send_signal(signal.SIGINT)
    _, output = process.communicate()
    assert process.returncode == 130
    assert "lost" not in output
    assert [e.event for e in events(sweep, folder.name)] == ["started", "interrupted"]
    assert not lab.workers()


def test_a_sweep_without_waiting_goes_on_alone_and_can_be_looked_at_cancelled_and_retried(
    lab: Lab, launch: Launch, undisturbed: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, sweep = lab.run(undisturbed[0].name), lab.sweep("alone")
    command = ("seed=0", "threads=1", "sweep_name=alone", "wait=false")
    code, output = launch(*command)
    assert code == 0
    assert "status alone" in output
    assert status(folder).get("status") != "finished"
    with frozen(worker_at_work(folder)) as pid:
        shown = look_after(lab, "status", "alone")
        assert shown.returncode == 0
        assert "1 run: 1 running" in shown.stdout
        assert f"pid {pid}" in shown.stdout
        launcher = holder(sweep.path)
        assert launcher is not None
        # A second command at the same sweep is refused and disturbs the first in nothing.
        code, output = launch(*command)
        assert code == 1
        assert "another command is at work on the sweep alone" in output
        assert f"pid {launcher.owner.pid} on {launcher.owner.host}" in output
        assert is_alive(launcher.owner.pid)
        assert looking_after.main(["cancel", "alone", "--results", str(lab.results)]) == 0
        assert f"process {launcher.owner.pid} was told to stop" in capsys.readouterr().out
        eventually(lambda: is_told_to_stop(pid))
    eventually(lambda: not is_alive(launcher.owner.pid))
    assert status(folder)["status"] == "interrupted"
    assert "1 run: 1 interrupted" in look_after(lab, "status", "alone").stdout
    assert looking_after.main(["retry", "alone", "--results", str(lab.results)]) == 0
    assert_same(folder, undisturbed[0])


def test_of_two_sweeps_that_share_a_run_one_trains_it_and_the_other_waits_for_it(
    lab: Lab, undisturbed: list[Path]
) -> None:
    folder = lab.run(undisturbed[0].name)
    first = lab.start("seed=0", "threads=1", "sweep_name=first")
    with frozen(worker_at_work(folder)) as pid:
        second = lab.start("seed=0", "threads=1", "sweep_name=second")
        eventually(lambda: len(lab.workers()) == 2)
        eventually(lambda: any("to be trained" in log.read_text() for log in logs(lab, "second")))
    for process in (first, second):
        _, output = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        assert f"{folder.name} finished" in output
    assert status(folder)["job"] == f"pid {pid}"
    assert_same(folder, undisturbed[0])


def logs(lab: Lab, sweep: str) -> list[Path]:
    return list(lab.sweep(sweep).path.glob("logs/*.log"))


def test_a_run_that_another_process_keeps_is_left_to_it_and_the_user_told_to_whom(
    lab: Lab,
    undisturbed: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(worker, "_PATIENCE", 0.1)
    spec = configuration.compose(lab.arguments("seed=0"))
    execution, _ = configuration.execution_config([spec])
    name = undisturbed[0].name
    pack = Pack("kept", (name,), datasets.identify(spec.env), (spec,), execution)
    sweep = lab.sweep("kept")
    (sweep.path / "packs").mkdir(parents=True)
    path = packfiles.write(sweep.path / "packs", pack)
    with RunFolder(lab.run(name)):
        assert worker.main([str(path)]) == handover.ELSEWHERE
        assert not Attempts(sweep, pack.id, retries=2, since=0.0).again("pid 1", handover.ELSEWHERE)
    assert not status(lab.run(name))
    [message] = [record.message for record in caplog.records if "is left to" in record.message]
    assert f"{name} is left to pid {os.getpid()} on " in message


def test_workers_that_are_started_later_run_the_code_of_the_submission(
    lab: Lab, undisturbed: list[Path], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        tree.mkdir(exist_ok=True)
        copy(ROOT / part, tree / part)
    command = ("seed=0,1", "threads=1", "pack_size=1", "sweep_name=code")
    process = lab.start(*command, "hydra.launcher.workers=1", root=tree)
    folders = [lab.run(path.name) for path in undisturbed[:2]]
    with frozen(worker_at_work(folders[0])) as pid:
        (tree / "lom_exp" / "worker.py").write_text("raise SystemExit('the tree has changed')\n")
        os.kill(pid, signal.SIGKILL)  # another one is started for it
    _, output = process.communicate()
    assert process.returncode == 0, output
    for folder, other in zip(folders, undisturbed[:2], strict=True):
        assert_same(folder, other)
    seen = [[e.event for e in events(lab.sweep("code"), folder.name)] for folder in folders]
    assert seen == [["started", "lost", "started", "ended"], ["started", "ended"]]
    # One worker at a time, as was asked for.
    first, second = (events(lab.sweep("code"), folder.name) for folder in folders)
    assert first[-1].time < second[0].time


def test_a_results_folder_that_cannot_be_written_is_refused(lab: Lab, launch: Launch) -> None:
    lab.results.write_text("in the way")
    code, output = launch("seed=0")
    assert code == 1
    assert output.startswith(f"error: cannot write results to {lab.results}/sweeps/")
    assert "give a folder you may write to as results=" in output


def test_a_run_folder_that_cannot_be_written_fails_its_worker_and_the_user_is_told_where_to_look(
    lab: Lab, launch: Launch
) -> None:
    lab.results.mkdir()
    (lab.results / "runs").write_text("in the way")
    code, output = launch("seed=0", "sweep_name=obstructed")
    assert code == 1
    assert "it could not begin; its output says why" in output
    [log] = logs(lab, "obstructed")
    assert f"{lab.results}/runs" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("typed", ["seed=range(0,0)", "M=glob(none*)"])
def test_an_empty_sweep_is_refused(typed: str, lab: Lab, launch: Launch) -> None:
    code, output = launch(typed)
    assert code == 1
    assert output == (
        f"error: {typed} has no values, so there is nothing to run; give at least one\n"
    )
    assert not lab.results.exists()


@pytest.mark.parametrize("command", ["status", "cancel", "retry", "logs"])
def test_what_is_no_sweep_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert looking_after.main([command, str(tmp_path), "--results", str(tmp_path)]) == 1
    refusal = capsys.readouterr().err
    what = "no run in" if command == "logs" else f"{tmp_path} is no sweep"
    assert refusal.startswith(f"error: {what}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("device", "visible", "count", "workers", "gpus"),
    [
        ("auto", None, 3, None, ["0", "1", "2"]),
        ("cuda", "4,6", 2, None, ["4", "6"]),
        ("cuda", "GPU-1a2b,GPU-3c4d", 2, 1, ["GPU-1a2b"]),
        ("cuda:1", "4,6", 2, None, ["6"]),
        ("cuda:1", None, 2, 4, ["1"]),
        ("auto", "", 0, 2, [None, None]),
        ("cpu", None, 3, 2, [None, None]),
    ],
)
def test_each_worker_has_a_gpu_of_its_own_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    visible: str | None,
    count: int,
    workers: int | None,
    gpus: list[str | None],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [slot.gpu for slot in local.slots(device, None, workers)] == gpus


def test_workers_with_a_gpu_have_cores_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: [0, 1, 2, 3, 8, 9, 10])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    assert local.slots("auto", None, None) == [
        Slot("4", (0, 1)),
        Slot("5", (2, 3)),
        Slot("6", (8, 9, 10)),
    ]
    # Only as many as there are workers.
    assert local.slots("auto", None, 2) == [Slot("4", (0, 1, 2)), Slot("5", (3, 8, 9, 10))]
    assert local.slots("cpu", None, 2) == [Slot(None, None)] * 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_worker_is_started_on_the_cores_of_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data.hdf5")
    found = []

    class Process:
        pid = os.getpid()

        def __init__(self, command: list[str], env: dict[str, str], **options: object) -> None:
            found.append((env.get("CUDA_VISIBLE_DEVICES"), cores.available()))

        def poll(self) -> None:
            return None

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(subprocess, "Popen", Process)
    sweep, mine = SweepFolder(tmp_path / "sweep"), cores.available()
    (sweep.path / "packs").mkdir(parents=True)
    packs = {}
    for seed in range(2):
        path = write_pack(sweep.path / "packs", data, range(seed, seed + 1), execute(tmp_path))
        packs[path.stem] = packfiles.read(path).names
    queue = LocalQueue(sweep, tmp_path, [Slot("3", (mine[-1],)), Slot(None)], retries=0)
    queue.put(packs)
    queue.poll()
    assert found == [("3", mine[-1:]), (None, mine)]
    assert cores.available() == mine


def test_without_a_gpu_the_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available", lambda: list(range(8)))
    assert len(local.slots("cpu", threads=None, workers=None)) == 8
    assert len(local.slots("cpu", threads=3, workers=None)) == 2
    assert len(local.slots("cpu", threads=16, workers=None)) == 1
