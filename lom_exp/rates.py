"""How fast updates are, as benchmarks/updates.py measured: results/benchmarks/updates.json."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lom_exp.errors import LomExpError
from lom_exp.files import read_json, write_atomically


class RatesError(LomExpError):
    """Measurements that cannot be kept."""


@dataclass(frozen=True)
class Measurement:
    """One phase of an algorithm, trained on random data by a pack of runs; JSON throughout."""

    device: str  # cpu or cuda
    hardware: str  # what the device calls itself
    threads: int  # of torch
    algorithm: str
    phase: str
    runs: int  # R of the pack
    vectorized: bool  # all in one vmap; else one after the other
    settings: dict[str, Any]  # see the function
    gflop: float  # 10^9 operations of the matrix products of one update of one run
    updates_per_second: float  # of all runs together, the median of several repeats
    slowest: float  # of the repeats
    fastest: float
    first_update: float  # seconds; the compiler's time is in it
    versions: dict[str, str]
    git_commit: str | None
    time: float  # Unix time, in seconds

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What was measured: of two measurements under equal conditions the later counts."""
        settings = json.dumps(self.settings, sort_keys=True)
        hardware = (self.device, self.hardware, self.threads)
        return (*hardware, self.algorithm, self.phase, self.runs, self.vectorized, settings)

    def seconds(self, runs: int, updates: int) -> float:
        """How long a pack of another size takes for so many updates of each run."""
        # A vmap of fewer runs is not slower than this one, but it may be no faster either.
        counted = max(runs, self.runs) if self.vectorized else runs
        return counted * updates / self.updates_per_second

    def differences(self, settings: Mapping[str, Any]) -> list[str]:
        """Names of the settings that are others here."""
        keys = sorted(self.settings.keys() | settings.keys())
        return [key for key in keys if self.settings.get(key) != settings.get(key)]


def settings(config: Any, dtype: str, compile: bool) -> dict[str, Any]:
    """What an update's cost hangs on: all of a config but its floats, which cost nothing."""
    found = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.type not in (float, "float")
    }
    plain: dict[str, Any] = json.loads(json.dumps(found | {"dtype": dtype, "compile": compile}))
    return plain


def read(results: Path) -> list[Measurement]:
    """What was measured into a results folder; none where nothing was."""
    entries = (read_json(_path(results)) or {}).get("measurements", [])
    measurements = []
    for entry in entries:
        try:
            measurements.append(Measurement(**entry))
        except TypeError:  # of another version of this file: as if it had not been made
            continue
    return measurements


def record(results: Path, measurements: Iterable[Measurement]) -> None:
    """Add measurements, each in place of an earlier one under the same conditions.

    Raises RatesError where they cannot be written.
    """
    path = _path(results)
    kept = {made.conditions: made for made in [*read(results), *measurements]}
    content = {"measurements": [asdict(made) for made in kept.values()]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, indent=2).encode())
    except OSError as error:
        raise RatesError(
            f"cannot write {path} ({error}); give a results folder you may write to"
        ) from error


def nearest(
    measurements: Sequence[Measurement],
    *,
    device: str,
    algorithm: str,
    phase: str,
    runs: int,
    vectorized: bool,
    settings: Mapping[str, Any],
) -> Measurement | None:
    """The measurement that says most about a pack of runs; None where this was never measured.

    Of those with the most settings in common, the one of the nearest pack size; of these, the last.
    """
    wanted = (device, algorithm, phase, vectorized)
    return min(
        (m for m in measurements if (m.device, m.algorithm, m.phase, m.vectorized) == wanted),
        key=lambda m: (len(m.differences(settings)), abs(math.log(m.runs / runs)), -m.time),
        default=None,
    )


def _path(results: Path) -> Path:
    return results / "benchmarks" / "updates.json"
