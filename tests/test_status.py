"""What a person sees of a sweep: its state from files and the scheduler, as text that fits."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lom_exp.launcher import __main__ as command_line
from lom_exp.launcher import table
from lom_exp.launcher.status import Row, Surveyor
from lom_exp.slurm import JobState
from lom_exp.sweeps import SweepError, SweepFolder

ROOT = Path(__file__).parent.parent
HERE = os.uname().nodename
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
TRACEBACK = "Traceback (most recent call last):\n  File 'a.py', line 3\nValueError: it is no number"
DEAD = "pid 4194305"  # above the largest that Linux gives


class Fabricated:
    """A sweep in the making: one pack per job, on a cluster."""

    def __init__(
        self, results: Path, packs: dict[str, list[str]], scheduler: str = "slurm"
    ) -> None:
        self.results, self.packs, self.scheduler = results, packs, scheduler
        self.folder = SweepFolder(results / "sweeps" / "main")
        (self.folder.path / "packs").mkdir(parents=True)
        names = [name for runs in packs.values() for name in runs]
        self.folder.describe(["python", "launch.py"], [], names, None)
        self.states: dict[str, JobState] = {}

    def submit(self, array: int = 7, packs_of_jobs: Sequence[Sequence[str]] | None = None) -> None:
        """Give all packs to jobs, which are pending."""
        jobs = packs_of_jobs or [[pack] for pack in self.packs]
        token = self.folder.note_intent(self.scheduler, jobs, self.packs)
        ids = [f"{array}_{task}" for task in range(len(jobs))]
        self.folder.note_jobs(token, ids)
        self.states |= dict.fromkeys(ids, JobState("PENDING", "", "Priority"))

    def job(self, job: str, state: str, node: str = "n1") -> None:
        self.states[job] = JobState(state, node, "")

    def run(self, name: str, status: str, **others: Any) -> Path:
        """Write what a run says of itself, in job 7_0 unless told otherwise."""
        folder = self.results / "runs" / name
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "status": status, "phase": "policy", "update": 300, "step": 400, "total": 1000,
            "time": time.time(), "error": None, "score": 71.25, "updates_per_second": 2.0,
            "host": "n1", "job": "7_0", "log": None,
        }  # fmt: skip
        (folder / "status.json").write_text(json.dumps(content | others))
        return folder

    def look(self) -> dict[str, Row]:
        return {row.name: row for row in Surveyor(self.folder).look(self.states).rows}


@pytest.fixture
def one(tmp_path: Path) -> Fabricated:
    """A sweep of one run in one job."""
    return Fabricated(tmp_path, {"aaaaaaaa": ["run"]})


@pytest.mark.parametrize(
    ("said", "job", "state"),
    [
        ("finished", "FAILED", "finished"),  # another run of its pack failed
        ("diverged", "COMPLETED", "diverged"),
        ("failed", "RUNNING", "failed"),
        ("lost", "COMPLETED", "lost"),
        ("running", "RUNNING", "running"),
        ("running", "COMPLETING", "running"),
        ("running", "PENDING", "queued"),  # requeued after it was killed
        ("running", "NODE_FAIL", "lost"),
        ("running", "CANCELLED", "lost"),
        ("running", "FORGOTTEN", "lost"),
        ("interrupted", "PENDING", "queued"),
        ("interrupted", "RUNNING", "running"),
        ("interrupted", "TIMEOUT", "interrupted"),
        (None, "PENDING", "queued"),
        (None, "RUNNING", "running"),
        (None, "FAILED", "lost"),
        (None, "CANCELLED", "cancelled"),
    ],
)
def test_a_state_is_made_of_the_runs_own_and_its_jobs(
    one: Fabricated, said: str | None, job: str, state: str
) -> None:
    one.submit()
    one.job("7_0", job)
    if job == "FORGOTTEN":
        del one.states["7_0"]
    if said:
        one.run("run", said)
    row = one.look()["run"]
    assert row.state == state
    assert (row.seconds_left == 300.0) == (state == said == "running")
    assert row.step == (400 if said else 0)


def test_a_run_that_was_not_submitted_waits(one: Fabricated) -> None:
    assert one.look()["run"].state == "waiting"
    token = one.folder.note_intent("slurm", [["aaaaaaaa"]], one.packs)
    assert one.look()["run"].state == "waiting"
    one.folder.note_refusal(token, "sbatch: error: invalid partition specified: gpus")
    survey = Surveyor(one.folder).look(one.states)
    assert survey.rows[0].state == "waiting"
    assert "invalid partition specified: gpus" in text(survey)


def test_a_loss_says_how_the_job_ended(one: Fabricated) -> None:
    one.submit()
    one.run("run", "running")
    one.job("7_0", "OUT_OF_MEMORY", "n2")
    row = one.look()["run"]
    assert row.node == "n2"
    assert row.error is not None
    assert all(words in row.error for words in ("7_0", "n2", "OUT_OF_MEMORY", "more memory"))


def test_what_a_user_cancelled_is_not_lost(one: Fabricated) -> None:
    one.submit()
    one.run("run", "running")
    one.folder.note_cancelled(["7_0"])
    one.job("7_0", "RUNNING")
    assert one.look()["run"].state == "running"
    one.job("7_0", "CANCELLED")
    assert one.look()["run"].state == "cancelled"


@pytest.mark.parametrize("said", ["failed", "lost", "interrupted", "running"])
def test_a_run_that_was_submitted_again_is_queued(one: Fabricated, said: str) -> None:
    one.submit(7)
    one.run("run", said, time=time.time() - 60, error="of the first job")
    one.job("7_0", "FAILED")
    one.submit(8)
    row = one.look()["run"]
    assert (row.state, row.job, row.error, row.reason) == ("queued", "8_0", None, "Priority")
    one.run("run", "failed", job="8_0", error="of the second job")
    assert one.look()["run"].error == "of the second job"


def test_a_run_goes_on_in_its_old_job_though_the_new_one_is_over(one: Fabricated) -> None:
    one.submit(7)
    one.submit(8)
    one.run("run", "running", job="7_0")
    one.job("7_0", "RUNNING")
    one.job("8_0", "FAILED")
    assert one.look()["run"].state == "running"


def test_a_refused_submission_changes_no_state(one: Fabricated) -> None:
    one.submit()
    one.job("7_0", "RUNNING")
    one.run("run", "running")
    token = one.folder.note_intent("slurm", [["aaaaaaaa"]], one.packs)
    one.folder.note_refusal(token, "no")
    assert one.look()["run"].state == "running"


def test_packs_of_one_job_come_one_after_the_other(tmp_path: Path) -> None:
    sweep = Fabricated(tmp_path, {"aaaaaaaa": ["first"], "bbbbbbbb": ["second"]})
    sweep.submit(packs_of_jobs=[["aaaaaaaa", "bbbbbbbb"]])
    sweep.job("7_0", "RUNNING")
    sweep.run("first", "running")
    assert [row.state for row in sweep.look().values()] == ["running", "queued"]
    [alone] = Surveyor(sweep.folder).look(sweep.states, runs=["second"]).rows
    assert alone.state == "queued"
    sweep.run("first", "finished")
    assert [row.state for row in sweep.look().values()] == ["finished", "running"]


class Slow(dict[str, JobState]):
    """States that are asked for while a run comes to its end."""

    def __init__(self, states: dict[str, JobState], sweep: Fabricated) -> None:
        super().__init__(states)
        self.sweep = sweep

    def get(self, job: str, default: Any = None) -> Any:
        self.sweep.run("run", "finished")
        return super().get(job, default)


def test_a_run_that_ends_while_one_looks_is_not_lost(one: Fabricated) -> None:
    one.submit()
    one.run("run", "running")
    one.job("7_0", "COMPLETED")
    [row] = Surveyor(one.folder).look(Slow(one.states, one)).rows
    assert row.state == "finished"


class TestProcesses:
    """Runs of workers on a machine."""

    @pytest.fixture
    def local(self, tmp_path: Path) -> Fabricated:
        sweep = Fabricated(tmp_path, {"aaaaaaaa": ["run"]}, scheduler="local")
        sweep.folder.note_intent("local", [["aaaaaaaa"]], sweep.packs)
        return sweep

    def test_a_pack_waits_until_its_worker_is_started(self, local: Fabricated) -> None:
        assert local.look()["run"].state == "waiting"
        local.folder.note_event("aaaaaaaa", "started", f"pid {os.getpid()}")
        assert local.look()["run"].state == "running"

    def test_a_process_that_is_gone_has_lost_its_run(self, local: Fabricated) -> None:
        local.folder.note_event("aaaaaaaa", "started", DEAD)
        local.run("run", "running", job=DEAD, host=HERE)
        local.folder.note_event("aaaaaaaa", "lost", DEAD, "killed (SIGKILL)")
        row = local.look()["run"]
        assert row.state == "lost"
        assert "killed (SIGKILL)" in str(row.error)

    def test_a_worker_that_was_started_again_goes_on_with_its_run(self, local: Fabricated) -> None:
        local.run("run", "running", job=DEAD, host=HERE)
        local.folder.note_event("aaaaaaaa", "started", f"pid {os.getpid()}")
        assert local.look()["run"].state == "running"

    def test_a_process_of_the_same_number_is_another_one(self, local: Fabricated) -> None:
        yesterday = time.time() - 86400
        local.run("run", "running", job=f"pid {os.getpid()}", host=HERE, time=yesterday)
        assert local.look()["run"].state == "lost"

    def test_nothing_is_guessed_of_another_machine(self, local: Fabricated) -> None:
        local.run("run", "running", job=DEAD, host="elsewhere", time=time.time() - 3600)
        survey = Surveyor(local.folder).look(local.states)
        assert survey.rows[0].state == "running"
        assert "silent for 1 h 0 min" in text(survey)

    def test_one_that_was_stopped_is_interrupted(self, local: Fabricated) -> None:
        local.folder.note_event("aaaaaaaa", "started", DEAD)
        local.run("run", "interrupted", job=DEAD, host=HERE)
        row = local.look()["run"]
        assert (row.state, row.error) == ("interrupted", None)


def test_where_slurm_cannot_be_asked_the_runs_own_words_are_shown(
    one: Fabricated, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.submit()
    one.run("run", "running", time=time.time() - 120)
    monkeypatch.setenv("PATH", str(one.results))
    survey = Surveyor(one.folder).look()
    shown = text(survey)
    assert survey.rows[0].state == "running"
    assert "squeue" in shown
    assert "2 min ago" in shown


# The table.


def text(survey: Any, room: table.Room | None = None) -> str:
    return "\n".join(line.plain for line in table.lines(survey, room))


def table_rows(shown: str) -> list[tuple[str, str]]:
    """What stands for the runs, and the state, in each line of the table."""
    lines = shown.split("\n\n")[1].splitlines()
    found = [
        re.match(r"(\S.*?) +(failed|lost|running|finished|queued)\b", row) for row in lines[1:]
    ]
    return [(match[1], match[2]) for match in found if match]


def name(env: str, M: int, seed: int) -> str:
    return f"lom_{env}_M{M}_beta5_seed{seed}_{zlib.crc32(f'{env}{M}{seed}'.encode()):08x}"


@pytest.fixture
def large(tmp_path: Path) -> Fabricated:
    """300 runs in 60 packs of 5 seeds: 50 finished, 4 running, 1 lost, 5 queued; a run failed."""
    envs = ["hopper-medium-replay", "hopper-medium-expert", "walker2d-medium"]
    packs = {
        f"{i:08x}": [name(envs[i % 3], 1 + i // 3, seed) for seed in range(5)] for i in range(60)
    }
    sweep = Fabricated(tmp_path, packs)
    sweep.submit()
    for i, runs in enumerate(packs.values()):
        job = f"7_{i}"
        if i < 55:
            sweep.job(job, "COMPLETED" if i < 50 else "RUNNING" if i < 54 else "NODE_FAIL")
            for run in runs:
                done = {"step": 1000, "update": 900} if i < 50 else {}
                sweep.run(run, "finished" if i < 50 else "running", job=job, **done)
    sweep.run(packs["00000000"][3], "failed", error=TRACEBACK)
    return sweep


def test_a_file_gets_every_run_whole(large: Fabricated) -> None:
    shown = text(Surveyor(large.folder).look(large.states))
    rows = shown.splitlines()
    for run in (run for runs in large.packs.values() for run in runs):
        assert any(row.startswith(run + " ") for row in rows)
    assert "300 runs: 249 finished, 20 running, 25 queued, 1 failed, 5 lost" in rows[0]
    assert not CONTROL.search(shown)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_table_fits_a_terminal(large: Fabricated, width: int, unicode: bool) -> None:
    survey = Surveyor(large.folder).look(large.states)
    shown = text(survey, table.Room(width, None, unicode))
    rows = table_rows(shown)
    assert len(rows) <= table.MAX_LINES
    assert len(set(rows)) == len(rows)  # no two lines look alike
    lines = shown.split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= width
    assert unicode or shown.isascii()


def test_a_screen_shows_what_happens_before_what_is_done(large: Fabricated) -> None:
    survey = Surveyor(large.folder).look(large.states)
    for width, height in ((80, 24), (100, 30), (120, 60)):
        shown = text(survey, table.Room(width, height, True))
        assert len(shown.splitlines()) <= height
        states = list(dict.fromkeys(state for _, state in table_rows(shown)))
        assert set(states) == {"failed", "lost", "running", "finished", "queued"}
        assert set(states[:3]) == {"failed", "lost", "running"}
        assert "ValueError: it is no number" in shown
        assert "logs " in shown


def test_names_lose_what_all_have_in_common_and_nothing_else(tmp_path: Path) -> None:
    runs = [name("hopper-medium-replay", M, seed) for M in (2, 10) for seed in (0, 1)]
    sweep = Fabricated(tmp_path, {"aaaaaaaa": runs})
    survey = Surveyor(sweep.folder).look(sweep.states)
    assert all(run in text(survey, table.Room(120, None, True)) for run in runs)
    narrow = text(survey, table.Room(40, None, True))
    for run in runs:
        _, _, M, _, seed, id = run.split("_")
        assert f"\n{M}_{seed}_{id} " in narrow


def test_an_error_is_told_once_with_the_command_that_shows_more(
    large: Fabricated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(large.results.parent)
    large.results.rename("results")
    folder = SweepFolder.open("main")
    shown = text(Surveyor(folder).look(large.states), table.Room(100, None, True))
    failed = large.packs["00000000"][3]
    lost = large.packs["00000036"]
    assert "1 failed: ValueError: it is no number" in shown
    assert f"python -m lom_exp.launcher logs {failed[-8:]}\n" in shown
    assert "5 lost: job 7_54 on n1 ended NODE_FAIL: its node failed" in shown
    assert [run in shown for run in lost] == [True, True, True, False, False]
    assert shown.endswith("python -m lom_exp.launcher retry main")


def test_the_time_left_counts_what_has_not_begun(one: Fabricated, tmp_path: Path) -> None:
    sweep = Fabricated(tmp_path / "two", {"aaaaaaaa": ["first"], "bbbbbbbb": ["second"]})
    sweep.submit()
    sweep.job("7_0", "RUNNING")
    sweep.run("first", "running")  # 600 updates of its 1,000 at 2 per second, then as many again
    survey = Surveyor(sweep.folder).look(sweep.states)
    assert table.progress_in_words(survey).startswith("20% of all updates, about 13 min left")


# The commands.


def command(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PATH": str(path)} if path else {})
    words = [sys.executable, "-m", "lom_exp.launcher", *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)


def squeue(sweep: Fabricated) -> Path:
    """A folder for PATH, with a squeue that knows the jobs."""
    lines = "".join(f"{job}|{s.state}|{s.node}|{s.reason}\n" for job, s in sweep.states.items())
    folder = sweep.results / "bin"
    folder.mkdir(exist_ok=True)
    (folder / "jobs").write_text(lines)
    (folder / "squeue").write_text(
        f"#!/bin/sh\nwhile read line; do echo $line; done < {folder}/jobs\n"
    )
    (folder / "squeue").chmod(0o755)
    return folder


def in_terminal(program: Sequence[str], columns: int, lines: int, path: Path) -> str:
    """What a program writes to a terminal of that size, until it ends."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.environ.update(TERM="xterm-256color", PATH=str(path), LC_ALL="C.UTF-8")
        for variable in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
            os.environ.pop(variable, None)
        os.execv(program[0], list(program))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    written, deadline = b"", time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                written += os.read(terminal, 65536)
            except OSError:  # it has ended
                break
    os.waitpid(process, 0)
    os.close(terminal)
    return written.decode().replace("\r\n", "\n")


def test_status_needs_neither_torch_nor_hydra() -> None:
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in {'torch', 'numpy', 'hydra', 'omegaconf', 'submitit', 'mlflow'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import lom_exp.launcher.__main__\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_status_as_json_has_one_object_per_run(large: Fabricated) -> None:
    done = command("status", "main", "--json", "--results", str(large.results), path=squeue(large))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["name"] for row in rows] == [run for runs in large.packs.values() for run in runs]
    failed = rows[3]
    assert (failed["state"], failed["error"], failed["score"]) == ("failed", TRACEBACK, 71.25)
    assert done.returncode == 0


def test_a_folder_that_is_no_sweep_is_named_with_those_that_are(one: Fabricated) -> None:
    done = command("status", "nothing", "--results", str(one.results))
    assert done.returncode == 1
    assert done.stderr.startswith("error: nothing is no sweep")
    assert "\n  main\n" in done.stderr
    with pytest.raises(SweepError, match=r"without a sweep\.json"):
        SweepFolder.open(one.results)
    assert SweepFolder.open(one.folder.path).name == SweepFolder.open("main", one.results).name


def test_status_on_a_terminal(large: Fabricated) -> None:
    program = [sys.executable, "-m", "lom_exp.launcher", "status", "--results", str(large.results)]
    shown = in_terminal(program, 80, 24, squeue(large))
    assert "\x1b[36mrunning\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert not CONTROL.search(plain)
    assert "249 finished" in plain
    assert all(len(line) <= 80 for line in plain.splitlines() if "--results" not in line)


def test_watching_ends_with_the_sweep_and_leaves_its_summary(large: Fabricated) -> None:
    for job, state in large.states.items():
        over = state.state in ("PENDING", "RUNNING")
        large.states[job] = JobState("CANCELLED", "n1", "") if over else state
    program = [sys.executable, "-m", "lom_exp.launcher", "status", "main", "--watch"]
    shown = in_terminal([*program, "--results", str(large.results)], 80, 24, squeue(large))
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is back
    after = shown.rpartition("\x1b[?25h")[2]
    assert "249 finished" in after
    assert "retry main" in after


def test_the_live_table_lets_log_messages_through(large: Fabricated) -> None:
    program = (
        "import logging, sys\n"
        "from lom_exp.launcher.live import LiveTable\n"
        "from lom_exp.launcher.status import Surveyor\n"
        "from lom_exp.sweeps import SweepFolder\n"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s')\n"
        f"surveyor = Surveyor(SweepFolder.open('main', {str(large.results)!r}))\n"
        "with LiveTable() as live:\n"
        "    live.update(surveyor.look())\n"
        "    logging.warning('a message of the log')\n"
        "    live.update(surveyor.look())\n"
        "logging.warning('and after it')\n"
    )
    shown = in_terminal([sys.executable, "-c", program], 80, 24, squeue(large))
    message = shown.index("a message of the log\n")
    # Rich clears the table's lines before the message, and draws them again below it.
    assert shown[:message].endswith(("\x1b[2K", "\r"))
    assert "249 finished" in shown[message:]
    assert shown.rstrip().endswith("and after it")


def test_where_nobody_watches_there_is_a_line_for_what_happens(one: Fabricated) -> None:
    program = (
        "import sys\n"
        "from lom_exp.launcher.live import LiveTable\n"
        "from lom_exp.launcher.status import Surveyor\n"
        "from lom_exp.sweeps import SweepFolder\n"
        f"surveyor = Surveyor(SweepFolder.open('main', {str(one.results)!r}))\n"
        "with LiveTable() as live:\n"
        "    for line in sys.stdin:\n"
        "        live.update(surveyor.look())\n"
        "        print('looked', flush=True)\n"
    )
    one.submit()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PATH": str(squeue(one))}, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout

    def look() -> None:
        squeue(one)
        print("", file=process.stdin, flush=True)
        assert process.stdout
        process.stdout.readline()

    look()
    one.job("7_0", "RUNNING")
    one.run("run", "running")
    look()
    look()
    one.job("7_0", "PENDING")
    one.run("run", "interrupted")
    look()
    one.run("run", "failed", error=TRACEBACK)
    look()
    process.stdin.close()
    assert process.stderr
    told = process.stderr.read().splitlines()
    process.wait()
    assert told[0].startswith("main: 1 run: 1 queued; 0% of all updates")
    assert told[1:] == [
        "run is running on n1",
        "run is queued again, at update 400",
        "run failed: ValueError: it is no number",
        "main: 1 run: 1 failed; 40% of all updates, took 0 s",
    ]


# The logs of a run.


def test_logs_shows_the_error_and_the_end_of_the_output(one: Fabricated, tmp_path: Path) -> None:
    one.submit()
    one.job("7_0", "FAILED")
    log = tmp_path / "job.out"
    log.write_text("".join(f"line {i}\n" for i in range(100)))
    folder = one.run("run", "failed", error=TRACEBACK, log=str(log))
    for run in ("ru", str(folder)):
        done = command("logs", run, "-n", "3", "--results", str(tmp_path), path=squeue(one))
        assert "run: failed" in done.stdout
        assert TRACEBACK in done.stdout
        assert done.stdout.endswith(":\nline 97\nline 98\nline 99\n")


def test_a_job_that_died_before_its_run_began_has_a_log_all_the_same(one: Fabricated) -> None:
    one.submit()
    one.job("7_0", "FAILED")
    (one.folder.path / "jobs").mkdir()
    (one.folder.path / "jobs" / "7_0_0_log.out").write_text("module: command not found\n")
    done = command("logs", "run", "--results", str(one.results), path=squeue(one))
    assert "run: lost" in done.stdout
    assert done.stdout.endswith("module: command not found\n")


def test_a_part_of_several_names_lists_them(tmp_path: Path) -> None:
    sweep = Fabricated(tmp_path, {"aaaaaaaa": ["lom_a_seed0", "lom_a_seed1"]})
    done = command("logs", "lom_a", "--results", str(sweep.results))
    assert done.returncode == 1
    assert "2 runs" in done.stderr
    assert "\n  lom_a_seed0\n  lom_a_seed1\n" in done.stderr
    done = command("logs", "iql", "--results", str(sweep.results))
    assert "has iql in its name" in done.stderr


def test_following_a_log_ends_with_the_run(
    one: Fabricated, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "job.out"
    log.write_text("the first line\n")
    one.run("run", "finished", log=str(log))
    assert command_line.main(["logs", "run", "--follow", "--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("the first line\n")


# The ledger.


def test_a_ledger_survives_a_writer_that_was_killed_within_a_line(one: Fabricated) -> None:
    one.submit(7)
    ledger = one.folder.path / "jobs.jsonl"
    whole = ledger.read_bytes()
    for cut in (1, 10, len(whole.splitlines()[-1])):
        ledger.write_bytes(whole[:-cut])
        [first] = one.folder.ledger().submissions
        assert first.jobs == (["7_0"] if cut == 1 else None)
        token = one.folder.note_intent("slurm", [["aaaaaaaa"]], one.packs)
        one.folder.note_jobs(token, ["8_0"])
        assert one.folder.ledger().submissions[1].jobs == ["8_0"]


def test_a_folder_that_cannot_be_written_is_named(one: Fabricated) -> None:
    (one.folder.path / "jobs.jsonl").mkdir()
    with pytest.raises(SweepError, match=r"cannot write .*jobs\.jsonl"):
        one.folder.note_cancelled(["7_0"])
