"""Downloads from a real HTTP server on loopback that misbehaves as it is told to."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from lom_exp.datasets import EnvConfig, locate
from lom_exp.datasets.download import Patience, download
from lom_exp.errors import DataError

HASTE = Patience(timeout=0.5, attempts=3, pause=0.01)
NAME = "hopper_medium-v2.hdf5"


def hdf5_bytes() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(20_000, 11))
    return buffer.getvalue()


CONTENT = hdf5_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2

Behavior = Callable[["Handler", int], None]  # (handler, first byte asked for)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    server: Server

    def do_GET(self) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        with self.server.lock:
            self.server.requests.append(self.headers.get("Range"))
            behaviors = self.server.behaviors
            behavior = behaviors.pop(0) if len(behaviors) > 1 else behaviors[0]
        behavior(self, int(match[1]) if match else 0)

    def start(self, code: int, first: int, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        if code == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests: list[str | None] = []  # the Range of each request
        self.behaviors: list[Behavior] = [whole]
        self.released = threading.Event()  # lets a stalled connection end

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{NAME}"


def whole(handler: Handler, first: int) -> None:
    handler.start(206 if first else 200, first)
    handler.wfile.write(CONTENT[first:])


def whole_without_range(handler: Handler, first: int) -> None:
    handler.start(200, 0)
    handler.wfile.write(CONTENT)


def truncated(handler: Handler, first: int) -> None:
    handler.start(206 if first else 200, first)
    handler.wfile.write(CONTENT[first:HALF])


def stalled(handler: Handler, first: int) -> None:
    truncated(handler, first)
    handler.wfile.flush()
    handler.server.released.wait(20)


def slow(handler: Handler, first: int) -> None:
    truncated(handler, first)
    handler.wfile.flush()
    time.sleep(0.4)  # long enough for twenty to ask
    handler.wfile.write(CONTENT[HALF:])


def refused(code: int) -> Behavior:
    return lambda handler, first: handler.send_error(code)


def changed_since(handler: Handler, first: int) -> None:
    handler.start(206, first, Last_Modified="Sat, 01 Jan 2112 00:00:00 GMT")
    handler.wfile.write(CONTENT[first:])


def range_not_satisfiable(handler: Handler, first: int) -> None:
    handler.send_response(416)
    handler.send_header("Content-Range", f"bytes */{len(CONTENT)}")
    handler.end_headers()


def page(handler: Handler, first: int) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"<html>please log in to this network</html>")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "datasets" / NAME


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOM_DATA_DIR", raising=False)


def partial(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def leave_half(target: Path) -> None:
    target.parent.mkdir()
    partial(target).write_bytes(CONTENT[:HALF])


def test_a_file_arrives_whole_and_leaves_no_partial_one(server, target):
    download(server.url, target, len(CONTENT), SHA256, HASTE)
    assert target.read_bytes() == CONTENT
    assert not partial(target).exists()
    assert server.requests == [None]


def test_a_file_that_is_there_is_not_downloaded(server, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(server.url, target, len(CONTENT), SHA256, HASTE)
    assert target.read_bytes() == b"mine"
    assert server.requests == []


@pytest.mark.parametrize("known", [True, False])
def test_a_truncated_body_is_resumed_where_it_broke_off(server, target, known):
    server.behaviors = [truncated, whole]
    size, sha256 = (len(CONTENT), SHA256) if known else (None, None)
    download(server.url, target, size, sha256, HASTE)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]


def test_a_server_that_cannot_resume_sends_the_file_anew(server, target):
    server.behaviors = [truncated, whole_without_range]
    download(server.url, target, None, SHA256, HASTE)
    assert target.read_bytes() == CONTENT


def test_a_rest_of_another_version_is_not_appended(server, target):
    leave_half(target)
    partial(target).write_bytes(b"x" * HALF)  # of the version before
    server.behaviors = [changed_since, whole]
    download(server.url, target, None, None, HASTE)
    assert target.read_bytes() == CONTENT
    assert server.requests == [f"bytes={HALF}-", None]


def test_a_whole_partial_file_of_unknown_size_is_recognized(server, target):
    leave_half(target)
    partial(target).write_bytes(CONTENT)
    server.behaviors = [range_not_satisfiable]
    download(server.url, target, None, None, HASTE)
    assert target.read_bytes() == CONTENT


def test_a_whole_partial_file_of_known_size_needs_no_server(target):
    leave_half(target)
    partial(target).write_bytes(CONTENT)
    download("http://127.0.0.1:9/", target, len(CONTENT), SHA256, HASTE)
    assert target.read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_server_s_starts_again(server, target):
    leave_half(target)
    partial(target).write_bytes(CONTENT + b"more")
    server.behaviors = [range_not_satisfiable, whole]
    download(server.url, target, None, None, HASTE)
    assert target.read_bytes() == CONTENT


def test_a_wrong_hash_is_named_and_the_file_removed(server, target):
    with pytest.raises(DataError, match=f"sha256 of what arrived is {SHA256}.*{'0' * 64}"):
        download(server.url, target, len(CONTENT), "0" * 64, HASTE)
    assert not target.exists()
    assert not partial(target).exists()


def test_another_size_than_the_known_one_is_refused_and_what_arrived_is_kept(server, target):
    leave_half(target)
    with pytest.raises(DataError, match=f"offers {len(CONTENT)} bytes and the file has"):
        download(server.url, target, len(CONTENT) + 1, None, HASTE)
    assert partial(target).read_bytes() == CONTENT[:HALF]


def test_a_web_page_in_place_of_the_file_is_refused(server, target):
    server.behaviors = [page]
    with pytest.raises(DataError, match="no whole HDF5 file"):
        download(server.url, target, None, None, HASTE)
    assert not target.exists()
    assert not partial(target).exists()


def test_a_404_is_not_tried_again(server, target):
    server.behaviors = [refused(404)]
    with pytest.raises(DataError, match=rf"{NAME}: HTTP 404 .*check env.url.*by hand to {target}"):
        download(server.url, target, None, None, HASTE)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, target):
    server.behaviors = [refused(503), refused(429), whole]
    download(server.url, target, None, SHA256, HASTE)
    assert target.read_bytes() == CONTENT


def test_a_stalled_connection_is_given_up_and_resumed(server, target):
    server.behaviors = [stalled, whole]
    started = time.monotonic()
    download(server.url, target, len(CONTENT), SHA256, HASTE)
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]
    assert time.monotonic() - started < 10


def test_a_server_that_always_stalls_is_given_up_and_what_arrived_is_kept(server, target):
    server.behaviors = [stalled]
    with pytest.raises(DataError, match=r"timed out.*after 3 attempts.*is kept"):
        download(server.url, target, len(CONTENT), SHA256, HASTE)
    assert len(server.requests) == HASTE.attempts
    assert partial(target).read_bytes() == CONTENT[:HALF]


def test_no_server_at_all_is_an_error_that_names_the_remedy(target):
    with pytest.raises(DataError, match=r"127.0.0.1:9.*no answer.*download it by hand"):
        download("http://127.0.0.1:9/x.hdf5", target, None, None, HASTE)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "x.hdf5"])
def test_only_web_addresses_are_opened(url, target):
    with pytest.raises(DataError, match=r"env.url="):
        download(url, target, None, None, HASTE)


def test_a_folder_that_cannot_be_made_is_an_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written.*LOM_DATA_DIR"):
        download(server.url, tmp_path / "file" / NAME, None, None, HASTE)


SCRIPT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from lom_exp.datasets.download import Patience, download
    url, target, size, sha256, processes = sys.argv[1:]
    children = []
    for _ in range(int(processes)):  # forked, so that torch is imported once
        child = os.fork()
        if child == 0:
            try:
                download(url, Path(target), int(size), sha256, Patience(20, 2, 0.01))
            except BaseException as error:
                sys.stderr.write(repr(error))
                os._exit(1)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(any(codes))
    """
)


def start_processes(server: Server, target: Path, processes: int) -> subprocess.Popen[bytes]:
    arguments = [server.url, str(target), str(len(CONTENT)), SHA256, str(processes)]
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], start_new_session=True)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_twenty_processes_download_once(server, target):
    server.behaviors = [slow]
    assert start_processes(server, target, 20).wait(timeout=60) == 0
    assert target.read_bytes() == CONTENT
    assert server.requests == [None]


def test_twenty_threads_download_once(server, target):
    server.behaviors = [slow]
    errors = []

    def run() -> None:
        try:
            download(server.url, target, len(CONTENT), SHA256, HASTE)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not errors
    assert server.requests == [None]
    assert target.read_bytes() == CONTENT


def test_what_a_killed_process_received_is_resumed_by_the_next(server, target):
    server.behaviors = [stalled, whole]
    process = start_processes(server, target, 2)  # the second waits for the lock of the first
    wait_until(lambda: partial(target).exists() and partial(target).stat().st_size == HALF)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert start_processes(server, target, 1).wait(timeout=60) == 0
    assert target.read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={HALF}-"]


def test_locate_downloads_what_no_folder_has(server, tmp_path):
    env = EnvConfig("hopper", "Hopper-v4", 0, 1, file=NAME, url=server.url, sha256=SHA256)
    assert locate(env) == tmp_path / ".d4rl" / "datasets" / NAME
    assert locate(env).read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_locate_downloads_into_lom_data_dir_where_it_is_set(server, tmp_path, monkeypatch):
    monkeypatch.setenv("LOM_DATA_DIR", str(tmp_path))
    env = EnvConfig("hopper", "Hopper-v4", 0, 1, file=NAME, url=server.url)
    assert locate(env) == tmp_path / NAME
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_progress_is_lines_where_there_is_no_terminal(server, target, caplog, capfd):
    with caplog.at_level("INFO"):
        download(server.url, target, None, None, HASTE)
    assert re.search(rf"{NAME}: 100 % of \d\.\d MB", caplog.text)
    assert capfd.readouterr() == ("", "")
