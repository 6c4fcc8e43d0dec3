"""Mirroring to MLflow, against a real server, a real sqlite file and servers that misbehave."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from lom_exp.errors import ConfigError
from lom_exp.tracking import Mirror, check_uri, default_uri, log_sweep_artifacts, redact, sync
from lom_exp.tracking.__main__ import main
from lom_exp.tracking.journal import START, Journal

RUNS = ("lom_hopper_M2_beta5.0_seed0_aaaa", "lom_hopper_M2_beta5.0_seed1_bbbb")
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def line(step: int, **quantities: float) -> str:
    """A line of metrics.jsonl as a trainer writes it, at the time it is written."""
    metrics = {"critics/loss": 1.0 / step, "policy/loss": -float(step), **quantities}
    entry = {"phase": "policy", "update": step, "step": step, "time": time.time()}
    return json.dumps({**entry, "updates_per_second": 9.0, "metrics": metrics}) + "\n"


def evaluation(step: int, scores: list[float], final: bool = False) -> str:
    entry = {"phase": "policy", "update": step, "step": step, "time": time.time(), "final": final}
    returns, lengths = [10 * score for score in scores], [7] * len(scores)
    return json.dumps({**entry, "returns": returns, "lengths": lengths, "scores": scores}) + "\n"


def append(folder: Path, text: str, journal: str = "metrics.jsonl") -> None:
    with (folder / journal).open("a") as file:
        file.write(text)


def set_status(folder: Path, status: str, error: str | None = None) -> None:
    content = {"status": status, "phase": "policy", "step": 1, "time": 1e9, "error": error}
    (folder / "status.json").write_text(json.dumps(content))


def begin(results: Path, sweep: str = "sweep", runs: tuple[str, ...] = RUNS) -> list[Path]:
    """The folders of a sweep whose runs have just begun."""
    folders = [results / "runs" / run for run in runs]
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        config = f"algo: {{tau: 0.005, hidden_sizes: [256, 256]}}\nseed: {seed}\n"
        (folder / "config.yaml").write_text(config + "tracking: {uri: 'http://a:b@c'}\n")
        record = {
            "id": folder.name,
            "name": folder.name[:-5],
            "label": "lom",
            "env": "hopper",
            "M": 2,
            "beta": None,
            "seed": seed,
            "sources": {"algo.tau": "default"},
            "dataset": {"provenance": "collected", "rows": 1000, "mean": [0.0, 1.0]},
            "versions": {"torch": "2.13.0"},
            "git_commit": "abc123",
            "git_dirty": False,
        }
        (folder / "record.json").write_text(json.dumps(record))
        set_status(folder, "running")
    declare(results, sweep, runs)
    return folders


def declare(results: Path, sweep: str, runs: tuple[str, ...]) -> Path:
    folder = results / "sweeps" / sweep
    folder.mkdir(parents=True)
    command = "launch.py -m M=2 tracking.uri=http://me:hunter2@host"
    content = {"name": sweep, "command": command, "runs": list(runs), "time": time.time()}
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def port_of(server_socket: socket.socket) -> int:
    return int(server_socket.getsockname()[1])


class Server:
    """`mlflow server` on loopback, that can be killed and started again on its port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = port_of(free)
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("a") as output:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **QUIET},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def is_up(self) -> bool:
        try:
            with urlopen(f"{self.uri}/health", timeout=1.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    eventually(server.is_up, 120.0)
    yield server
    server.kill()


class Reader:
    """What MLflow holds of one experiment."""

    def __init__(self, uri: str, experiment: str) -> None:
        os.environ.update(QUIET)
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient(uri)
        self.experiment = experiment

    def runs(self) -> dict[str, Any]:
        """Runs by name; there may be no two of one name."""
        found = self.client.get_experiment_by_name(self.experiment)
        runs = self.client.search_runs([found.experiment_id]) if found else []
        by_name = {run.info.run_name: run for run in runs}
        assert len(by_name) == len(runs)
        return by_name

    def run(self, folder: Path) -> Any:
        return next(run for run in self.runs().values() if run.data.tags.get("id") == folder.name)

    def steps(self, folder: Path, key: str = "critics/loss") -> list[int]:
        """Steps of a metric in the order in which they were stored."""
        history = self.client.get_metric_history(self.run(folder).info.run_id, key)
        return [entry.step for entry in history]

    def files(self, run: Any) -> list[str]:
        return sorted(file.path for file in self.client.list_artifacts(run.info.run_id))


@pytest.fixture
def reader(server: Server, request: pytest.FixtureRequest) -> Reader:
    return Reader(server.uri, request.node.name)  # each test has an experiment of its own


def test_metrics_arrive_once_and_in_order_under_one_parent(reader, server, tmp_path):
    folders = begin(tmp_path)
    with Mirror(tmp_path, "sweep", RUNS, server.uri, reader.experiment, interval=0.05):
        for step in range(1, 121):
            for folder in folders:
                append(folder, line(step, **{f"policy/q{i}": float(i) for i in range(20)}))
            time.sleep(0.01)
        append(folders[0], evaluation(120, [1.0, 3.0]), "evaluations.jsonl")
        append(folders[0], evaluation(120, [10.0, 20.0], final=True), "evaluations.jsonl")
        append(folders[1], '{"phase": "policy", "step": 121')  # not all of it written yet
    for folder in folders:
        for key in ("critics/loss", "policy/q19", "trainer/updates_per_second"):
            assert reader.steps(folder, key) == list(range(1, 121))
    found = reader.run(folders[0]).data.metrics
    assert (found["evaluation/score"], found["evaluation/return"]) == (2.0, 20.0)
    assert (found["final/score"], found["final/length"]) == (15.0, 7.0)
    assert found["critics/loss"] == 1 / 120
    runs = reader.runs()
    assert len(runs) == 3
    for folder in folders:
        tags = reader.run(folder).data.tags
        assert tags["mlflow.parentRunId"] == runs["sweep"].info.run_id


def test_parameters_and_tags_say_what_a_run_is(reader, server, tmp_path):
    folders = begin(tmp_path)
    many = "\n".join(f"p{i}: {'x' * 20 * i}" for i in range(350))  # over 100, and over 6000 long
    append(folders[1], many + "\nnothing: null\n", "config.yaml")
    assert sync(tmp_path, server.uri, reader.experiment).errors == ()
    params = reader.run(folders[1]).data.params
    assert params["algo.tau"] == "0.005"
    assert params["algo.hidden_sizes"] == "[256, 256]"
    assert (params["seed"], params["nothing"]) == ("1", "null")
    assert params["p7"] == "x" * 140
    assert params["p349"].startswith("x" * 5000)
    assert not any("tracking" in name for name in params)
    tags = reader.run(folders[1]).data.tags
    expected = {"label": "lom", "env": "hopper", "dataset.provenance": "collected"}
    expected |= {"git_commit": "abc123", "versions.torch": "2.13.0", "status": "running"}
    assert expected.items() <= tags.items()
    assert json.loads(tags["sources"]) == {"algo.tau": "default"}
    assert "dataset.mean" not in tags
    assert tags["id"] == folders[1].name
    assert "M2 seed1 lom hopper" in reader.runs()
    assert reader.runs()["sweep"].data.tags["command"].endswith("http://***@host")


def test_states_follow_the_status_files(reader, server, tmp_path):
    runs = tuple(f"run{i}_xxxx" for i in range(4))
    folders = begin(tmp_path, runs=runs)
    for folder, status in zip(
        folders, ("finished", "diverged", "failed", "interrupted"), strict=True
    ):
        set_status(folder, status, error="loss is nan" if status == "failed" else None)
        append(folder, line(1, **{"policy/q": float("nan")}))
    sync(tmp_path, server.uri, reader.experiment)
    states = [reader.run(folder).info.status for folder in folders]
    assert states == ["FINISHED", "FAILED", "FAILED", "KILLED"]
    tags = [reader.run(folder).data.tags for folder in folders]
    assert (tags[1]["status"], tags[2]["error"]) == ("diverged", "loss is nan")
    assert reader.run(folders[0]).info.end_time == 10**12
    assert reader.steps(folders[0], "policy/q") == [1]  # not a number, and kept
    assert reader.runs()["sweep"].info.status == "FAILED"
    set_status(folders[3], "running")  # resumed
    sync(tmp_path, server.uri, reader.experiment)
    assert reader.run(folders[3]).info.status == "RUNNING"
    assert reader.runs()["sweep"].info.status == "RUNNING"


def test_artifacts_are_sent_once_and_again_when_they_change(reader, server, tmp_path):
    folders = begin(tmp_path)
    append(folders[0], evaluation(1, [1.0]), "evaluations.jsonl")
    set_status(folders[0], "finished")
    sweep = tmp_path / "sweeps" / "sweep"
    (sweep / "figure3.png").write_bytes(b"old")
    (sweep / "tables").mkdir()
    (sweep / "tables" / "table.csv").write_text("M,score\n")
    (sweep / "notes.txt").write_text("not a table")
    log_sweep_artifacts(tmp_path, "sweep", server.uri, reader.experiment)
    parent = reader.runs()["sweep"]
    assert reader.files(parent) == ["figure3.png", "tables"]
    run_files = ["config.yaml", "evaluations.jsonl", "record.json", "status.json"]
    assert reader.files(reader.run(folders[0])) == run_files
    assert reader.files(reader.run(folders[1])) == []  # still running
    (sweep / "figure3.png").write_bytes(b"newer")
    sync(tmp_path, server.uri, reader.experiment)
    copy = reader.client.download_artifacts(parent.info.run_id, "figure3.png", str(tmp_path))
    assert Path(copy).read_bytes() == b"newer"


def test_a_rewound_run_sends_no_line_twice(reader, server, tmp_path):
    folder = begin(tmp_path)[0]
    for step in range(1, 9):
        append(folder, line(step))
    append(folder, evaluation(8, [1.0]), "evaluations.jsonl")
    assert sync(tmp_path, server.uri, reader.experiment).sent == 9
    kept = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]
    (folder / "metrics.jsonl").write_text("".join(kept))  # back to the checkpoint after step 3
    (folder / "evaluations.jsonl").write_text("")
    with Mirror(tmp_path, "sweep", RUNS, server.uri, reader.experiment, interval=0.05):
        for step in range(4, 13):
            append(folder, line(step))  # at other times than before
            time.sleep(0.03)
        append(folder, evaluation(8, [1.0]), "evaluations.jsonl")
        append(folder, evaluation(12, [1.0]), "evaluations.jsonl")
    assert reader.steps(folder) == list(range(1, 13))
    assert reader.steps(folder, "evaluation/score") == [8, 12]


def test_a_batch_taken_just_before_a_kill_is_not_sent_again(reader, server, tmp_path):
    folder = begin(tmp_path)[0]
    for step in range(1, 4):
        append(folder, line(step))
    sync(tmp_path, server.uri, reader.experiment)
    before_sending = json.loads((folder / "mlflow.json").read_text())
    append(folder, line(4) + line(5))
    sync(tmp_path, server.uri, reader.experiment)
    # Killed after the server had taken steps 4 and 5 and before mlflow.json could say so; then
    # resumed from step 3, slowly: step 4 is there again when sending goes on, step 5 is not.
    before_sending["destinations"][0]["uncertain"] = {"metrics.jsonl": [5, 0]}
    (folder / "mlflow.json").write_text(json.dumps(before_sending))
    text = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]
    (folder / "metrics.jsonl").write_text("".join(text) + line(4))
    sync(tmp_path, server.uri, reader.experiment)
    append(folder, line(5) + line(6))
    sync(tmp_path, server.uri, reader.experiment)
    assert reader.steps(folder) == [1, 2, 3, 4, 5, 6]


def test_a_run_made_just_before_a_kill_is_found_again(reader, server, tmp_path):
    folders = begin(tmp_path)
    append(folders[0], line(1) + line(2))
    sync(tmp_path, server.uri, reader.experiment)
    for path in (*folders, tmp_path / "sweeps" / "sweep"):
        key = json.loads((path / "mlflow.json").read_text())["key"]
        (path / "mlflow.json").write_text(json.dumps({"key": key}))
    append(folders[0], line(3))
    assert sync(tmp_path, server.uri, reader.experiment).errors == ()
    assert len(reader.runs()) == 3
    assert reader.steps(folders[0]) == [1, 2, 3]


def test_a_run_deleted_in_mlflow_holds_up_no_other(reader, server, tmp_path):
    folders = begin(tmp_path)
    sync(tmp_path, server.uri, reader.experiment)
    reader.client.delete_run(reader.run(folders[0]).info.run_id)
    for folder in folders:
        append(folder, line(1))
    summary = sync(tmp_path, server.uri, reader.experiment)
    assert (summary.sent, summary.left, len(summary.errors)) == (1, 1, 1)
    assert summary.errors[0].startswith(folders[0].name)
    assert reader.steps(folders[1]) == [1]


def test_a_run_in_two_sweeps_is_one_run_with_both_named(reader, server, tmp_path):
    folders = begin(tmp_path)
    declare(tmp_path, "wider_seed0+1", (*RUNS, "not_begun_cccc"))  # as a sweep is named by default
    assert sync(tmp_path, server.uri, reader.experiment).errors == ()
    tags = reader.run(folders[0]).data.tags
    assert (tags["sweep/sweep"], tags["sweep/wider_seed0_1"]) == ("true", "true")
    assert tags["mlflow.parentRunId"] == reader.runs()["sweep"].info.run_id


def test_a_damaged_line_is_passed_over(tmp_path, caplog):
    journal = Journal(tmp_path / "metrics.jsonl")
    assert journal.after(START) == []  # not written yet
    append(tmp_path, line(1) + "\0\0\0\n[]\n" + '{"step": 2}\n' + line(3))
    assert [found.position for found in journal.after(START)] == [(1, 0), (3, 0)]
    assert len(caplog.records) == 3


def test_a_journal_rewritten_while_it_is_followed_is_read_again(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    append(tmp_path, line(1) + line(2) + line(3))
    assert len(journal.after((1, 0))) == 2
    (tmp_path / "metrics.jsonl").write_text(line(1))
    assert journal.after((1, 0)) == []
    append(tmp_path, line(2, long_name=1.0) + line(3) + line(4))  # longer than it was
    assert [found.position[0] for found in journal.after((1, 0))] == [2, 3, 4]


def test_credentials_reach_the_server_and_no_file_or_log(
    reader, server, tmp_path, caplog, capfd, monkeypatch
):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # so that they are unset again after this test
    folders = begin(tmp_path)
    append(folders[0], line(1))
    caplog.set_level(logging.DEBUG, "lom_exp")
    uri = server.uri.replace("://", "://me:s3cret%2F@")
    assert main(["sync", str(tmp_path), "--uri", uri, "--experiment", reader.experiment]) == 0
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "s3cret/"
    assert reader.steps(folders[0]) == [1]
    dead = "http://me:s3cret@127.0.0.1:1"
    with Mirror(tmp_path, "sweep", RUNS, dead, reader.experiment):
        pass
    assert "***@127.0.0.1:1" in caplog.text
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    printed = capfd.readouterr()
    assert "s3cret" not in "".join([caplog.text, printed.out, printed.err, *written])


def test_the_same_again_sends_nothing(reader, server, tmp_path, capsys):
    folders = begin(tmp_path)
    append(folders[0], line(1) + line(2))
    arguments = ["sync", str(tmp_path), "--uri", server.uri, "--experiment", reader.experiment]
    assert main(arguments) == 0
    first = {path: (path / "mlflow.json").read_bytes() for path in folders}
    again = sync(tmp_path, server.uri, reader.experiment)
    assert again == (2, 0, 0, ())
    assert {path: (path / "mlflow.json").read_bytes() for path in folders} == first
    assert reader.steps(folders[0]) == [1, 2]


def test_a_server_that_dies_and_returns_delays_no_run_and_misses_nothing(
    reader, server, tmp_path, caplog
):
    folders = begin(tmp_path)
    delays = []

    def messages() -> list[str]:  # of this server: an earlier test's mirror may yet be speaking
        return [text for text in caplog.messages if server.uri in text]

    def write(first: int, last: int) -> None:
        for step in range(first, last):
            for folder in folders:
                begun = time.perf_counter()
                append(folder, line(step))
                delays.append(time.perf_counter() - begun)
            time.sleep(0.005)

    mirror = Mirror(tmp_path, "sweep", RUNS, server.uri, reader.experiment, interval=0.1)
    with caplog.at_level(logging.INFO, "lom_exp"), mirror:
        write(1, 50)
        eventually(lambda: len(reader.runs()) == 3 and len(reader.steps(folders[1])) == 49)
        server.kill()
        write(50, 300)
        eventually(lambda: len(messages()) == 1)
        server.start()
        write(300, 400)
        eventually(server.is_up, 120.0)
        eventually(lambda: len(messages()) == 2)
        write(400, 450)
        mirror.close(timeout=20.0)
    for folder in folders:
        assert reader.steps(folder) == list(range(1, 450))
    assert "does not take everything" in messages()[0]
    assert "is back" in messages()[1]
    assert len(messages()) == 2
    assert max(delays) < 5.0  # nothing waited for a connection, whose timeout is 10 s


@pytest.fixture
def hanging() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield f"http://127.0.0.1:{port_of(listener)}"
    for thread in threading.enumerate():  # now refused, it gives up before it disturbs other tests
        if thread.name == "mlflow-mirror":
            thread.join(60)


def test_closing_on_a_hanging_server_ends_in_time_and_says_what_is_left(hanging, tmp_path, caplog):
    folders = begin(tmp_path)
    append(folders[0], line(1) + line(2))
    append(folders[1], evaluation(1, [1.0]), "evaluations.jsonl")
    mirror = Mirror(tmp_path, "sweep", RUNS, hanging, "x", interval=0.05)
    with mirror:
        time.sleep(0.2)
        begun = time.perf_counter()
        mirror.close(timeout=0.5)
        assert time.perf_counter() - begun < 5.0  # and not a connection's 10 s
    assert "3 lines of metrics and evaluations are left" in caplog.text
    assert f"python -m lom_exp.tracking sync {tmp_path} --uri '{hanging}'" in caplog.text


class Broken(BaseHTTPRequestHandler):
    """Answers 500 to everything."""

    def do_GET(self) -> None:
        self.send_error(500, "boom")

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def test_a_server_answering_500_is_warned_of_once(tmp_path, caplog):
    begin(tmp_path)
    broken = HTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=broken.serve_forever, daemon=True).start()
    uri = f"http://127.0.0.1:{broken.server_port}"
    mirror = Mirror(tmp_path, "sweep", RUNS, uri, "x", interval=0.05)

    def warnings() -> list[str]:  # of this server: an earlier test's mirror may yet be speaking
        return [text for text in caplog.messages if uri in text]

    with mirror:
        eventually(lambda: len(warnings()) == 1)
        time.sleep(1.0)  # several attempts more
        assert len(warnings()) == 1
        assert "training goes on" in warnings()[0]
    assert len(warnings()) == 2
    assert "500" in sync(tmp_path, uri, "x").errors[0]  # reported by the command, not raised
    broken.shutdown()
    broken.server_close()


WRITER = """
import json, sys, time
from pathlib import Path
from lom_exp.tracking import Mirror, default_uri
results, run, first, last, pause = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:5]), 0.01
folder = results / "runs" / run
mirror = Mirror(results, "sweep", [run], default_uri(results), "two", interval=0.02)
with mirror:
    for step in range(first, last):
        entry = {"step": step, "time": time.time(), "metrics": {"critics/loss": 1.0 / step}}
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\\n")
        time.sleep(pause)
"""


def test_two_processes_on_one_sqlite_file_one_of_them_killed_and_resumed(tmp_path):
    folders = begin(tmp_path)

    def start(run: str, first: int, last: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WRITER, str(tmp_path), run, str(first), str(last)]
        return subprocess.Popen(command, env={**os.environ, **QUIET})

    def sent(folder: Path) -> bool:
        path = folder / "mlflow.json"
        return path.exists() and "metrics.jsonl" in path.read_text()

    other, killed = start(RUNS[1], 1, 500), start(RUNS[0], 1, 100_000)
    eventually(lambda: sent(folders[0]), 120.0)
    killed.kill()
    killed.wait()
    kept = (folders[0] / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = kept[: len(kept) // 2]  # the last checkpoint
    (folders[0] / "metrics.jsonl").write_text("".join(kept))
    last = len(kept) + 200
    resumed = start(RUNS[0], len(kept) + 1, last)
    assert (other.wait(120), resumed.wait(120)) == (0, 0)
    uri = default_uri(tmp_path)
    assert sync(tmp_path, uri, "two") == (2, 0, 0, ())
    reader = Reader(uri, "two")
    assert sorted(reader.steps(folders[0])) == list(range(1, last))
    assert sorted(reader.steps(folders[1])) == list(range(1, 500))
    assert len(reader.runs()) == 3


def test_mlflow_is_not_imported_before_a_mirror_is_entered(tmp_path):
    program = (
        "import sys; from pathlib import Path; from lom_exp import tracking; "
        "tracking.Mirror(Path('.'), 's', [], 'sqlite:///x.db', 'e'); "
        "assert not {'mlflow', 'sqlalchemy', 'requests'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["results/mlflow", "file:///tmp/mlruns", "ftp://a:b@c/d"])
def test_a_uri_mlflow_cannot_use_is_refused_at_once(uri, tmp_path):
    with pytest.raises(ConfigError, match="sqlite:///") as caught:
        Mirror(tmp_path, "sweep", RUNS, uri, "x")
    assert redact(uri) in str(caught.value)
    assert "a:b@" not in str(caught.value)
    check_uri("postgresql+psycopg2://a:b@c/d")


def test_the_command_explains_a_wrong_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["sync", str(tmp_path)])
    assert caught.value.code == 2
    assert "holds no runs/" in capsys.readouterr().err
