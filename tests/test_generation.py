"""Generated files: made once per set of parameters, by any number of processes, whatever ends them.

The rings are the quickest world to make; nothing here is about rings.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from dataset_files import own_home  # noqa: F401

from lom_exp.code_version import code_version
from lom_exp.datasets import EnvConfig, Preprocessing, identify, load, locate
from lom_exp.datasets.config import GENERATED
from lom_exp.datasets.fingerprint import arrays_sha256
from lom_exp.datasets.generation import WORLDS, file_name, generate
from lom_exp.datasets.rings import PART
from lom_exp.errors import DataError

pytestmark = pytest.mark.usefixtures("own_home")
CONFIG = yaml.safe_load((Path(__file__).parents[1] / "conf" / "env" / "rings.yaml").read_text())


def rings(**fields: Any) -> EnvConfig:
    return EnvConfig(**(CONFIG | {"num_trajectories": 40} | fields))


def parts(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# Which file


def test_a_dataset_is_generated_once_for_each_set_of_parameters(tmp_path):
    first = locate(rings())
    made = first.stat()
    assert first.parent == tmp_path / "cache" / "lom-exp" / "datasets"
    assert locate(rings()) == first
    others = {
        locate(rings(num_trajectories=41)),
        locate(rings(generator_seed=1)),
        locate(rings(rewarded=False)),
    }
    assert len(others | {first}) == 4
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (made.st_ino, made.st_mtime_ns)
    assert names(first.parent) == sorted(path.name for path in others | {first})


def test_every_generated_source_has_its_world():
    assert set(WORLDS) == set(GENERATED)


def test_what_a_world_does_not_read_makes_no_other_file():
    assert file_name(rings(expert_noise=0.5)) == file_name(rings())


def test_names_of_files_that_exist_since_the_first_release_are_kept():
    fields = yaml.safe_load((Path(__file__).parents[1] / "conf/env/fetch-reach.yaml").read_text())
    assert file_name(EnvConfig(**fields)) == "fetch_reach-9b1b7fd6e4c4.hdf5"


def test_generated_data_goes_to_lom_data_dir_where_it_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("LOM_DATA_DIR", str(tmp_path))
    assert locate(rings()).parent == tmp_path


def test_a_file_that_says_it_was_made_by_other_parameters_is_refused():
    mine, other = locate(rings()), locate(rings(generator_seed=1))
    other.replace(mine)
    with pytest.raises(DataError, match=r"generator_seed=1, .* env\.generator_seed=0; move it"):
        locate(rings())


def test_many_that_start_together_generate_once(tmp_path, caplog):
    target = tmp_path / "x.hdf5"
    inodes = set()

    def start() -> None:
        generate(rings(num_trajectories=PART), target, processes=1)
        inodes.add(target.stat().st_ino)

    with caplog.at_level(logging.INFO):
        threads = [threading.Thread(target=start) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(inodes) == 1
    assert "waiting for another process that generates x.hdf5" in caplog.text


# What is in it


def test_the_file_says_how_and_by_which_code_it_was_made(tmp_path):
    generate(rings(generator_seed=5), tmp_path / "x")
    with h5py.File(tmp_path / "x") as file:
        said = dict(file.attrs)
    assert (said["source"], said["environment"], said["provenance"]) == (
        "rings",
        "Rings",
        "generated",
    )
    assert (said["num_trajectories"], said["generator_seed"], said["rewarded"]) == (40, 5, True)
    assert "40 points" in said["recipe"]
    assert said["numpy version"] == np.__version__
    assert (said["git_commit"], said["generator_version"]) == (code_version()[0] or "unknown", 1)


def test_data_is_known_by_its_arrays_and_not_by_the_commit_that_made_it():
    before = identify(rings())
    with h5py.File(locate(rings()), "r+") as file:
        file.attrs["git_commit"] = "another"
    assert identify(rings()) == before
    assert load(rings(), Preprocessing(), "cpu").record["sha256"] == before
    with h5py.File(locate(rings()), "r+") as file:
        file["rewards"][3] = 1 - file["rewards"][3]
    assert identify(rings()) != before


def test_the_arrays_do_not_depend_on_the_number_of_processes(tmp_path):
    env = rings(num_trajectories=2 * PART + 5)
    for processes in (1, 2):
        generate(env, tmp_path / str(processes), processes)
    assert arrays_sha256(tmp_path / "1") == arrays_sha256(tmp_path / "2")


# What ends it


def start(env: EnvConfig, target: Path, processes: int) -> subprocess.Popen[bytes]:
    """Generate in another process; it is a file, since its own children import it."""
    script = target.with_name("generate.py")
    script.write_text(
        "from pathlib import Path\n"
        "from lom_exp.datasets import EnvConfig\n"
        "from lom_exp.datasets.generation import generate\n"
        "if __name__ == '__main__':\n"
        f"    generate({env!r}, Path({str(target)!r}), {processes})\n"
    )
    return subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # Tests that run in the background were themselves started with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def group(leader: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("processes", "end"),
    [
        (1, lambda pid: os.kill(pid, signal.SIGKILL)),
        (2, lambda pid: os.kill(pid, signal.SIGKILL)),
        (2, lambda pid: os.killpg(pid, signal.SIGINT)),  # Ctrl-C, which reaches the children too
    ],
)
def test_a_generator_that_is_killed_goes_on_where_it_was(tmp_path, processes, end):
    env, target = rings(num_trajectories=400 * PART), tmp_path / "x.hdf5"
    running = start(env, target, processes)
    wait_until(lambda: len(list(parts(target).glob("*.npz"))) >= 2)
    end(running.pid)
    running.wait()
    wait_until(lambda: not group(running.pid))  # its children end, too
    finished = sorted(parts(target).glob("*.npz"))
    assert 2 <= len(finished) < 400  # no machine makes them all before it can be stopped
    assert not target.exists()

    # The rest would take a while: a dataset of the finished parts and one more is a test as good.
    numbers = [int(path.stem) // PART for path in finished]
    env = rings(num_trajectories=(max(numbers) + 2) * PART)
    planted = dict(np.load(finished[0]))
    planted["rewards"][7] = 0.25  # no generator would
    np.savez(finished[0], **planted)
    (parts(target) / ".0.npz.ab.tmp").write_bytes(b"half a part")
    (parts(target) / "whole.hdf5").write_bytes(b"half a file")
    generate(env, target, processes=1)
    with h5py.File(target) as file:
        rewards, actions = file["rewards"][:], file["actions"][:]
    assert len(rewards) == env.num_trajectories
    assert np.flatnonzero(rewards == 0.25).tolist() == [numbers[0] * PART + 7]
    generate(env, tmp_path / "uninterrupted", processes=1)
    with h5py.File(tmp_path / "uninterrupted") as file:
        assert np.array_equal(file["actions"][:], actions)
    assert names(tmp_path) == ["generate.py", "uninterrupted", "x.hdf5"]


def test_remains_of_one_that_was_killed_while_it_cleaned_up_are_removed():
    target = locate(rings())
    parts(target).mkdir()
    (parts(target) / "0.npz").write_bytes(b"")
    assert locate(rings()) == target
    assert not parts(target).exists()


def test_a_part_that_was_damaged_is_named(tmp_path):
    parts(tmp_path / "x").mkdir()
    (parts(tmp_path / "x") / "0.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match=r"0\.npz: is damaged .*delete it and start again"):
        generate(rings(), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_disk_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be written .*another folder as LOM_DATA_DIR"):
        locate(rings())


@pytest.mark.parametrize("limit", [2**20, 4 * 2**20])  # of a file: below a part, below the whole
def test_a_disk_that_is_full_loses_no_finished_part(tmp_path, limit):
    resource = pytest.importorskip("resource")
    env, target = rings(num_trajectories=5 * PART // 2), tmp_path / "x"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(DataError, match=r"x: cannot be written .*free the disk"):
            generate(env, target, processes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not target.exists()
    assert len(list(parts(target).glob("*.npz"))) == (0 if limit == 2**20 else 3)
    generate(env, target, processes=1)
    with h5py.File(target) as file:
        assert len(file["rewards"]) == env.num_trajectories
    assert names(tmp_path) == ["x"]


def test_memory_does_not_grow_with_the_size_of_the_dataset(tmp_path):
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from lom_exp.datasets import EnvConfig\n"
        "from lom_exp.datasets.generation import generate\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"generate({rings(num_trajectories=PART)!r}, Path('small'), 1)\n"
        "before = used()\n"
        f"generate({rings(num_trajectories=20 * PART)!r}, Path('large'), 1)\n"
        "print(used() - before)\n"
    )
    grown = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, stdout=subprocess.PIPE
    )
    assert (tmp_path / "large").stat().st_size > 35e6
    assert int(grown.stdout) < 10_000  # kB
