"""Snapshots of the code: what a queued job runs is the code of its submission.

A snapshot is the folder results/code/<hash>/, named by what is in it, so that all sweeps of the
same code share one. It appears whole or not at all, and its files are read-only. One that was
altered nevertheless is left to those who run it; the next sweep gets another beside it.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from lom_exp.code_version import PARTS, RECORD, ROOT, code_version
from lom_exp.errors import LomExpError
from lom_exp.files import read_json, write_atomically

log = logging.getLogger(__name__)
# Other files among the code are strays: notes, data, what an editor or Python itself leaves.
_SUFFIXES = frozenset((".css", ".csv", ".html", ".js", ".json", ".py", ".toml", ".yaml"))


class SnapshotError(LomExpError):
    """Code that cannot be read, or a snapshot of it that cannot be written."""


def take(results: Path) -> Path:
    """The snapshot of the code that is running, made if there is none; an absolute path.

    Raises SnapshotError where the code cannot be read or the results folder not be written.
    """
    try:
        code = _read(ROOT)
    except OSError as error:
        raise SnapshotError(
            f"the code in {ROOT} cannot be read for a snapshot ({error}); jobs run a copy of it, "
            "so make the file readable or move it away"
        ) from error
    code_hash = _hash(code)
    folder = results.absolute() / "code"
    snapshot = folder / code_hash
    others = (folder / f"{code_hash}-{number}" for number in count(2))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not _is_intact(snapshot, code_hash):
            if snapshot.exists():
                log.warning("%s was altered; it is left as it is, and not used again", snapshot)
                snapshot = next(others)
            else:
                _write(snapshot, code, code_hash)
        _record_commit(snapshot, code_hash)
    except OSError as error:
        raise SnapshotError(
            f"cannot write a snapshot of the code to {folder} ({error}); free the disk, or give a "
            "folder you may write to as results="
        ) from error
    return snapshot


def environment(snapshot: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables, to be added to the inherited ones, with which Python imports a snapshot.

    A path alone is not enough: `python -m` would look into the working folder first, which is
    usually the very tree that may have changed since.
    """
    path = [str(snapshot), *filter(None, [inherited.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


def _read(root: Path) -> dict[str, bytes]:
    """The code below a folder: content by relative path, in order."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for part in PARTS
        for path in sorted(_files(root / part))
    }


def _files(part: Path) -> Iterator[Path]:
    if part.is_dir():
        for path in part.rglob("*"):
            if path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield path
    else:
        yield part


def _hash(code: Mapping[str, bytes]) -> str:
    """12 hexadecimal digits of the hash of all paths and contents."""
    digest = hashlib.sha256()
    for path, content in code.items():
        digest.update(f"{path}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


def _is_intact(snapshot: Path, code_hash: str) -> bool:
    try:
        return _hash(_read(snapshot)) == code_hash
    except OSError:
        return False


def _write(snapshot: Path, code: Mapping[str, bytes], code_hash: str) -> None:
    """Build a snapshot in a folder beside it, then rename that, unless another process was first.

    Raises OSError, nothing left behind.
    """
    building = snapshot.with_name(f".{snapshot.name}.{secrets.token_hex(4)}.tmp")
    try:
        for name, content in code.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(path.stat().st_mode & 0o555)
        _record_commit(building, code_hash)
        try:
            building.rename(snapshot)
        except OSError:
            if not snapshot.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _record_commit(snapshot: Path, code_hash: str) -> None:
    """Write which commit the code is. Code that was committed only after it was run is known then.

    Of the same code in several commits the first stands.
    """
    known = read_json(snapshot / RECORD)
    commit, dirty = code_version()
    if known is None or (dirty is False and known.get("git_dirty") is not False):
        record = {"git_commit": commit, "git_dirty": dirty, "hash": code_hash, "time": time.time()}
        write_atomically(snapshot / RECORD, json.dumps(record, indent=2).encode())
