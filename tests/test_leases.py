"""One process at a time writes a folder: with real processes that are killed, stopped and late."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lom_exp.leases import Heartbeat, Lease, LeaseError, LeaseHeld, LeaseLost, Owner, holder
from lom_exp.leases.owners import FORGOTTEN, Signs, Verdict, judge

ROOT = Path(__file__).parent.parent
ELSEWHERE = Owner("n7", "a boot", 4711, 99, None, 0)
Start = Callable[..., subprocess.Popen[str]]

HOLDER = """
import os, sys, time
from pathlib import Path
from lom_exp.leases import Lease, LeaseLost
folder = Path(sys.argv[1])
lease = Lease(folder)
lease.take()
print("taken", flush=True)
try:
    while True:
        lease.check()
        with (folder / "journal").open("a") as journal:
            journal.write("written\\n")
        time.sleep(0.01)
except LeaseLost as error:
    print(error, flush=True)
    sys.exit(76)
"""

CONTENDER = """
import os, random, sys, time
from pathlib import Path
from lom_exp.leases import Lease
folder = Path(sys.argv[1])
journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def write(what):
    lease.check()
    os.write(journal, f"{what} {os.getpid()} {time.monotonic()}\\n".encode())
for _ in range(int(sys.argv[2])):
    lease = Lease(folder)
    lease.take(patience=30)
    write("enter")
    time.sleep(random.uniform(0, 0.004))
    write("leave")
    lease.release()
"""


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program of Python with arguments and variables; none outlives the test."""
    processes = []

    def start(program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | environment,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def in_job(monkeypatch: pytest.MonkeyPatch, job: int, restart: int, cluster: str = "test") -> None:
    monkeypatch.setenv("SLURM_JOB_ID", str(job))
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restart))
    monkeypatch.setenv("SLURM_CLUSTER_NAME", cluster)


def leave(
    folder: Path, owner: Owner | None = None, silence: float = 0, content: bytes | None = None
) -> Path:
    """A first generation as another process would have left it, silent for so many seconds."""
    if content is None:
        assert owner is not None
        fields = {"owner": owner._asdict(), "since": time.time(), "released": False}
        content = json.dumps(fields).encode()
    path = folder / ".lease" / "000001.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - silence,) * 2)
    return path


def generations(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / ".lease"))


def killed(process: subprocess.Popen[str], reap: bool) -> None:
    process.kill()
    if reap:
        process.wait()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


# Contention


def test_of_processes_that_contend_and_are_killed_never_two_write_and_each_has_its_turn(
    tmp_path: Path, start: Start
) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    slots = [start(CONTENDER, tmp_path, 20) for _ in range(8)]
    killed_at: dict[int, float] = {}
    generator = random.Random(0)
    end = time.monotonic() + 30
    while len(killed_at) < 25 and time.monotonic() < end:
        time.sleep(generator.uniform(0, 0.1))
        entered = re.findall(r"enter (\d+)", journal.read_text())
        victims = {process.pid: i for i, process in enumerate(slots) if process.returncode is None}
        writer = int(entered[-1]) if entered else 0
        pid = writer if writer in victims else generator.choice(list(victims))
        slot = victims[pid]
        if slots[slot].poll() is None:
            killed_at[pid] = time.monotonic()
            killed(slots[slot], reap=bool(generator.getrandbits(1)))
        slots[slot] = start(CONTENDER, tmp_path, 20)
    assert len(killed_at) == 25
    for process in slots:
        assert process.wait(timeout=60) == 0  # it had its 20 turns within its patience

    inside, entered, left = None, 0, 0
    for line in journal.read_text().splitlines():
        what, pid_text, at = line.split()
        pid = int(pid_text)
        if what == "enter":
            assert inside is None or killed_at[inside] < float(at), f"two write: {line}"
            inside, entered = pid, entered + 1
        else:
            assert inside == pid, f"two write: {line}"
            inside, left = None, left + 1
    assert left >= 8 * 20
    assert entered - left <= 25
    assert len([name for name in generations(tmp_path) if name.endswith(".json")]) == 1


def test_of_newcomers_to_the_same_generation_one_wins(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    winners: list[Lease] = []
    losers: list[LeaseHeld] = []

    def contend() -> None:
        lease = Lease(tmp_path)
        barrier.wait()
        try:
            lease.take()
            winners.append(lease)
        except LeaseHeld as error:
            losers.append(error)

    for i in range(1, 31):
        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == i
        assert len(losers) == 7 * i
        winners[-1].check()
        assert generations(tmp_path) == [f"{i:06d}.json"]
        winners[-1].release()


def test_a_newcomer_that_was_late_does_not_take_a_number_others_are_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, ELSEWHERE, silence=1000)
    second, third, late = Lease(tmp_path), Lease(tmp_path), Lease(tmp_path)
    link = os.link

    def link_late(source: Path, target: Path) -> None:
        """Two generations pass, and the first of them is deleted, before the link is made."""
        monkeypatch.setattr(os, "link", link)
        second.take()
        second.release()
        third.take()
        assert generations(tmp_path)[0] == "000003.json"
        assert target.name == "000002.json"
        link(source, target)

    monkeypatch.setattr(os, "link", link_late)
    with pytest.raises(LeaseHeld):
        late.take()
    third.check()
    with pytest.raises(LeaseLost):
        late.check()


# Whose turn it is


def test_a_lease_is_released_and_taken_again_under_a_new_number(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    for i in range(1, 5):
        with Lease(folder) as lease:
            lease.check()
            assert lease.owner == Owner.of_this_process()
            assert generations(folder) == [f"{i:06d}.json"]
        with pytest.raises(LeaseLost, match="take its lease first"):
            lease.check()
        lease.renew()  # as a heartbeat may that comes too late
        lease.release()
    assert generations(folder) == ["000004.json"]


def test_who_holds_the_lease_is_told_with_the_remedy(tmp_path: Path, start: Start) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    begun = time.monotonic()
    with pytest.raises(LeaseHeld) as caught:
        Lease(tmp_path, timeout=300).take(patience=0.3)
    assert 0.3 <= time.monotonic() - begun < 5
    host = Owner.of_this_process().host
    assert re.fullmatch(
        rf"{re.escape(str(tmp_path))} is in use by pid {process.pid} on {re.escape(host)} "
        r"\(since [-\d]+ [:\d]+, last sign of life \d s ago\); wait for it or end it "
        rf"\(kill {process.pid} on {re.escape(host)}\). "
        r"It counts as over after 300 s without a sign of life",
        str(caught.value),
    )


@pytest.mark.parametrize("reap", [True, False])
def test_a_killed_process_has_no_lease_be_it_a_zombie(
    tmp_path: Path, start: Start, reap: bool
) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    found = holder(tmp_path)
    assert found is not None
    assert found.owner.pid == process.pid
    assert found.silence < 60
    killed(process, reap)
    assert holder(tmp_path) is None
    Lease(tmp_path).take()


def test_a_newcomer_waits_for_the_release(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    lease.take()
    timer = threading.Timer(0.3, lease.release)
    timer.start()
    Lease(tmp_path).take(patience=20)
    timer.join()


def test_a_process_holds_its_lease_against_itself(tmp_path: Path) -> None:
    lease = Lease(tmp_path)
    lease.take()
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()
    with pytest.raises(LeaseHeld):
        lease.take()
    lease.check()


def test_a_pid_that_another_process_was_given_is_not_the_owner(tmp_path: Path) -> None:
    me = Owner.of_this_process()
    if me.started is None:
        pytest.skip("this system does not tell when a process began")
    leave(tmp_path, me._replace(started=me.started - 1))
    assert holder(tmp_path) is None
    Lease(tmp_path).take()


@pytest.mark.parametrize("there", [{"boot": "another"}, {"host": "n7"}])
def test_a_pid_says_nothing_about_processes_out_of_sight(
    tmp_path: Path, there: dict[str, str]
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    leave(tmp_path, Owner.of_this_process()._replace(pid=gone.pid, **there))
    assert holder(tmp_path) is not None
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()


def test_an_owner_elsewhere_counts_until_it_was_silent_for_the_timeout(tmp_path: Path) -> None:
    leave(tmp_path, ELSEWHERE, silence=590)
    with pytest.raises(LeaseHeld, match="last sign of life 590 s ago"):
        Lease(tmp_path).take()
    leave(tmp_path, ELSEWHERE, silence=610)
    Lease(tmp_path).take()


def test_the_clock_of_the_newcomer_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, ELSEWHERE, silence=590)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 86400)
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()


def test_a_process_that_was_stopped_and_superseded_by_its_requeued_job_writes_no_more(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {"SLURM_JOB_ID": "55", "SLURM_CLUSTER_NAME": "test", "PATH": "/nowhere"}
    (tmp_path / "journal").touch()
    process = start(HOLDER, tmp_path, **variables)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    in_job(monkeypatch, 55, restart=1)
    lease = Lease(tmp_path)
    lease.take()
    written = (tmp_path / "journal").read_text()
    process.send_signal(signal.SIGCONT)
    message, _ = process.communicate(timeout=20)
    assert process.returncode == 76
    assert f"was taken from job 55 (restart 0), pid {process.pid} on" in message
    assert f"now belongs to job 55 (restart 1), pid {os.getpid()} on" in message
    # It may have been stopped between a check and the write after it.
    assert len((tmp_path / "journal").read_text()) <= len(written) + len("written\n")
    lease.check()


def test_a_process_that_was_stopped_for_longer_than_the_timeout_writes_no_more(
    tmp_path: Path, start: Start
) -> None:
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    lease = Lease(tmp_path, timeout=0.3)
    lease.take(patience=20)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=20) == 76
    lease.check()


def test_an_earlier_start_of_a_job_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, ELSEWHERE._replace(job="55", restart=2, cluster="test"), silence=1000)
    in_job(monkeypatch, 55, restart=1)
    begun = time.monotonic()
    with pytest.raises(LeaseHeld, match=r"a later start of this Slurm job, job 55 \(restart 2\)"):
        Lease(tmp_path).take(patience=20)
    assert time.monotonic() - begun < 5
    in_job(monkeypatch, 55, restart=3)
    Lease(tmp_path).take()


def test_a_restarted_process_of_the_same_start_of_a_job_waits_while_the_first_lives(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_job(monkeypatch, 55, restart=1)
    process = start(HOLDER, tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()
    killed(process, reap=True)
    Lease(tmp_path).take()


# What the scheduler says; squeue is a program of our own, and each case asks for another job


def scheduler(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    """Have squeue do what a line of shell says; returns a file with a line for each call."""
    calls = folder / "calls"
    programs = folder / "bin"
    programs.mkdir()
    for name, line in [("squeue", f"echo asked >> '{calls}'; {answer}"), ("sacct", "exit 0")]:
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    return calls


@pytest.mark.parametrize(
    ("job", "answer", "silence", "taken"),
    [
        ("1001", "echo '1001|NODE_FAIL|n7|None'", 0, True),
        ("1002_7", "echo '1002_7|CANCELLED|n7|None'", 0, True),
        ("1003", "echo '1003|RUNNING|n7|None'", 100, False),
        ("1004", "echo '1004|PENDING||BeginTime'", 100, False),
        ("1005", "true", FORGOTTEN - 20, False),
        ("1006", "true", FORGOTTEN + 20, True),
        ("1007", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", 100, True),
        ("1008", "echo 'fatal: no configuration' >&2; exit 1", 100, False),
        ("1009", "echo 'fatal: no configuration' >&2; exit 1", 700, True),
    ],
)
def test_the_scheduler_says_whether_a_job_elsewhere_is_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    job: str,
    answer: str,
    silence: float,
    taken: bool,
) -> None:
    scheduler(tmp_path, monkeypatch, answer)
    leave(tmp_path, ELSEWHERE._replace(job=job, cluster="test"), silence)
    if taken:
        Lease(tmp_path).take()
    else:
        with pytest.raises(LeaseHeld, match=rf"end it \(scancel {job}\)"):
            Lease(tmp_path).take()


def test_without_a_scheduler_on_this_machine_a_job_is_not_guessed_to_be_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    leave(tmp_path, ELSEWHERE._replace(job="1010"), silence=500)
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()


def test_the_scheduler_is_asked_once_for_all_runs_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = scheduler(tmp_path, monkeypatch, "echo '1011|RUNNING|n7|None'")
    for i in range(20):
        folder = tmp_path / str(i)
        folder.mkdir()
        leave(folder, ELSEWHERE._replace(job="1011"))
        with pytest.raises(LeaseHeld):
            Lease(folder).take()
    assert len(calls.read_text().splitlines()) <= 2  # 2 where a period ended between them


def test_the_scheduler_of_another_cluster_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = scheduler(tmp_path, monkeypatch, "echo '1012|COMPLETED|n7|None'")
    leave(tmp_path, ELSEWHERE._replace(job="1012", cluster="there"))
    in_job(monkeypatch, 1012, restart=5, cluster="here")
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()
    assert not calls.exists()


def test_the_scheduler_is_not_asked_about_the_job_that_a_newcomer_is_in_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = scheduler(tmp_path, monkeypatch, "echo '1013|CANCELLED|n7|None'")
    leave(tmp_path, ELSEWHERE._replace(job="1013", cluster="test"))
    in_job(monkeypatch, 1013, restart=0)
    with pytest.raises(LeaseHeld):
        Lease(tmp_path).take()
    assert not calls.exists()


# The rule itself

owners = st.builds(
    Owner,
    st.sampled_from(["n1", "n2"]),
    st.just("boot"),
    st.integers(1, 3),
    st.just(1),
    st.sampled_from([None, "1", "2"]),
    st.integers(0, 2),
    st.sampled_from([None, "here", "there"]),
)
signs = st.builds(
    Signs,
    st.floats(-100, 1000),
    st.booleans(),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "over", "alive", "unknown"]),
)


@given(owners, owners, signs, st.floats(60, 900))
def test_an_owner_is_over_only_for_a_reason_and_a_stale_newcomer_never_wins(
    owner: Owner, newcomer: Owner, seen: Signs, timeout: float
) -> None:
    verdict = judge(owner, newcomer, seen, timeout)
    same = owner.job is not None and owner[4] == newcomer[4] and owner[6] == newcomer[6]
    if same and newcomer.restart < owner.restart:
        assert verdict is Verdict.STALE
    elif verdict is Verdict.HELD:
        assert seen.silence <= timeout
        assert not seen.released
        assert seen.job != "over"
        assert not seen.process_over
    else:
        assert (
            seen.released
            or seen.process_over
            or seen.silence > min(timeout, FORGOTTEN if seen.job == "unknown" else timeout)
            or seen.job == "over"
            or (same and newcomer.restart > owner.restart)
        )


@given(owners, owners, signs, st.floats(60, 900), st.floats(0, 1000))
def test_further_silence_never_brings_an_owner_back(
    owner: Owner, newcomer: Owner, seen: Signs, timeout: float, further: float
) -> None:
    later = seen._replace(silence=seen.silence + further)
    if judge(owner, newcomer, seen, timeout) is Verdict.OVER:
        assert judge(owner, newcomer, later, timeout) is Verdict.OVER


@given(owners, owners)
def test_two_processes_never_both_supersede_each_other_while_both_show_signs_of_life(
    one: Owner, other: Owner
) -> None:
    seen = Signs(0.0, released=False, process_over=False, job="alive")
    verdicts = [judge(one, other, seen, 600), judge(other, one, seen, 600)]
    assert verdicts.count(Verdict.OVER) <= 1
    assert (Verdict.OVER in verdicts) == (Verdict.STALE in verdicts)


# Damage


@pytest.mark.parametrize(
    "content",
    [b"", b'{"owner": {"host"', b"[]", b"{}", b'{"owner": {"pid": 1}}', b"\xff\x00"],
)
def test_a_damaged_file_counts_for_a_moment_and_then_no_more(
    tmp_path: Path, content: bytes
) -> None:
    leave(tmp_path, content=content)
    assert holder(tmp_path) is None
    with pytest.raises(LeaseHeld, match=r"000001.json is damaged"):
        Lease(tmp_path).take()
    leave(tmp_path, content=content, silence=20)
    lease = Lease(tmp_path)
    lease.take()
    lease.check()
    assert generations(tmp_path) == ["000002.json"]


def test_other_files_beside_the_generations_do_no_harm(tmp_path: Path) -> None:
    Lease(tmp_path).take()
    files = tmp_path / ".lease"
    for name in ("notes.txt", "7.json", "000009.json.bak", "new.tmp", "old.tmp"):
        (files / name).touch()
    os.utime(files / "old.tmp", (0, 0))
    leave(tmp_path, ELSEWHERE, silence=1000)
    Lease(tmp_path).take()
    left = ["000002.json", "000009.json.bak", "7.json", "new.tmp", "notes.txt"]
    assert generations(tmp_path) == left


def test_files_that_never_stand_still_are_reported_and_not_waited_for_forever(
    tmp_path: Path,
) -> None:
    (tmp_path / ".lease").mkdir()
    (tmp_path / ".lease" / "000001.json").symlink_to("nothing")
    with pytest.raises(LeaseHeld, match="change while they are read"):
        Lease(tmp_path).take()


@pytest.mark.parametrize("renamed", [False, True])
def test_an_owner_whose_lease_folder_was_deleted_stops_and_disturbs_nobody(
    tmp_path: Path, renamed: bool
) -> None:
    old, new = Lease(tmp_path), Lease(tmp_path)
    old.take()
    if renamed:
        (tmp_path / ".lease").rename(tmp_path / "aside")
    else:
        (tmp_path / ".lease" / "000001.json").unlink()
        (tmp_path / ".lease").rmdir()
    with pytest.raises(LeaseLost, match="changed by hand"):
        old.check()
    new.take()
    assert generations(tmp_path) == ["000001.json"]  # of the same number
    with pytest.raises(LeaseLost):
        old.check()
    with pytest.raises(LeaseLost):
        old.renew()
    old.release()
    new.check()
    assert holder(tmp_path) is not None


def test_a_folder_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LeaseError, match=r"file/run/\.lease: Not a directory; make it a folder"):
        Lease(tmp_path / "file" / "run").take(patience=20)
    (tmp_path / ".lease").touch()
    with pytest.raises(LeaseError, match=r"\.lease: File exists; make it a folder"):
        Lease(tmp_path).take(patience=20)


def test_a_file_system_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for i in range(1, 4):
        with Lease(tmp_path) as lease:
            lease.check()
            with pytest.raises(LeaseHeld):
                Lease(tmp_path).take()
            assert generations(tmp_path) == [f"{i:06d}.json"]


def test_a_link_that_was_made_though_the_server_said_no_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        """As a request that NFS repeats because the first answer was lost."""
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    lease = Lease(tmp_path)
    lease.take()
    lease.check()


def test_a_release_that_cannot_be_written_ends_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk, Lease(tmp_path):
        disk.setattr(os, "fsync", full)
    assert generations(tmp_path) == ["000001.json"]
    with pytest.raises(LeaseHeld):  # as long as this process lives
        Lease(tmp_path).take()


# Forks and heartbeats


def test_a_forked_child_neither_has_nor_releases_the_lease(tmp_path: Path) -> None:
    with Lease(tmp_path) as lease:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                lease.release()
                lease.check()
            except LeaseLost as error:
                try:
                    Lease(tmp_path).take()
                except LeaseHeld:
                    code = 0 if f"forked (pid {os.getpid()})" in str(error) else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        lease.check()


def test_a_child_forked_in_the_middle_of_a_renewal_does_not_hang(tmp_path: Path) -> None:
    def renew() -> None:
        with pytest.raises(LeaseLost):
            lease.renew()

    lease = Lease(tmp_path)
    lease.take()
    path = tmp_path / ".lease" / "000001.json"
    path.unlink()
    os.mkfifo(path)  # whoever reads it waits for a writer
    thread = threading.Thread(target=renew)
    thread.start()
    time.sleep(0.1)
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            lease.release()
            renew()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    with path.open("wb"):
        path.unlink()
    thread.join(timeout=20)
    assert os.waitstatus_to_exitcode(status) == 0


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_heartbeat_keeps_leases_that_would_be_over_without(tmp_path: Path) -> None:
    path = tmp_path / ".lease" / "000001.json"
    with Lease(tmp_path) as lease:
        with Heartbeat([lease], interval=0.02) as heartbeat:
            os.utime(path, (0, 0))
            wait_for(lambda: path.stat().st_mtime > 0)
            with pytest.raises(LeaseHeld):
                Lease(tmp_path).take()
        assert heartbeat.lost is None
        os.utime(path, (0, 0))
        Lease(tmp_path).take()
        with pytest.raises(LeaseLost):
            lease.check()


def test_a_heartbeat_tells_the_first_loss_and_renews_the_other_leases(tmp_path: Path) -> None:
    leases = [Lease(tmp_path / str(i)) for i in range(3)]
    for lease in leases:
        lease.take()
    with Heartbeat(leases, interval=0.02) as heartbeat:
        leases[0].release()  # is no loss
        for path in (tmp_path / "1" / ".lease").iterdir():
            path.unlink()
        wait_for(lambda: heartbeat.lost is not None)
        assert str(tmp_path / "1") in str(heartbeat.lost)
        beating = tmp_path / "2" / ".lease" / "000001.json"
        os.utime(beating, (0, 0))
        wait_for(lambda: beating.stat().st_mtime > 0)


def test_a_file_server_that_is_away_for_a_moment_is_no_loss(tmp_path: Path) -> None:
    files = tmp_path / ".lease"
    with Lease(tmp_path) as lease, Heartbeat([lease], interval=0.02) as heartbeat:
        files.rename(tmp_path / "away")
        files.symlink_to(files.name)  # whatever is done with it raises OSError
        with pytest.raises(OSError, match="symbolic links"):
            lease.check()
        time.sleep(0.2)
        files.unlink()
        (tmp_path / "away").rename(files)
        os.utime(files / "000001.json", (0, 0))
        wait_for(lambda: (files / "000001.json").stat().st_mtime > 0)
        assert heartbeat.lost is None
