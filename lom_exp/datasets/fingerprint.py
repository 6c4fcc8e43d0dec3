"""The sha256 of a dataset file, worked out once per version of the file."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from filelock import FileLock

from lom_exp.datasets.folders import cache_folder
from lom_exp.errors import DataError


def fingerprint(path: Path) -> str:
    """sha256 of a file, as hex; remembered by the file's path, size and time of change.

    The memory is a convenience: one that is missing, damaged or may not be written is passed over.
    """
    path = path.absolute()
    try:
        status = path.stat()
        version = [status.st_size, status.st_mtime_ns]
        remembered = _read(_memory()).get(str(path))
        if isinstance(remembered, list) and remembered[:2] == version and len(remembered) == 3:
            return str(remembered[2])
        digest = file_sha256(path)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); check the path and its rights"
        ) from error
    _remember(str(path), [*version, digest])
    return digest


def file_sha256(path: Path) -> str:
    """sha256 of a file, as hex, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
