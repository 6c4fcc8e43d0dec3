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
from typing import Any, BinaryIO

import yaml

from lom_exp.files import read_json, remove_remains, write_atomically
from lom_exp.handover import LOG_VARIABLE
from lom_exp.leases import Lease

FINAL = ("finished", "diverged")  # a run in one of these states is not trained again
_JOURNALS = ("metrics.jsonl", "evaluations.jsonl")


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


class RunFolder:
    """One run's folder, written by one process at a time: the one that holds its lease.

    A process that was taken for dead and comes back can do no harm: its lease is asked before a
    file is replaced, and the journals it has open are no longer those in the folder.
    """

    def __init__(self, path: Path, deadline: float = -math.inf) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.lease = Lease(path)
        self._deadline = deadline
        self._journals: dict[str, BinaryIO] = {}

    def __enter__(self) -> "RunFolder":
        """Create the folder if need be and take its lease.

        Raises LeaseHeld where another process has it and still has when time.monotonic() comes to
        the deadline.
        """
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.lease.take(patience=max(0.0, self._deadline - time.monotonic()))
        for name in ("config.yaml", "record.json", "status.json", *_JOURNALS):
            remove_remains(self.path / name)
        remove_remains(self.checkpoints / "*.pt")
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_journals()
        self.lease.release()

    def _close_journals(self) -> None:
        for file in self._journals.values():
            file.close()
        self._journals = {}

    def _replace(self, name: str, content: str) -> None:
        write_atomically(self.path / name, content.encode(), self.lease.check)

    def describe(self, config: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Write what the run is: its resolved config, and where its data and code came from.

        A run that goes on with other code keeps the commits it began with as earlier_commits.
        """
        self._replace("config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
        before = self.record
        commits = [*before.get("earlier_commits", []), before.get("git_commit")]
        known = (None, record.get("git_commit"))
        earlier = [commit for commit in dict.fromkeys(commits) if commit not in known]
        self._replace("record.json", json.dumps({**record, "earlier_commits": earlier}, indent=2))

    @property
    def record(self) -> dict[str, Any]:
        """What `describe` wrote about the run, empty for a new one."""
        return read_json(self.path / "record.json") or {}

    @property
    def position(self) -> dict[str, Any]:
        """The last status written, with all that was said beside it; empty for a new run."""
        return read_json(self.path / "status.json") or {}

    @property
    def status(self) -> str:
        """The last status written, or "new"."""
        return str(self.position.get("status", "new"))

    def write_status(
        self, status: str, position: Mapping[str, Any], error: str | None = None
    ) -> None:
        """Say where the run is: running, finished, diverged, failed (with the error), ...

        Raises LeaseLost where another process has taken the run over.
        """
        owner = self.lease.owner
        content = {
            "status": status,
            **position,
            "time": time.time(),
            "error": error,
            "host": owner.host,
            "job": owner.job or f"pid {owner.pid}",
            "log": os.environ.get(LOG_VARIABLE),
        }
        self._replace("status.json", json.dumps(_without_nan(content), indent=2))

    def append(self, journal: str, entry: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl or evaluations.jsonl, null for what is not finite.

        `rewind` comes first.
        """
        line = json.dumps(_without_nan(entry), allow_nan=False) + "\n"
        self._journals[journal].write(line.encode())

    def rewind(self, step: int) -> None:
        """Drop what comes after a step, its evaluations included, before going on from there."""
        self._close_journals()
        for journal in _JOURNALS:
            path = self.path / journal
            kept = []
            for line in path.read_text().splitlines() if path.exists() else ():
                try:
                    entry = json.loads(line)
                except ValueError:  # a line cut short by a kill; nothing after it was kept either
                    break
                if entry["step"] < step or (entry["step"] == step and "metrics" in entry):
                    kept.append(line + "\n")
            self._replace(journal, "".join(kept))
            # Whoever takes the run over replaces the file, and what this process still writes goes
            # to the one it opened here. Unbuffered: a line is written whole.
            self._journals[journal] = path.open("ab", buffering=0)
        self.lease.check()
