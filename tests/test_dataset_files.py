"""Files: which are refused and why, where they are looked for, and what is known of them."""

from __future__ import annotations

import json
import threading

import h5py
import numpy as np
import pytest
from dataset_files import NAME, RAW, TWO_TIMED_OUT, env, own_home, recorded, write  # noqa: F401

from lom_exp.datasets import Preprocessing, fingerprint, load, locate
from lom_exp.datasets.rows import read_hdf5
from lom_exp.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.mark.parametrize(
    ("attribute", "is_known", "provenance"),
    [
        ("collected", False, "collected"),
        ("generated", False, "generated"),
        ("d4rl", False, "unknown"),
        ("whatever", False, "unknown"),
        (None, False, "unknown"),
        (None, True, "d4rl"),
        ("collected", True, "d4rl"),
    ],
)
def test_only_a_known_hash_makes_a_file_d4rl_s(tmp_path, attribute, is_known, provenance):
    attributes = {} if attribute is None else {"provenance": attribute}
    path = write(tmp_path / NAME, TWO_TIMED_OUT, **attributes)
    known = fingerprint(path) if is_known else "0" * 64
    dataset = load(env(path=str(path), sha256=known), RAW, "cpu")
    assert dataset.record["provenance"] == provenance


# Bad files: what is done to good arrays, and what the error must say.
BAD = {
    "a missing key": (lambda a: a.pop("rewards"), "no rewards among its keys .*observations"),
    "no time-outs": (lambda a: a.pop("timeouts"), "no timeouts among its keys"),
    "another length": (
        lambda a: a.update(rewards=a["rewards"][:-1]),
        "rewards has 9 rows and observations have 10",
    ),
    "images": (
        lambda a: a.update(observations=np.zeros((10, 4, 4))),
        r"observations has the shape \(10, 4, 4\); it must be \(rows, size\)",
    ),
    "flat observations": (
        lambda a: a.update(observations=np.zeros(10)),
        r"observations has the shape \(10,\)",
    ),
    "observations of no size": (
        lambda a: a.update(observations=np.zeros((10, 0))),
        r"observations has the shape \(10, 0\)",
    ),
    "two rewards a row": (
        lambda a: a.update(rewards=np.zeros((10, 2))),
        r"rewards has the shape \(10, 2\)",
    ),
    "other next observations": (
        lambda a: a.update(next_observations=np.zeros((10, 3))),
        r"next_observations has the shape \(10, 3\) and observations have \(10, 2\)",
    ),
    "text": (
        lambda a: a.update(rewards=np.array([b"one"] * 10)),
        "rewards holds .*S3, not numbers",
    ),
    "not a number": (
        lambda a: a["observations"].__setitem__((7, 1), np.nan),
        "observations is nan at row 7",
    ),
    "an infinite reward": (
        lambda a: a["rewards"].__setitem__(3, -np.inf),
        "rewards is -inf at row 3",
    ),
    "both infinities": (
        lambda a: a["rewards"].__setitem__(slice(3, 5), [np.inf, -np.inf]),
        "rewards is inf at row 3",
    ),
    "a number too large for float32": (
        lambda a: a.update(rewards=np.array([0.0] * 9 + [1e300])),
        "rewards is inf at row 9",
    ),
    "a next observation that is not a number": (
        lambda a: a.update(next_observations=np.full((10, 2), np.nan)),
        "next_observations is nan at row 0",
    ),
    "the same in a later block": (
        lambda a: a.update(
            {name: np.zeros((70_000, *array.shape[1:])) for name, array in a.items()},
            next_observations=np.where(
                np.arange(70_000) == 69_999, np.nan, np.zeros((2, 70_000))
            ).T,
        ),
        "next_observations is nan at row 69999",
    ),
    "a large action": (
        lambda a: a["actions"].__setitem__((4, 0), -1.5),
        r"actions is -1.5 at row 4; it must be in \[-1, 1\]",
    ),
    "a flag of three values": (
        lambda a: a.update(terminals=np.array([0] * 9 + [2])),
        "terminals is 2 at row 9; it must be 0 or 1",
    ),
    "no rows": (
        lambda a: a.update({name: array[:0] for name, array in a.items()}),
        "the dataset is empty",
    ),
    "one row": (
        lambda a: a.update({name: array[:1] for name, array in a.items()}),
        "none of its 1 rows is a usable transition",
    ),
    "time-outs alone": (
        lambda a: a.update(timeouts=np.ones(10, bool)),
        "none of its 10 rows is a usable transition",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_bad_arrays_are_refused(tmp_path, damage, message):
    arrays = {name: array.copy() for name, array in TWO_TIMED_OUT.items()}
    damage(arrays)
    path = write(tmp_path / "bad.hdf5", arrays)
    with pytest.raises(DataError, match=message) as raised:
        load(env(path=str(path)), Preprocessing(), "cpu")
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("kept", ["half", "header", "nothing", "text"])
def test_a_truncated_or_foreign_file_is_refused(tmp_path, kept):
    path = write(tmp_path / "bad.hdf5", TWO_TIMED_OUT)
    content = path.read_bytes()
    lengths = {"half": len(content) // 2, "header": 20, "nothing": 0, "text": 0}
    path.write_bytes(content[: lengths[kept]] + (b"a,b\n1,2\n" if kept == "text" else b""))
    with pytest.raises(DataError, match=r"bad.hdf5: cannot be read as HDF5 .*download it again"):
        load(env(path=str(path)), Preprocessing(), "cpu")


def test_a_damaged_file_is_refused_or_read_but_never_an_accident(tmp_path):
    good = write(tmp_path / "good.hdf5", TWO_TIMED_OUT, provenance="collected").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        content = bytearray(good)
        for position in rng.integers(0, len(content), 8):
            content[position] = rng.integers(256)
        path = tmp_path / "damaged.hdf5"
        path.write_bytes(content)
        try:
            read_hdf5(path)
        except DataError:
            refused += 1
    assert refused > 10


def test_a_group_in_place_of_an_array_is_refused(tmp_path):
    arrays = {**TWO_TIMED_OUT}
    arrays["observations/desired_goal"] = arrays.pop("observations")
    path = write(tmp_path / "group.hdf5", arrays)
    with pytest.raises(DataError, match="observations is a group or a link"):
        load(env(path=str(path)), Preprocessing(), "cpu")


@pytest.mark.parametrize("kind", ["link", "soft link", "virtual", "raw"])
def test_a_file_cannot_have_another_file_read(tmp_path, kind):
    rewards = TWO_TIMED_OUT["rewards"]
    write(tmp_path / "other.hdf5", {"rewards": rewards})
    (tmp_path / "other.raw").write_bytes(rewards.tobytes())
    path = write(tmp_path / "x.hdf5", {**TWO_TIMED_OUT, "elsewhere": rewards})
    with h5py.File(path, "a") as file:
        del file["rewards"]
        if kind == "link":
            file["rewards"] = h5py.ExternalLink("other.hdf5", "/rewards")
        elif kind == "soft link":
            file["rewards"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(rewards.shape, rewards.dtype)
            layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "rewards", rewards.shape)
            file.create_virtual_dataset("rewards", layout)
        else:
            external = [(tmp_path / "other.raw", 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("rewards", rewards.shape, rewards.dtype, external=external)
    with pytest.raises(DataError, match="rewards is a group or a link to other data"):
        load(env(path=str(path)), Preprocessing(), "cpu")


def test_an_explicit_path_that_is_missing_is_an_error_whatever_else_there_is(tmp_path, monkeypatch):
    monkeypatch.setenv("LOM_DATA_DIR", str(tmp_path))
    write(tmp_path / NAME, TWO_TIMED_OUT)
    with pytest.raises(DataError, match=r"env.path=nowhere/x.hdf5 is not a file"):
        locate(env(path="nowhere/x.hdf5"))


def test_files_are_looked_for_in_the_path_then_lom_data_dir_then_d4rl_s_folder(
    tmp_path, monkeypatch
):
    explicit = write(tmp_path / "mine.hdf5", TWO_TIMED_OUT)
    own = write(tmp_path / "own" / NAME, TWO_TIMED_OUT)
    d4rl = write(tmp_path / "home" / ".d4rl" / "datasets" / NAME, TWO_TIMED_OUT)
    assert locate(env()) == d4rl
    monkeypatch.setenv("LOM_DATA_DIR", str(own.parent))
    assert locate(env()) == own
    assert locate(env(path=str(explicit))) == explicit
    own.unlink()
    assert locate(env()) == d4rl


def test_a_file_found_nowhere_without_an_address_names_the_places(tmp_path):
    with pytest.raises(DataError, match=r"is in none of .*\.d4rl/datasets and env.url is empty"):
        locate(env())


def test_a_dataset_of_no_file_is_an_error():
    with pytest.raises(DataError, match="env=hopper-medium names no file"):
        locate(env(file=""))


def test_lom_data_dir_must_be_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LOM_DATA_DIR", str(tmp_path / "typo"))
    with pytest.raises(DataError, match=r"LOM_DATA_DIR=.*typo is not a folder"):
        locate(env())


@pytest.mark.parametrize("file", ["../x.hdf5", "/etc/passwd", "a/b", "a\\b", ".."])
def test_a_file_name_cannot_lead_out_of_its_folder(file):
    with pytest.raises(ConfigError, match="is not a bare file name"):
        env(file=file)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: env(source="fil"), "source='fil' is not one of .*'file'"),
        (lambda: env(expert_return=0.0), "random_return=0.0"),
        (lambda: Preprocessing(observations="noisy"), "observations='noisy' is not one of"),
        (lambda: Preprocessing(next_actions="exact"), "next_actions='exact' is not one of"),
    ],
)
def test_a_wrong_setting_is_refused_as_it_is_made(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_fingerprint_is_the_sha256_and_follows_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert fingerprint(path) == fingerprint(path) == known
    path.write_bytes(b"")
    assert fingerprint(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_file_is_read_for_its_fingerprint_once(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = fingerprint(path)
    monkeypatch.setattr("hashlib.file_digest", lambda *arguments: pytest.fail("read again"))
    assert fingerprint(path) == known


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"x": 3}', "\x00\xff"])
def test_a_damaged_memory_of_fingerprints_is_passed_over(tmp_path, content):
    memory = tmp_path / "cache" / "lom-exp" / "fingerprints.json"
    memory.parent.mkdir(parents=True)
    memory.write_text(content)
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert fingerprint(path).startswith("ba7816bf")
    assert json.loads(memory.read_text())[str(path)][-1].startswith("ba7816bf")


def test_a_memory_that_cannot_be_written_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fingerprint(tmp_path / "file").startswith("e3b0c442")


def test_fingerprints_taken_at_once_are_all_remembered(tmp_path):
    paths = [tmp_path / f"{i}" for i in range(12)]
    for path in paths:
        path.write_bytes(path.name.encode())
    threads = [threading.Thread(target=fingerprint, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory = json.loads((tmp_path / "cache" / "lom-exp" / "fingerprints.json").read_text())
    assert set(memory) == {str(path) for path in paths}


def test_a_missing_file_has_no_fingerprint(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        fingerprint(tmp_path / "x")
