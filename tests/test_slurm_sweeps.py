"""Sweeps on a real Slurm of two nodes: whatever happens to their jobs, they end as if undisturbed.

A test that disturbs a run first freezes its worker in the middle, so that what follows finds it
there however fast or busy the machine is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from local_sweeps import (
    PATIENCE,
    ROOT,
    Lab,
    eventually,
    is_alive,
    is_told_to_stop,
    state_of,
    status,
)
from slurm_cluster import Cluster, obstacle
from test_experiment import assert_same, write_data

from lom_exp.code_version import PARTS
from lom_exp.sweeps import SweepFolder

pytestmark = pytest.mark.slow
UPDATES = 300  # of each run
SLURM = ("hydra/launcher=slurm", "hydra.launcher.gres=null", "hydra.launcher.cpus=1")
LENGTH = f"updates.policy={UPDATES}"
RARELY = "checkpoint_every=300"
ALONE = "pack_size=1"
LATER = "wait=false"
HELD = "+hydra.launcher.sbatch.hold=true"  # until `scontrol release`
MAX_ARRAY_SIZE = 3


class Bench(Lab):
    """A cluster, and the commands of a user on its login node for one sweep."""

    def __init__(self, cluster: Cluster, folder: Path, undisturbed: list[Path]) -> None:
        env = cluster.env | {"OMP_NUM_THREADS": "1"}
        super().__init__(undisturbed[0].parents[2] / "data.hdf5", folder / "results", env)
        self.cluster, self.folder, self.undisturbed = cluster, folder, undisturbed

    # ------------------------------------------------------------------ commands

    def start(self, *more: str, root: Path = ROOT) -> subprocess.Popen[str]:
        """Start a sweep on the cluster, whose launcher waits in the background."""
        return super().start(*SLURM, LENGTH, "sweep_name=s", *more, root=root)

    def submit(self, *more: str, code: int = 0, root: Path = ROOT) -> str:
        """What a command for a sweep on the cluster says, which ends with a code."""
        return said(self.start(*more, root=root), code)

    def manage(self, *words: str) -> str:
        """What `python -m lom_exp.launcher` says."""
        command = [sys.executable, "-m", "lom_exp.launcher", *words, f"--results={self.results}"]
        return subprocess.run(
            command, cwd=ROOT, env=self.env, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def replace_command(self, name: str, script: str) -> None:
        """Put a shell script before one of Slurm's commands on PATH; $REAL is that command."""
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\nREAL={shutil.which(name)}\n{script}\n")
        path.chmod(0o755)
        self.env["PATH"] = f"{path.parent}:{os.environ['PATH']}"

    # ------------------------------------------------------------------ what has become of it

    @property
    def ours(self) -> SweepFolder:
        return self.sweep("s")

    def of_seed(self, seed: int) -> Path:
        """A run's folder, which may not be there yet."""
        return self.run(self.undisturbed[seed].name)

    def status(self, seed: int) -> dict[str, Any]:
        """What a run says of itself; empty before it has begun."""
        return status(self.of_seed(seed))

    def rows(self) -> list[dict[str, Any]]:
        """What `status` says of each run, in the order of their seeds."""
        return list(map(json.loads, self.manage("status", "s", "--json").splitlines()))

    def states(self) -> list[str]:
        return [row["state"] for row in self.rows()]

    def given_to(self, seed: int) -> tuple[str, str]:
        """The job that a run was given to last, and its pack there."""
        name = self.of_seed(seed).name
        for submission in reversed(self.ours.ledger().submissions):
            for job, packs in submission.assignments():
                for pack in packs:
                    if job is not None and name in submission.runs[pack]:
                        return job, pack
        raise LookupError(f"{name} was given to no job")

    def job(self, seed: int) -> str:
        return self.given_to(seed)[0]

    def shown(self, seed: int) -> dict[str, str]:
        """What Slurm shows of the job that a run was given to last."""
        return self.cluster.show(self.job(seed))

    def events(self, seed: int) -> list[str]:
        return [event.event for event in self.ours.events(self.given_to(seed)[1])]

    def output(self, seed: int) -> str:
        [path, _] = self.ours.logs(self.given_to(seed)[1], self.job(seed))
        return path.read_text()

    def submitted(self) -> dict[str, str]:
        """All jobs that Slurm was ever given for this sweep, and their states."""
        rows = self.cluster.command("squeue", "-h", "-r", "-a", "-t", "all", "-o", "%i %j %T")
        tokens = {submission.token for submission in self.ours.ledger().submissions}
        found = (row.split() for row in rows.splitlines())
        return {job: state for job, name, state in found if name in tokens}

    def assert_undisturbed(self, *seeds: int) -> None:
        """Runs have finished, to the bit as on this machine, and each line was written once."""
        for seed in seeds:
            assert self.status(seed)["status"] == "finished"
            assert_same(self.of_seed(seed), self.undisturbed[seed])

    # ------------------------------------------------------------------ disturbances

    def wait_for(self, state: str, *seeds: int) -> None:
        """Wait until the jobs of runs are in a state of Slurm."""
        for seed in seeds:
            self.cluster.wait_for(self.job(seed), state, timeout=PATIENCE)

    def worker(self, seed: int) -> int:
        """The process that trains a run, of several the youngest."""
        path = f"{self.ours.path}/packs/{self.given_to(seed)[1]}.json"
        found = (int(process.name) for process in Path("/proc").glob("[0-9]*"))
        return max((pid for pid in found if path in words_of(pid)), key=started)

    def freeze(self, *seeds: int, since: float = 0.0) -> list[int]:
        """Stop the workers of runs in their middle; returns their process ids."""
        return freeze(*((self, seed) for seed in seeds), since=since)

    def break_run(self, seed: int) -> Path:
        """Give a run a checkpoint without a state, at which it raises; returns that."""
        path = self.of_seed(seed) / "checkpoints" / "0000000003.pt"
        path.parent.mkdir(parents=True)
        torch.save({"run": self.of_seed(seed).name.rpartition("_")[2], "step": 3}, path)
        return path


def freeze(*runs: tuple[Bench, int], since: float = 0.0) -> list[int]:
    """Stop the worker of each run once it has begun to train, or has done so since a time."""
    frozen: dict[tuple[Bench, int], int] = {}

    def all_are_frozen() -> bool:
        for bench, seed in set(runs) - frozen.keys():
            said = bench.status(seed)
            if said.get("step", 0) > 0 and said["time"] > since:
                frozen[bench, seed] = bench.worker(seed)
                os.kill(frozen[bench, seed], signal.SIGSTOP)
        return len(frozen) == len(runs)

    eventually(all_are_frozen)
    assert {bench.status(seed)["status"] for bench, seed in runs} == {"running"}, "too late"
    return [frozen[run] for run in runs]


def thaw(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def started(pid: int) -> int:
    return int(stat_of(pid)[19])


def parent(pid: int) -> int:
    return int(stat_of(pid)[1])


def stat_of(pid: int) -> list[str]:
    """The fields of a process in /proc, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def said(process: subprocess.Popen[str], code: int = 0) -> str:
    """What a command has printed, which must end with a code."""
    output = "".join(process.communicate(timeout=2 * PATIENCE))
    assert process.returncode == code, output
    return output


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of small arrays, in which jobs that are to end have the time to do so."""
    if obstacle():
        pytest.skip(f"needs a real Slurm: {obstacle()}")
    options = {"KillWait": 30, "MaxArraySize": MAX_ARRAY_SIZE}
    with Cluster(tmp_path_factory.mktemp("slurm"), **options) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of runs, by seed, that one process has trained without any launcher."""
    folder = tmp_path_factory.mktemp("undisturbed")
    lab = Lab(write_data(folder / "data.hdf5"), folder / "results")
    runs = [[LENGTH, RARELY, f"seed={seed}", "threads=1"] for seed in range(8)]
    return [result.folder for result in lab.train_here(runs)]


@pytest.fixture
def bench(running: Cluster, undisturbed: list[Path], tmp_path: Path) -> Iterator[Bench]:
    yield Bench(running, tmp_path, undisturbed)
    running.clear()


def test_a_sweep_of_eight_runs_in_two_packs_ends_as_on_this_machine(bench):
    sharing = "hydra.launcher.gres=shard:1"
    output = bench.submit("seed=range(0,8)", "pack_size=4", sharing, RARELY)
    assert "8 runs: 8 finished" in output
    bench.assert_undisturbed(*range(8))
    assert list(bench.submitted().values()) == ["COMPLETED"] * 2
    assert bench.shown(0)["TresPerNode"] == "gres:shard:1"
    assert bench.shown(0)["TimeLimit"] == "00:10:00", "the cluster's own"
    assert bench.states() == ["finished"] * 8


def test_a_run_that_raises_fails_alone_and_goes_on_once_it_is_mended(bench):
    words = ("seed=range(0,4)", "pack_size=2")
    wrong = bench.break_run(0)
    output = bench.submit(*words, code=1)
    assert f"{bench.of_seed(0).name} failed: KeyError" in output
    assert "1 of 4 runs did not finish" in output
    assert "Traceback" in bench.status(0)["error"]
    assert bench.status(0)["error"] in bench.output(0)
    assert bench.events(0) == ["started", "failed"], "an error is not retried"
    bench.assert_undisturbed(1, 2, 3)
    assert (bench.shown(0)["JobState"], bench.shown(2)["JobState"]) == ("FAILED", "COMPLETED")

    wrong.unlink()
    assert "4 runs: 4 finished" in bench.submit(*words)
    bench.assert_undisturbed(0)
    assert len(bench.submitted()) == 3


def test_cancelled_runs_leave_checkpoints_and_wait_for_the_same_command(bench):
    waiting = bench.start("seed=0,1", ALONE)
    workers = bench.freeze(0, 1)
    bench.cluster.command("scancel", bench.job(0))
    bench.wait_for("CANCELLED", 0)
    assert "1 job cancelled" in bench.manage("cancel", "s")
    assert "interrupted; the same command again goes on" in said(waiting, 130)
    eventually(lambda: not any(map(is_alive, workers)))
    bench.wait_for("CANCELLED", 1)
    assert set(bench.submitted().values()) == {"CANCELLED"}
    assert [bench.status(seed)["status"] for seed in (0, 1)] == ["interrupted"] * 2
    by_hand, by_us = bench.rows()
    assert by_us["state"] == "cancelled"
    assert by_hand["state"] == "interrupted"
    assert "cancelled, but not by this launcher" in by_hand["error"]

    before = [bench.status(seed)["step"] for seed in (0, 1)]
    assert 0 < min(before) <= max(before) < UPDATES
    bench.submit("seed=0,1", ALONE, LATER)
    bench.wait_for("COMPLETED", 0, 1)
    bench.assert_undisturbed(0, 1)
    assert list(bench.submitted().values()).count("CANCELLED") == 2


@pytest.fixture(scope="module")
def interrupted(
    running: Cluster, undisturbed: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Bench]]:
    """Sweeps that were stopped in the middle, each in another way, and have gone on to the end."""
    in_turn = ("seed=0,1", ALONE, "hydra.launcher.max_jobs=1")
    on_n2 = "+hydra.launcher.sbatch.nodelist=n2"
    ways = {
        "by hand": (),
        "time limit": (*in_turn, "hydra.launcher.time=1", "hydra.launcher.signal_delay=5"),
        "between packs": in_turn,
        "warned preemption": ("seed=0,1", ALONE, "hydra.launcher.partition=low", on_n2),
        "preemption": ("hydra.launcher.partition=low0", on_n2),
    }
    folders = [tmp_path_factory.mktemp("way") for _ in ways]
    benches = [Bench(running, folder, undisturbed) for folder in folders]
    by_way = dict(zip(ways, benches, strict=True))
    try:
        for command in [by_way[way].start(LATER, *words) for way, words in ways.items()]:
            said(command)
        workers = dict(zip(ways, freeze(*((bench, 0) for bench in benches)), strict=True))
        running.command("scontrol", "requeue", by_way["by hand"].job(0))
        urgent = running.submit("sleep 300", "--nodelist=n2", "--cpus-per-task=8")
        stop_after(workers["between packs"])
        for way in ("warned preemption", "time limit"):
            go_on_once_told(workers[way])
        for way in ("warned preemption", "preemption"):
            by_way[way].wait_for("PENDING", 0)
        running.command("scancel", urgent)
        for bench in benches:
            bench.wait_for("COMPLETED", *range(len(bench.rows())))
        yield by_way
    finally:
        running.clear()


def stop_after(worker: int) -> None:
    """Have a job told to stop as its first worker has ended and the second is not yet there."""
    supervisor = parent(worker)
    os.kill(supervisor, signal.SIGSTOP)
    thaw(worker)
    eventually(lambda: not is_alive(worker))
    os.kill(supervisor, signal.SIGUSR2)
    thaw(supervisor)


def go_on_once_told(worker: int) -> None:
    """Let a frozen worker go on when it is told to stop, unless Slurm has let it."""
    process = Path(f"/proc/{worker}")
    eventually(lambda: state_of(process) != "T" or is_told_to_stop(worker, signal.SIGUSR2))
    with suppress(ProcessLookupError):
        thaw(worker)


@pytest.mark.parametrize("way", ["by hand", "time limit", "warned preemption", "preemption"])
def test_a_job_that_is_interrupted_goes_on_to_the_same_end(interrupted, way):
    bench = interrupted[way]
    bench.assert_undisturbed(*range(len(bench.rows())))
    assert bench.events(0) == ["started", "interrupted", "started", "ended"]
    assert bench.shown(0)["Restarts"] == "1"
    assert set(bench.states()) == {"finished"}


def test_a_job_that_is_stopped_between_two_packs_goes_on_with_the_second(interrupted):
    bench = interrupted["between packs"]
    bench.assert_undisturbed(0, 1)
    assert (bench.events(0), bench.events(1)) == (["started", "ended"], ["started", "ended"])
    assert bench.shown(1)["Restarts"] == "1"


def test_a_run_whose_node_dies_goes_on_on_the_other(bench):
    bench.submit("seed=0", LATER)
    bench.freeze(0)
    lost = bench.shown(0)["NodeList"]
    bench.cluster.kill_slurmd(lost, with_jobs=True)
    bench.cluster.set_down(lost)
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0)
    assert bench.shown(0)["NodeList"] != lost
    assert bench.shown(0)["Restarts"] == "1"
    assert bench.events(0) == ["started", "started", "ended"]


def test_a_run_that_goes_on_elsewhere_is_left_alone_by_its_old_process(bench):
    bench.submit("seed=0", LATER)
    [old] = bench.freeze(0)
    lost = bench.shown(0)["NodeList"]
    bench.cluster.kill_slurmd(lost, with_jobs=False)
    since = time.time()
    bench.cluster.set_down(lost)
    [new] = bench.freeze(0, since=since)
    assert new != old
    before = bench.status(0)
    thaw(old)
    eventually(lambda: not is_alive(old))
    assert bench.status(0) == before
    thaw(new)
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0)
    assert bench.shown(0)["NodeList"] != lost


def test_a_job_that_is_killed_is_submitted_again_on_a_cluster_without_sacct(bench):
    commands = bench.folder / "commands"
    commands.mkdir()
    for name in ("sbatch", "scancel", "scontrol", "squeue", "srun"):
        (commands / name).symlink_to(shutil.which(name))
    bench.env["PATH"] = str(commands)
    waiting = bench.start("seed=0")
    [worker] = bench.freeze(0)
    killed = bench.job(0)
    os.kill(parent(worker), signal.SIGKILL)
    assert "1 run: 1 finished" in said(waiting)
    bench.assert_undisturbed(0)
    assert bench.submitted() == {killed: "FAILED", bench.job(0): "COMPLETED"}


def test_a_job_that_may_not_be_queued_again_is_submitted_again_and_not_lost(bench):
    refuse = "echo 'Requested operation is presently disabled' >&2; exit 1"
    bench.replace_command("scontrol", f'[ "$1" = requeue ] && {{ {refuse}; }}; exec $REAL "$@"')
    waiting = bench.start("seed=0", "retries=0")
    [worker] = bench.freeze(0)
    bench.cluster.command("scancel", "--signal=USR2", bench.job(0))
    go_on_once_told(worker)
    assert "1 run: 1 finished" in said(waiting)
    bench.assert_undisturbed(0)
    assert bench.events(0) == ["started", "interrupted", "started", "ended"]
    assert sorted(bench.submitted().values()) == ["COMPLETED", "FAILED"]


def test_a_launcher_goes_on_when_slurm_cannot_be_asked_for_a_while(bench):
    fails = "echo 'slurm_load_jobs error: Unexpected message received' >&2; exit 1"
    bench.replace_command("squeue", f'[ -e "$0.fails" ] && {{ {fails}; }}; exec $REAL "$@"')
    waiting = bench.start("seed=0")
    [worker] = bench.freeze(0)
    trouble = bench.folder / "bin" / "squeue.fails"
    trouble.touch()
    assert "Unexpected message" in bench.manage("status", "s")
    thaw(worker)
    bench.wait_for("COMPLETED", 0)
    trouble.unlink()
    assert "1 run: 1 finished" in said(waiting)


def test_more_packs_than_an_array_holds_are_several_arrays(bench):
    output = bench.submit("seed=range(0,5)", ALONE, LATER, HELD)
    assert "5 runs: 5 queued" in output
    arrays = [job.partition("_")[0] for job in bench.submitted()]
    assert [arrays.count(array) for array in sorted(set(arrays))] == [MAX_ARRAY_SIZE, 2]
    assert bench.states() == ["queued"] * 5


def test_a_refusal_of_some_jobs_leaves_none(bench):
    refuse = "echo 'sbatch: error: Batch job submission failed: not after six' >&2; exit 1"
    bench.replace_command("sbatch", f'mkdir "$0.once" 2>&- && exec $REAL "$@"; {refuse}')
    output = bench.submit("seed=range(0,5)", ALONE, HELD, code=1)
    assert "none is submitted: Batch job submission failed: not after six" in output
    assert set(bench.submitted().values()) == {"CANCELLED"}
    assert bench.states() == ["cancelled"] * MAX_ARRAY_SIZE + ["waiting"] * 2


def test_a_partition_that_is_not_there_is_told_in_slurms_words(bench):
    output = bench.submit("seed=0,1", ALONE, "hydra.launcher.partition=nope", code=1)
    assert output.startswith("error: Slurm refused the jobs")
    assert "Invalid partition name specified" in output
    assert bench.submitted() == {}
    shown = bench.manage("status", "s")
    assert "2 waiting" in shown
    assert "Invalid partition name specified" in shown


def test_without_sbatch_nothing_is_begun(bench):
    bench.env["PATH"] = str(bench.folder)
    output = bench.submit("seed=0", code=1)
    assert "no sbatch" in output
    assert "hydra/launcher=local" in output
    assert not bench.results.exists()


@pytest.fixture
def limited(accounting: Cluster, undisturbed: list[Path], tmp_path: Path) -> Bench:
    """A bench on a cluster that takes two jobs at once."""
    accounting.command("sacctmgr", "-i", "add", "qos", "two", "MaxSubmitJobsPerUser=2")
    accounting.command("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=two")
    return Bench(accounting, tmp_path, undisturbed)


def test_what_a_limit_of_jobs_keeps_out_is_submitted_as_others_end(limited):
    words = ("seed=range(0,3)", ALONE, "hydra.launcher.qos=two")
    waiting = limited.start(*words, HELD)
    eventually(lambda: limited.ours.path.exists() and len(limited.submitted()) == 2)
    limited.manage("cancel", "s")
    said(waiting, 130)
    assert limited.states() == ["cancelled"] * 2 + ["waiting"]

    output = limited.submit(*words, LATER, HELD)
    assert "2 queued, 1 waiting" in output
    assert "QOSMaxSubmitJobPerUserLimit" in output
    assert "1 waiting run will not be submitted" in output
    assert "same command again" in output
    for job, state in limited.submitted().items():
        if state == "PENDING":
            limited.cluster.command("scontrol", "release", job)
    assert "3 runs: 3 finished" in limited.submit(*words)
    limited.assert_undisturbed(*range(3))
    assert list(limited.submitted().values()).count("COMPLETED") == 3


def test_jobs_of_a_launcher_that_was_killed_as_it_submitted_are_taken_on(bench):
    path = bench.env["PATH"]
    bench.replace_command("sbatch", '$REAL "$@"; kill -9 $PPID')
    said(bench.start("seed=0,1", ALONE), -signal.SIGKILL)
    [submission] = bench.ours.ledger().submissions
    assert submission.jobs is None
    bench.env["PATH"] = path
    bench.submit("seed=0,1", ALONE, LATER)
    bench.wait_for("COMPLETED", 0, 1)
    bench.assert_undisturbed(0, 1)
    assert len(bench.submitted()) == 2


def test_jobs_that_slurm_took_without_an_answer_are_not_submitted_again(bench):
    words = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    bench.replace_command("sbatch", f'$REAL "$@" >&-; echo "{words}" >&2; exit 1')
    bench.submit("seed=0", LATER)
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0)
    assert len(bench.submitted()) == 1


def test_a_launcher_that_is_killed_is_replaced_by_the_same_command(bench):
    waiting = bench.start("seed=0")
    [worker] = bench.freeze(0)
    assert "another command is at work" in bench.submit("seed=0", code=1)
    waiting.kill()
    said(waiting, -signal.SIGKILL)
    again = bench.start("seed=0")
    thaw(worker)
    assert "1 run: 1 finished" in said(again)
    bench.assert_undisturbed(0)
    assert len(bench.submitted()) == 1
    assert bench.events(0) == ["started", "ended"]


def test_a_sweep_can_be_submitted_from_within_a_job(bench):
    bench.env |= {"SLURM_JOB_ID": "99", "SLURM_ARRAY_JOB_ID": "99", "SLURM_ARRAY_TASK_ID": "7"}
    bench.submit("seed=0", LATER)
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0)


def test_a_queued_job_runs_the_code_of_its_submission(bench):
    tree = bench.folder / "tree"
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        tree.mkdir(exist_ok=True)
        copy(ROOT / part, tree / part)
    imported = tree / "lom_exp" / "handover.py"
    imported.write_text(imported.read_text() + "print('as submitted')\n")
    bench.submit("seed=0", LATER, HELD, root=tree)
    imported.write_text("raise SystemExit('as changed since')")
    bench.cluster.command("scontrol", "release", bench.job(0))
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0)
    assert "as submitted" in bench.output(0)


def test_a_worker_that_is_killed_starts_again_in_its_job_but_not_for_ever(bench):
    waiting = bench.start("seed=0,1", ALONE, "retries=1")
    for pid in bench.freeze(0, 1):
        os.kill(pid, signal.SIGKILL)
    [pid] = bench.freeze(1, since=time.time())
    os.kill(pid, signal.SIGKILL)
    output = said(waiting, 1)
    assert "1 of 2 runs did not finish" in output
    assert f"{bench.of_seed(1).name} lost: lost 2 times, at last: killed (SIGKILL)" in output
    bench.assert_undisturbed(0)
    assert (bench.shown(0)["JobState"], bench.shown(0)["Restarts"]) == ("COMPLETED", "0")
    assert bench.shown(1)["JobState"] == "FAILED"
    assert bench.events(1) == ["started", "lost", "started", "lost"]
    assert "killed (SIGKILL)" in bench.rows()[1]["error"]
    assert len(bench.submitted()) == 2


def test_a_sweep_is_left_to_the_cluster_and_looked_after_from_outside(bench):
    wrong = bench.break_run(0)
    output = bench.submit("seed=0,1", ALONE, LATER, HELD, "hydra.launcher.max_jobs=1")
    assert "2 runs: 2 queued" in output
    assert "lom_exp.launcher status s" in output
    assert bench.states() == ["queued"] * 2
    assert len(bench.submitted()) == 1
    bench.cluster.command("scontrol", "release", bench.job(0))
    [worker] = bench.freeze(1)
    assert bench.states() == ["failed", "running"]
    thaw(worker)
    bench.wait_for("FAILED", 0)
    assert bench.states() == ["failed", "finished"]
    assert "KeyError" in bench.manage("status", "s")
    assert "Traceback" in bench.manage("logs", bench.of_seed(0).name)

    wrong.unlink()
    bench.manage("retry", "s")
    bench.cluster.command("scontrol", "release", bench.job(0))
    bench.wait_for("COMPLETED", 0)
    bench.assert_undisturbed(0, 1)
    assert len(bench.submitted()) == 2
