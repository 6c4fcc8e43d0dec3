"""What the scheduler is asked and told: against a real Slurm, and against words it has said."""

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slurm_cluster import Cluster, obstacle, processes

from lom_exp import slurm
from lom_exp.errors import ConfigError
from lom_exp.slurm import JobState, Limits, SlurmError

ROOT = Path(__file__).parent.parent
LATER = "--begin=now+1hour"  # such a job stays in the queue
POLICY = (
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy "
    "(job submit limit, user's size and/or time limits)"
)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds another cluster."""
    monkeypatch.setattr(slurm, "_no_accounting_until", float("-inf"))
    slurm.limits.cache_clear()


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts shell scripts before Slurm's commands on PATH; each notes its calls in NAME.calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(**scripts: str) -> Path:
        for name, script in scripts.items():
            path = folder / name
            path.write_text(f'#!/bin/sh\necho "$@" >> {path}.calls\n{script}\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return folder

    return write


def calls(folder: Path, command: str) -> list[str]:
    path = folder / f"{command}.calls"
    return path.read_text().splitlines() if path.exists() else []


def real(command: str) -> str:
    """A script that goes on to Slurm's own command."""
    return f'exec {shutil.which(command)} "$@"'


def refusal(cluster: Cluster, *options: object) -> str:
    """What sbatch says as it refuses a job."""
    with pytest.raises(RuntimeError) as caught:
        cluster.submit("true", *options)
    return str(caught.value)


# ---------------------------------------------------------------- a real cluster


def test_the_states_of_jobs_and_array_tasks_are_told_apart(cluster, monkeypatch):
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")  # a habit of the user's, no wish of ours
    waiting = cluster.submit("true", LATER, "--array=0-2")
    running = cluster.submit("sleep 100", "--array=7", "--nodelist=n2")
    good, bad = cluster.submit("true"), cluster.submit("exit 3")
    cancelled = cluster.submit("sleep 100")
    for job, state in [(f"{running}_7", "RUNNING"), (cancelled, "RUNNING")]:
        cluster.wait_for(job, state)
    slurm.cancel([cancelled])
    for job, state in [(good, "COMPLETED"), (bad, "FAILED"), (cancelled, "CANCELLED")]:
        cluster.wait_for(job, state)
    asked = [f"{waiting}_0", f"{waiting}_2", f"{running}_7", good, bad, cancelled, "9999", waiting]
    found = slurm.states(asked)
    assert {job: state.state for job, state in found.items()} == {
        f"{waiting}_0": "PENDING",
        f"{waiting}_2": "PENDING",
        f"{running}_7": "RUNNING",
        good: "COMPLETED",
        bad: "FAILED",
        cancelled: "CANCELLED",
    }
    assert found[f"{running}_7"] == JobState("RUNNING", "n2", "")
    assert found[f"{waiting}_0"] == JobState("PENDING", "", "BeginTime")
    assert found[bad].reason == "NonZeroExitCode"
    for job in asked:
        assert slurm.state_of(job) == found.get(job)


def test_a_job_whose_node_was_lost_is_over(cluster):
    job = cluster.submit("sleep 100", "--no-requeue")
    cluster.wait_for(job, "RUNNING")
    node = slurm.state_of(job).node
    cluster.kill_slurmd(node, with_jobs=True)
    cluster.set_down(node)
    cluster.wait_for(job, "NODE_FAIL")
    assert slurm.state_of(job)[:2] == ("NODE_FAIL", node)


def test_hundreds_of_tasks_are_one_question(cluster, scripted):
    array = cluster.submit("true", LATER, "--array=0-599")
    tasks = [f"{array}_{task}" for task in range(600)]
    folder = scripted(squeue=real("squeue"), scancel=real("scancel"))
    found = slurm.states(tasks)
    assert set(found) == set(tasks)
    assert len(calls(folder, "squeue")) == 1
    slurm.cancel(tasks[:599])
    assert set(slurm.states(tasks)) == {tasks[599]}, "squeue forgets a task that never started"


def test_without_accounting_sacct_is_asked_once(cluster, scripted):
    folder = scripted(sacct=real("sacct"))
    job = cluster.submit("true", LATER)
    for _ in range(2):
        assert set(slurm.states([job, "9999"])) == {job}
        assert slurm.state_of("9999") is None
        assert slurm.named("nothing") == {}
    assert len(calls(folder, "sacct")) == 1


def test_jobs_are_found_by_their_name(cluster):
    array = cluster.submit("true", LATER, "--array=0-11", "--job-name=lom-1a2b3c4d")
    single = cluster.submit("true", LATER, "--job-name=lom-1a2b3c4d")
    cluster.submit("true", LATER, "--job-name=lom-1a2b3c4d5")
    found = slurm.named("lom-1a2b3c4d")
    assert list(found) == [f"{array}_{task}" for task in range(12)] + [single]
    assert {state.state for state in found.values()} == {"PENDING"}


def test_cancelling_passes_over_jobs_that_have_ended_or_never_were(cluster):
    over, waiting = cluster.submit("true"), cluster.submit("true", LATER)
    cluster.wait_for(over, "COMPLETED")
    slurm.cancel([over, "9999", f"{over}_4", waiting])
    assert cluster.wait_for(waiting, "CANCELLED")
    assert cluster.jobs()[over] == "COMPLETED"
    slurm.cancel([])


def test_a_requeued_job_keeps_its_id_and_knows_its_restarts(cluster):
    words = "from lom_exp import slurm; print(slurm.this_job())"
    job = cluster.submit(
        f"cd {ROOT}; {sys.executable} -c '{words}'; sleep $((1 - ${{SLURM_RESTART_COUNT:-0}}))00",
        "--array=4",
    )
    task = f"{job}_4"
    cluster.wait_for(task, "RUNNING")
    slurm.requeue(task)
    assert cluster.wait_for(task, "PENDING", "COMPLETING")
    assert not slurm.is_over(slurm.state_of(task).state)
    cluster.wait_for(task, "PENDING")
    with pytest.raises(SlurmError, match="Job is pending execution"):
        slurm.requeue(task)
    cluster.wait_for(task, "COMPLETED")
    output = (cluster.folder / "out" / f"{task}.txt").read_text()
    assert output.splitlines()[-1] == f"('{task}', 1)"


def test_a_job_that_slurm_does_not_know_is_not_requeued(cluster):
    with pytest.raises(SlurmError, match="scontrol: Invalid job id specified"):
        slurm.requeue("9999")


def test_an_array_may_be_as_large_as_the_limits_say(cluster):
    assert slurm.limits() == Limits(max_array_size=1001, max_jobs=10000)
    size = slurm.limits().max_array_size
    cluster.submit("true", LATER, f"--array=0-{size - 1}")
    words = refusal(cluster, LATER, f"--array=0-{size}")
    assert "Invalid job array specification" in words
    assert slurm.is_limit(words)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=nope", "Invalid partition name specified"),
        ("--gres=gpu:99", "Requested node configuration is not available"),
        ("--constraint=nope", "Invalid feature specification"),
    ],
)
def test_a_setting_that_the_cluster_lacks_is_no_limit(cluster, option, words):
    said = refusal(cluster, option)
    assert words in said
    assert not slurm.is_limit(said)


def test_accounting_knows_what_the_scheduler_forgot(accounting):
    good, bad = accounting.submit("true"), accounting.submit("exit 3")
    array = accounting.submit("true", "--array=0-1", "--job-name=lom-11111111")
    never = accounting.submit("true", LATER, "--array=0-99")
    accounting.command("scancel", never)
    for job, state in [(good, "COMPLETED"), (bad, "FAILED"), (f"{array}_1", "COMPLETED")]:
        accounting.wait_for(job, state)

    def recorded() -> set[str]:
        selection = f"--jobs={good},{bad},{array},{never}"
        columns = ("--format=JobID,End", "--parsable2", "--noheader", "--allocations")
        rows = accounting.command("sacct", *columns, selection).splitlines()
        return {row.partition("|")[0] for row in rows if not row.endswith("Unknown")}

    # The controller tells the database with a delay of its own.
    jobs = {good, bad, f"{array}_0", f"{array}_1", f"{never}_[0-99]"}
    accounting.wait_until(lambda: jobs <= recorded(), f"{jobs} to be recorded")
    accounting.stop_slurmctld()
    accounting.start_slurmctld(forget_jobs=True)
    found = slurm.states([good, bad, f"{never}_5", f"{never}_99", "9999"])
    assert len(found) == 4
    assert found[good].state == "COMPLETED"
    assert found[good].node in ("n1", "n2")
    assert found[bad] == JobState("FAILED", found[bad].node, "exit code 3")
    assert found[f"{never}_5"] == found[f"{never}_99"] == JobState("CANCELLED", "", "")
    assert [*slurm.named("lom-11111111")] == [f"{array}_0", f"{array}_1"]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MaxSubmitJobsPerUser=2", "QOSMaxSubmitJobPerUserLimit"),
        ("GrpSubmitJobs=2", "QOSGrpSubmitJobsLimit"),
        ("MaxSubmitJobsPerAccount=2", "MaxSubmitJobsPerAccount"),
    ],
)
def test_a_limit_of_submitted_jobs_is_known_by_its_words(accounting, limit, words):
    name = limit.partition("=")[0].lower()
    accounting.command("sacctmgr", "-i", "add", "qos", name, limit)
    accounting.command("sacctmgr", "-i", "modify", "user", "root", "set", f"qos+={name}")
    accounting.submit("true", LATER, f"--qos={name}", "--array=0-1")
    said = refusal(accounting, LATER, f"--qos={name}")
    assert words in said
    assert slurm.is_limit(said)


def test_a_limit_of_time_or_a_missing_account_is_final(accounting):
    accounting.command(*("sacctmgr", "-i", "add", "qos", "short", "MaxWall=5", "Flags=DenyOnLimit"))
    accounting.command("sacctmgr", "-i", "modify", "user", "root", "set", "qos+=short")
    said = refusal(accounting, "--qos=short")
    assert "QOSMaxWallDurationPerJobLimit" in said
    assert not slurm.is_limit(said)
    assert not slurm.is_limit(refusal(accounting, "--qos=nope"))
    assert not slurm.is_limit(refusal(accounting, "--account=nope"))


def test_a_test_process_that_is_killed_leaves_no_cluster_behind(tmp_path_factory):
    if obstacle():
        pytest.skip(f"needs a real Slurm: {obstacle()}")
    folder = tmp_path_factory.mktemp("slurm")
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from slurm_cluster import Cluster\n"
        "cluster = Cluster(Path(sys.argv[1])).__enter__()\n"
        "job = cluster.submit('trap \"\" TERM; sleep 100')\n"
        "cluster.wait_for(job, 'RUNNING')\n"
        "print(cluster.warden.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    warden = Path(f"/proc/{int(done.stdout)}/status")
    deadline = time.monotonic() + 30
    while warden.exists() and "State:\tZ" not in warden.read_text():
        assert time.monotonic() < deadline, processes(folder)
        time.sleep(0.05)
    assert processes(folder) == []


# ---------------------------------------------------------------- words Slurm has said


def test_ended_is_what_no_longer_changes():
    over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"}
    alive = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED"}
    assert {state for state in over | alive if slurm.is_over(state)} == over
    assert not slurm.is_over("A_STATE_OF_TOMORROW")


def test_rows_of_squeue_are_read_whatever_they_hold(scripted):
    reason = "Nodes required for job are DOWN, DRAINED | reserved (see sinfo)"
    scripted(
        squeue="cat <<'END'\nCLUSTER: north\n"
        "12_3|RUNNING|gpu[01-02],cpu7|None\n"
        f"13|PENDING||{reason}\n"
        "14|TIMEOUT|gpu01|TimeLimit\nEND"
    )
    assert slurm.states(["12_3", "13", "14"]) == {
        "12_3": JobState("RUNNING", "gpu[01-02],cpu7", ""),
        "13": JobState("PENDING", "", reason),
        "14": JobState("TIMEOUT", "gpu01", "TimeLimit"),
    }


def test_rows_of_sacct_are_read_whatever_they_hold(scripted):
    scripted(
        squeue="exit 0",
        sacct="cat <<'END'\n"
        "20_[0-2,5,10-14:2%4]|CANCELLED by 1000|None assigned|0:0\n"
        "20_3|OUT_OF_MEMORY|gpu01|0:125\n"
        "20_4|RUNNING|gpu01|0:0\n"
        "21|TIMEOUT|gpu02|0:0\n"
        "22|FAILED|gpu02|2:0\nEND",
    )
    asked = [f"20_{task}" for task in range(15)] + ["21", "22", "23"]
    cancelled = JobState("CANCELLED", "", "")
    assert slurm.states(asked) == {
        **{f"20_{task}": cancelled for task in (0, 1, 2, 5, 10, 12, 14)},
        "20_3": JobState("OUT_OF_MEMORY", "gpu01", "signal 125"),
        "21": JobState("TIMEOUT", "gpu02", ""),
        "22": JobState("FAILED", "gpu02", "exit code 2"),
    }


def test_a_scheduler_that_is_busy_is_asked_again(scripted):
    folder = scripted(
        squeue='[ "$(wc -l < "$0.calls")" -gt 1 ] && echo "1|RUNNING|n1|None" && exit\n'
        "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1"
    )
    assert slurm.states(["1"]) == {"1": JobState("RUNNING", "n1", "")}
    assert len(calls(folder, "squeue")) == 2


def test_a_scheduler_that_does_not_come_back_is_quoted(scripted, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.0)
    words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    scripted(squeue=f"echo '{words}' >&2; exit 1")
    with pytest.raises(SlurmError, match=r"squeue: .* \(connect failure\)"):
        slurm.states(["1"])
    with pytest.raises(SlurmError, match="connect failure"):
        slurm.state_of("1")


def test_a_refusal_to_cancel_is_an_error(scripted):
    scripted(
        scancel="echo 'scancel: error: Kill job error on job id 8: Invalid job id specified' >&2\n"
        "echo 'scancel: error: Kill job error on job id 9: Access/permission denied' >&2; exit 1"
    )
    with pytest.raises(SlurmError, match="job id 9: Access/permission denied"):
        slurm.cancel(["8", "9"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("MaxArraySize            = 1001\nMaxJobCount             = 10000", Limits(1001, 10000)),
        ("MaxArraySize = 0\nMaxJobCount = 10000", Limits(1, 10000)),
        ("MaxArraySize = 1001\nSchedulerParameters = bf_x,max_array_tasks=50", Limits(50, None)),
    ],
)
def test_limits_are_read_off_the_configuration(scripted, words, expected):
    folder = scripted(scontrol=f"cat <<'END'\n{words}\nEND")
    assert [slurm.limits(), slurm.limits()] == [expected, expected]
    assert len(calls(folder, "scontrol")) == 1


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (f"sbatch: error: AssocMaxSubmitJobLimit\n{POLICY}", True),
        (POLICY, True),  # older versions name no policy
        (f"sbatch: error: AssocGrpCPUMinutesLimit\n{POLICY}", False),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("sbatch: error: Batch job submission failed: Invalid account or ...", False),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", False),
    ],
)
def test_a_limit_is_told_from_a_mistake(words, limit):
    assert slurm.is_limit(words) is limit


def test_a_machine_without_slurm_is_told_what_is_missing(tmp_path, monkeypatch):
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    slurm.require()
    (tmp_path / "squeue").unlink()
    (tmp_path / "scancel").unlink()
    with pytest.raises(ConfigError, match=r"no squeue, scancel on PATH.*hydra/launcher=local"):
        slurm.require()
    with pytest.raises(ConfigError, match="no squeue on PATH"):
        slurm.states(["1"])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "12"}, ("12", 0)),
        (
            {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
            | {"SLURM_RESTART_COUNT": "2"},
            ("12_3", 2),
        ),
    ],
)
def test_a_process_knows_its_job(variables, expected, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert slurm.this_job() == expected
