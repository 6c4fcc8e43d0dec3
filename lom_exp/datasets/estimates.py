"""M=auto: how many modes the data have, counted once and remembered by the data's fingerprint."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lom_exp import modes
from lom_exp.datasets.folders import cache_folder
from lom_exp.datasets.progress import progress
from lom_exp.datasets.rows import Rows
from lom_exp.datasets.transitions import kept_rows
from lom_exp.errors import DataError
from lom_exp.files import read_json, write_atomically

_log = logging.getLogger(__name__)


def count_modes(name: str, rows: Rows) -> modes.Estimate:
    """Count the modes of the rows that are learned from; raises DataError where these are too few.

    It takes five to fifteen seconds of a core, whatever the size of the dataset.
    """
    kept = kept_rows(rows)
    try:
        with progress(f"counting the modes of {name}", 0, modes.NUM_STATES) as report:
            return modes.estimate(rows.observations[kept], rows.actions[kept], report=report)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def remembered(fingerprint: str, count: Callable[[], modes.Estimate]) -> modes.Estimate:
    """What `count` returns, asked for once per fingerprint of the data and version of the count.

    The memory is a convenience: one that is missing, damaged or may not be written is passed over.
    """
    memory = cache_folder() / "modes" / f"{fingerprint}-v{modes.VERSION}.json"
    found = _read(memory)
    if found is None:
        found = count()
        _write(memory, found)
    return found


def _read(memory: Path) -> modes.Estimate | None:
    content = read_json(memory) or {}
    counts, neighborhood = content.get("counts"), content.get("neighborhood")
    if not isinstance(counts, list) or not isinstance(neighborhood, int):
        return None
    if not counts or not all(isinstance(count, int) and count >= 1 for count in counts):
        return None
    return modes.Estimate(np.array(counts, np.intp), neighborhood)


def _write(memory: Path, found: modes.Estimate) -> None:
    content = {"counts": found.counts.tolist(), "neighborhood": found.neighborhood}
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(content).encode())
    except OSError as error:
        _log.warning("%s cannot be written (%s): the modes will be counted again", memory, error)
