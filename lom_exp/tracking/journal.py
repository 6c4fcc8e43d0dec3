"""Reads what runs append to metrics.jsonl and evaluations.jsonl, and remembers what was sent."""

import json
import logging
import re
import uuid
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from lom_exp.files import read_json, write_atomically
from lom_exp.tracking.uris import redact

JOURNALS = ("metrics.jsonl", "evaluations.jsonl")
Position = tuple[int, int]  # (step, 1 if final else 0): lines of a journal come in this order
START: Position = (-1, 0)
log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One line of a journal."""

    position: Position
    time: int  # milliseconds since 1970
    metrics: dict[str, float]


class Journal:
    """A file that grows by lines, and may be rewound and written again.

    A line is known by its position, not by its number or its bytes: a resumed run is rewound to a
    checkpoint and writes lines it had written before, with other times in them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset, self._last = 0, b""  # what was read so far, and the line it ended with
        self._lines: list[Line] = []

    def after(self, position: Position) -> list[Line]:
        """The complete lines that come after a position, which must not decrease between calls."""
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._offset - len(self._last)))
                if file.read(len(self._last)) != self._last:  # rewound since
                    self._offset, self._last, self._lines = 0, b"", []
                    file.seek(0)
                complete = file.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        self._lines += [line for line in map(self._parse, complete) if line is not None]
        if complete:
            self._offset += sum(len(line) + 1 for line in complete)
            self._last = complete[-1] + b"\n"
        self._lines = [line for line in self._lines if line.position > position]
        return self._lines

    def _parse(self, text: bytes) -> Line | None:
        try:
            entry = json.loads(text)
            final = bool(entry.get("final", False))
            if "returns" in entry:
                name = "final" if final else "evaluation"
                quantities = (("score", "scores"), ("return", "returns"), ("length", "lengths"))
                metrics = {
                    f"{name}/{quantity}": fmean(entry[field])
                    for quantity, field in quantities
                    if entry.get(field)
                }
            else:
                metrics = {mlflow_name(name): value for name, value in entry["metrics"].items()}
                if "updates_per_second" in entry:
                    metrics["trainer/updates_per_second"] = entry["updates_per_second"]
            return Line(
                position=(int(entry["step"]), int(final)),
                time=int(1000 * entry["time"]),
                metrics={name: float(value) for name, value in metrics.items()},
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("tracking: a damaged line of %s is passed over (%s)", self._path, error)
            return None


def mlflow_name(name: str) -> str:
    """What MLflow takes as the name of a metric or a tag; a sweep's own may have a plus."""
    return re.sub(r"[^\w./ :-]", "_", name)[:250]


class Cursor:
    """What one MLflow experiment has of a folder, kept in the folder's mlflow.json.

    The file holds no credentials. It has an entry for each experiment the folder was sent to.
    """

    def __init__(self, folder: Path, uri: str, experiment: str) -> None:
        self._path = folder / "mlflow.json"
        self._destination = {"uri": redact(uri).rstrip("/"), "experiment": experiment}
        content = read_json(self._path) or {}
        self.key: str = content.get("key") or uuid.uuid4().hex
        self._others, entry = [], {}
        for other in content.get("destinations", []):
            if self._destination.items() <= other.items():
                entry = other
            else:
                self._others.append(other)
        self.experiment_id: str = entry.get("experiment_id", "")
        self.run_id: str = entry.get("run_id", "")  # empty: not made yet
        self.has_params: bool = entry.get("has_params", False)
        self.state: dict[str, Any] = entry.get("state", {})
        self.sweeps: list[str] = entry.get("sweeps", [])
        self.files: dict[str, str] = entry.get("files", {})
        self.sent = _positions(entry.get("sent", {}))
        self.uncertain = _positions(entry.get("uncertain", {}))  # of sends that were not confirmed

    def save(self) -> None:
        """Write the file; call it under the folder's lock."""
        entry = {name: value for name, value in vars(self).items() if name[0] != "_"}
        key = entry.pop("key")
        content = {"key": key, "destinations": [*self._others, {**self._destination, **entry}]}
        write_atomically(self._path, json.dumps(content, indent=2).encode())


def _positions(entry: dict[str, list[int]]) -> dict[str, Position]:
    return {journal: (step, final) for journal, (step, final) in entry.items()}


def count_left(folder: Path, uri: str, experiment: str) -> int:
    """Lines of a run folder that MLflow is not known to have."""
    sent = Cursor(folder, uri, experiment).sent
    return sum(len(Journal(folder / name).after(sent.get(name, START))) for name in JOURNALS)
