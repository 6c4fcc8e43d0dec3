"""Rows of D4RL's layout, checked: the one place where foreign arrays become trusted ones.

Shapes: N rows, O observation size, A action size, T rows with a true end.
A source is a mapping from D4RL's keys to arrays, an open HDF5 file or a dictionary alike. Needed
are observations (N, O), actions (N, A), rewards, terminals and timeouts (N,) or (N, 1);
next_observations (N, O) is used where it is present; every other key is left unread.

A source without `timeouts` is refused. Episode ends could be guessed from the time limit, as D4RL
does for its oldest files, but a guess that is off by a row makes transitions that lead from one
episode into another and nothing would show it; all of D4RL's v2 files have the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from lom_exp.errors import DataError

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

# Stored actions may exceed their bound by rounding, which float32 and a tanh keep below 1e-6; what
# is out by less than this is clipped, what is out by more was not scaled to [-1, 1].
ACTION_TOLERANCE = 1e-5

_NEEDED = ("observations", "actions", "rewards", "terminals", "timeouts")
_BLOCK_ROWS = 65536
# Per array, and kept until the file is closed: HDF5's default of 8 MB would add a quarter to the
# memory of a million rows, for chunks that are read once.
_CHUNK_CACHE_BYTES = 1 << 20
# What h5py raises for a foreign, a truncated or a damaged file, found by damaging one byte by byte.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class Rows(NamedTuple):
    """What was recorded, row after row, episode after episode."""

    observations: Floats  # (N, O)
    actions: Floats  # (N, A), in [-1, 1]
    rewards: Floats  # (N,)
    terminations: Flags  # (N,), a true end
    timeouts: Flags  # (N,), an end by the time limit
    final_observations: Floats | None  # (T, O), what followed each true end, where it was stored


def read_hdf5(path: Path) -> tuple[Rows, dict[str, str]]:
    """Rows of an HDF5 file and those of its text attributes `provenance` and `recipe` it has."""
    try:
        with h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES) as file:
            return read_rows(local_datasets(file, path), str(path)), _attributes(file)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except DAMAGE as error:
        raise DataError(
            f"{path}: cannot be read as HDF5 ({error}); it is truncated, damaged or no HDF5 file: "
            "download it again or give another one as env.path"
        ) from error


def read_rows(source: Mapping[str, Any], culprit: str) -> Rows:
    """Check and convert the arrays of a source; raises DataError that begins with `culprit`.

    Refused are missing keys, wrong ranks and lengths, NaN and infinite values, flags other than 0
    and 1, actions outside [-1, 1] and a source of no rows.
    """
    missing = [name for name in _NEEDED if name not in source]
    if missing:
        raise DataError(
            f"{culprit}: no {' and no '.join(missing)} among its keys ({', '.join(source)}); "
            "D4RL's v2 layout has them, older files must be converted"
        )
    names = [*_NEEDED, *(["next_observations"] if "next_observations" in source else [])]
    for name in names:
        _check_shape(name, source, culprit)

    try:
        actions = _floats("actions", source, culprit)
        _clip_actions(actions, culprit)
        terminations = _flags("terminals", source, culprit)
        return Rows(
            observations=_floats("observations", source, culprit),
            actions=actions,
            rewards=_floats("rewards", source, culprit).reshape(-1),
            terminations=terminations,
            timeouts=_flags("timeouts", source, culprit),
            final_observations=(
                _final_observations(source["next_observations"], terminations, culprit)
                if "next_observations" in source
                else None
            ),
        )
    except MemoryError as error:
        raise DataError(
            f"{culprit}: its {source['observations'].shape[0]} rows do not fit into memory"
        ) from error


def local_datasets(file: h5py.File, path: Path) -> dict[str, h5py.Dataset]:
    """The file's own arrays: nothing that HDF5 would fetch from another file."""
    datasets = {}
    for name in file:
        link = file.get(name, getlink=True)
        item = file[name] if isinstance(link, h5py.HardLink) else None
        if isinstance(item, h5py.Dataset) and not (item.external or item.is_virtual):
            datasets[name] = item
        elif name in (*_NEEDED, "next_observations"):
            raise DataError(
                f"{path}: {name} is a group or a link to other data, not an array of this file; "
                "convert it to D4RL's layout"
            )
    return datasets


def _attributes(file: h5py.File) -> dict[str, str]:
    values = {name: file.attrs.get(name) for name in ("provenance", "recipe")}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def _check_shape(name: str, source: Mapping[str, Any], culprit: str) -> None:
    shape, kind = tuple(source[name].shape), source[name].dtype.kind
    if kind not in "fiub":
        raise DataError(f"{culprit}: {name} holds {source[name].dtype}, not numbers")
    tables = ("observations", "actions", "next_observations")
    expected = "(rows, size)" if name in tables else "(rows,)"
    # D4RL itself takes a column for the arrays of one number per row.
    if not (len(shape) == 2 and shape[1] > 0 if name in tables else shape[1:] in ((), (1,))):
        raise DataError(f"{culprit}: {name} has the shape {shape}; it must be {expected}")
    rows = source["observations"].shape[0]
    if shape[0] != rows:
        raise DataError(
            f"{culprit}: {name} has {shape[0]} rows and observations have {rows}; "
            "all arrays must be of one length"
        )
    if rows == 0:
        raise DataError(f"{culprit}: the dataset is empty; collect or download it again")
    if name == "next_observations" and shape != tuple(source["observations"].shape):
        raise DataError(
            f"{culprit}: next_observations has the shape {shape} and observations have "
            f"{tuple(source['observations'].shape)}; they must be alike"
        )


def _floats(name: str, source: Mapping[str, Any], culprit: str) -> Floats:
    array = source[name]
    values = np.empty(array.shape, np.float32)
    if isinstance(array, h5py.Dataset):
        array.read_direct(values)  # converts in HDF5's small buffer: no second copy
    else:
        with np.errstate(over="ignore"):  # too large for float32: infinite, and refused below
            values[...] = array
    _check_finite(name, values, 0, culprit)
    return values


def _flags(name: str, source: Mapping[str, Any], culprit: str) -> Flags:
    values = np.asarray(source[name][...]).reshape(-1)
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if wrong.size:
        raise DataError(
            f"{culprit}: {name} is {values[wrong[0]]} at row {wrong[0]}; it must be 0 or 1"
        )
    return values.astype(np.bool_)


def _check_finite(name: str, values: Floats, first_row: int, culprit: str) -> None:
    # A float64 sum of float32 values is finite exactly if all of them are, and needs no mask.
    with np.errstate(invalid="ignore"):
        if np.isfinite(np.sum(values, dtype=np.float64)):
            return
    wrong = np.argwhere(~np.isfinite(values))[0]
    raise DataError(
        f"{culprit}: {name} is {values[tuple(wrong)]} at row {first_row + wrong[0]}; "
        "values must be finite: remove that episode or collect it again"
    )


def _clip_actions(actions: Floats, culprit: str) -> None:
    if max(actions.max(), -actions.min()) > 1 + ACTION_TOLERANCE:
        row, column = np.argwhere(np.abs(actions) > 1 + ACTION_TOLERANCE)[0]
        raise DataError(
            f"{culprit}: actions is {actions[row, column]} at row {row}; it must be in [-1, 1]: "
            "rescale the actions to the environment's bounds"
        )
    np.clip(actions, -1, 1, out=actions)


def _final_observations(array: Any, terminations: Flags, culprit: str) -> Floats:
    """Next observations of the rows with a true end, read in blocks: the others are not kept."""
    # Whole chunks, because HDF5 decompresses a chunk for every block that touches it.
    chunks = array.chunks if isinstance(array, h5py.Dataset) else None
    chunk_rows = chunks[0] if chunks else 1
    step = -(-_BLOCK_ROWS // chunk_rows) * chunk_rows
    kept = []
    for start in range(0, len(terminations), step):
        block = np.asarray(array[start : start + step], np.float32)
        _check_finite("next_observations", block, start, culprit)
        kept.append(block[terminations[start : start + step]])
    return np.concatenate(kept)
