"""The sha256 of a dataset file or of its arrays, worked out once per version of the file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
from filelock import FileLock

from lom_exp.datasets.folders import cache_folder
from lom_exp.datasets.rows import DAMAGE, local_datasets
from lom_exp.errors import DataError

_BLOCK_ROWS = 65536


def fingerprint(path: Path, digest: Callable[[Path], str] | None = None) -> str:
    """`digest` of a file, sha256 if None; remembered by the file's path, size and time of change.

    The memory is a convenience: one that is missing, damaged or may not be written is passed over.
    """
    digest = digest or file_sha256
    path = path.absolute()
    key = str(path) if digest is file_sha256 else f"{digest.__name__} {path}"
    try:
        status = path.stat()
        version = [status.st_size, status.st_mtime_ns]
        remembered = _read(_memory()).get(key)
        if isinstance(remembered, list) and remembered[:2] == version and len(remembered) == 3:
            return str(remembered[2])
        value = digest(path)
    except DAMAGE as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the path and its rights, and that it is whole"
        ) from error
    _remember(key, [*version, value])
    return value


def file_sha256(path: Path) -> str:
    """sha256 of a file, as hex, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_sha256(path: Path) -> str:
    """sha256 of the arrays in an HDF5 file, as hex: of what it holds and not what it says of it."""
    total = hashlib.sha256()
    with h5py.File(path, "r") as file:
        for name, array in sorted(local_datasets(file, path).items()):
            total.update(f"{name} {array.dtype.str} {array.shape}".encode())
            for start in range(0, array.shape[0], _BLOCK_ROWS):
                total.update(array[start : start + _BLOCK_ROWS].tobytes())
    return total.hexdigest()


def _memory() -> Path:
    return cache_folder() / "fingerprints.json"


def _read(memory: Path) -> dict[str, object]:
    try:
        content = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _remember(path: str, entry: list[object]) -> None:
    memory = _memory()
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{memory}.lock"):  # many runs start at once: none may drop another's entry
            content = {**_read(memory), path: entry}
            with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
                json.dump(content, file)
            os.replace(file.name, memory)
    except OSError:
        return
