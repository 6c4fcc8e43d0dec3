"""The folders of data outside the project, named by the environment's variables, and locks."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from lom_exp.errors import DataError

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """What can be made again: $XDG_CACHE_HOME/lom-exp, else ~/.cache/lom-exp."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "lom-exp"


def d4rl_folder() -> Path:
    """Where the d4rl package keeps its downloads."""
    return Path.home() / ".d4rl" / "datasets"


def user_folder() -> Path | None:
    """$LOM_DATA_DIR, or None; a folder that is named and is not there is an error."""
    root = os.environ.get("LOM_DATA_DIR")
    if not root:
        return None
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"LOM_DATA_DIR={root} is not a folder; create it or unset the variable")
    return folder


def writable_folder(default: Path) -> Path:
    """Where a new dataset goes: $LOM_DATA_DIR if it may be written, else the default."""
    folder = user_folder()
    return folder if folder is not None and os.access(folder, os.W_OK) else default


@contextlib.contextmanager
def lock(target: Path, verb: str) -> Iterator[None]:
    """Hold a file's lock; who waits for another process that `verb`s the file says so."""
    held = FileLock(f"{target}.lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        _log.info("waiting for another process that %s %s", verb, target.name)
        held.acquire()
    try:
        yield
    finally:
        held.release()
