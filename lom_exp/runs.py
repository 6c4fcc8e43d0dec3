"""The folder of one run: everything known about it, in files anyone can read.

config.yaml, record.json, metrics.jsonl, evaluations.jsonl, status.json and checkpoints/. The
folder is named by what the run is, so the same run always finds its folder again.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lom_exp.errors import LomExpError

FINAL = ("finished", "diverged")  # a run in one of these states is not trained again
_JOURNALS = ("metrics.jsonl", "evaluations.jsonl")


class RunFolderError(LomExpError):
    """A run folder that cannot be used."""


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step that survives a crash: it is the old one or the new, whole.

    Raises OSError, the old file untouched, where the folder is read-only or the disk full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where there is no file or no valid JSON in it."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


class RunFolder:
    """One run's folder, written to by one process at a time: the one inside its with statement."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock = FileLock(path / ".lock", timeout=0)

    def __enter__(self) -> "RunFolder":
        """Create the folder if need be and take its lock, which a killed process loses.

        Raises RunFolderError where another process holds it.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise RunFolderError(
                f"{self.path} is being trained by another process; wait for it or end it"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def describe(self, config: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write what the run is: its resolved config, and where its data and code came from.

        A run that goes on with other code keeps the commits it began with as earlier_commits.
        """
        text = yaml.safe_dump(dict(config), sort_keys=False)
        write_atomically(self.path / "config.yaml", text.encode())
        before = read_json(self.path / "record.json") or {}
        commits = [*before.get("earlier_commits", []), before.get("git_commit")]
        known = (None, record.get("git_commit"))
        earlier = [commit for commit in dict.fromkeys(commits) if commit not in known]
        content = {**record, "earlier_commits": earlier}
        write_atomically(self.path / "record.json", json.dumps(content, indent=2).encode())

    @property
    def status(self) -> str:
        """The last status written, or "new"."""
        found = read_json(self.path / "status.json")
        return str(found["status"]) if found and "status" in found else "new"

    def write_status(
        self, status: str, position: Mapping[str, Any], error: str | None = None
    ) -> None:
        """Say where the run is: running, finished, diverged, failed (with the error), ..."""
        content = {"status": status, **position, "time": time.time(), "error": error}
        write_atomically(self.path / "status.json", json.dumps(content, indent=2).encode())

    def append(self, journal: str, entry: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl or evaluations.jsonl, null for what is not finite."""
        line = json.dumps(_without_nan(entry), allow_nan=False)
        with (self.path / journal).open("a") as file:
            file.write(line + "\n")

    def rewind(self, step: int) -> None:
        """Drop what was logged after a step, and final evaluations, before going on from there."""
        for journal in _JOURNALS:
            path = self.path / journal
            if not path.exists():
                continue
            kept = []
            for line in path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # a line cut short by a kill; nothing after it was kept either
                    break
                if entry["step"] <= step and not entry.get("final", False):
                    kept.append(line + "\n")
            write_atomically(path, "".join(kept).encode())
