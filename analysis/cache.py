"""Many run folders, read once: what they held is kept as a Parquet file beside them.

The file has a row per run, with lists of its evaluations and episodes, and what the sizes, times
and inodes of the run's files were. A run whose files are not as they were is read again; a cache
that is damaged, of another version or cannot be written is done without.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import folders
from analysis.folders import AnalysisError, Reading

NAME = ".analysis.parquet"  # in the results folder
_FROM = 100  # runs; fewer are read as fast as the cache
_PROCESSES_FROM = 500  # runs to read; fewer are read sooner than processes start
_CHUNK = 50  # runs that a process reads at a time
_VERSION = hashlib.sha256(Path(folders.__file__).read_bytes()).hexdigest().encode()
_TYPES = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("run", "stamp", "row", "settings", "problems")]
    + [(name, pa.list_(_TYPES[kind])) for name, kind in folders.EVALUATION.items()]
    + [(name, pa.list_(pa.float64())) for name in folders.EPISODE],
    metadata={"version": _VERSION},
)


class Readings(NamedTuple):
    """What run folders held, in their order."""

    rows: list[dict[str, Any]]  # `Reading.row` and `folder`, one per readable run
    settings: list[dict[str, Any]]
    problems: list[list[str]]
    episodes: dict[str, Any]  # columns; of each episode `run`, its place in `rows`, and the rest


def read(run_folders: Sequence[Path]) -> tuple[Readings, dict[str, str]]:
    """What is in run folders of one results folder, and why which of them could not be read."""
    file = run_folders[0].parent.parent / NAME if len(run_folders) >= _FROM else None
    stamps = {path.name: _stamp(path) for path in run_folders}  # before anything is read
    known = _load(file) if file else _SCHEMA.empty_table()
    fresh = _fresh(known, stamps)
    known = known.filter(pa.array(fresh, pa.bool_()))
    names = set(known["run"].to_pylist())
    new, unreadable = _read_new([path for path in run_folders if path.name not in names], stamps)
    table = pa.concat_tables([known, new]).combine_chunks()
    if file and (len(new) or not all(fresh)):
        _save(table, file)
    places = {name: place for place, name in enumerate(table["run"].to_pylist())}
    order = [places[path.name] for path in run_folders if path.name in places]
    table = table.take(pa.array(order, pa.int64()))  # which of no rows would else have no type
    return _expand(table, {path.name: path for path in run_folders}), unreadable


def _stamp(folder: Path) -> str:
    """Changes whenever a file of the run is appended to, replaced or taken away."""
    parts = []
    for name in folders.FILES:
        try:
            stat = os.stat(folder / name)
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ino}")
    return ", ".join(parts)


def _fresh(known: pa.Table, stamps: dict[str, str]) -> list[bool]:
    """Which rows of the cache hold; those of runs that were not asked for are let be."""
    rows = zip(known["run"].to_pylist(), known["stamp"].to_pylist(), strict=True)
    return [stamps.get(run, stamp) == stamp for run, stamp in rows]


def _load(file: Path) -> pa.Table:
    try:
        if (pq.read_schema(file).metadata or {}).get(b"version") == _VERSION:
            return pq.read_table(file, schema=_SCHEMA, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException):
        pass
    return _SCHEMA.empty_table()


def _save(table: pa.Table, file: Path) -> None:
    """Replace the cache in one step, so that no reader ever sees half of it."""
    temporary = file.with_name(f"{NAME}.{os.getpid()}")
    try:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        os.replace(temporary, file)
    except OSError:  # results that may only be read, or a full disk: the next time costs the same
        temporary.unlink(missing_ok=True)


def _read_new(
    run_folders: Sequence[Path], stamps: dict[str, str]
) -> tuple[pa.Table, dict[str, str]]:
    chunks = [run_folders[i : i + _CHUNK] for i in range(0, len(run_folders), _CHUNK)]
    if len(run_folders) < _PROCESSES_FROM:
        read = [_read_chunk(chunk, stamps) for chunk in chunks]
    else:
        # Not forked: the caller may have threads, such as torch's.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(os.sched_getaffinity(0)), 16), context) as pool:
            read = list(pool.map(_read_chunk, chunks, [stamps] * len(chunks)))
    table = pa.concat_tables([_SCHEMA.empty_table(), *(table for table, _ in read)])
    return table, {run: why for _, unreadable in read for run, why in unreadable.items()}


def _read_chunk(
    run_folders: Sequence[Path], stamps: dict[str, str]
) -> tuple[pa.Table, dict[str, str]]:
    readings: dict[str, Reading] = {}
    unreadable = {}
    for folder in run_folders:
        try:
            readings[folder.name] = folders.read(folder)
        except (AnalysisError, OSError) as error:
            unreadable[folder.name] = str(error)
    read = readings.values()
    columns: dict[str, list[Any]] = {
        "run": list(readings),
        "stamp": [stamps[name] for name in readings],
        "row": [json.dumps(one.row) for one in read],
        "settings": [json.dumps(one.settings) for one in read],
        "problems": [json.dumps(one.problems) for one in read],
        **{name: [one.evaluations[name] for one in read] for name in folders.EVALUATION},
        **{name: [one.episodes[name] for one in read] for name in folders.EPISODE},
    }
    return pa.table(columns, _SCHEMA), unreadable


def _expand(table: pa.Table, paths: dict[str, Path]) -> Readings:
    rows, settings, problems = (
        [json.loads(text) for text in table[name].to_pylist()]
        for name in ("row", "settings", "problems")
    )
    for row in rows:
        row["folder"] = str(paths[row["run"]])
    sizes = _flat(table, "size")
    per_run = table["size"].combine_chunks().value_lengths().to_numpy()
    of_evaluation = {
        name: np.repeat(_flat(table, name), sizes) for name in ("update", "step", "final", "time")
    }
    phases = table["phase"].combine_chunks().flatten().dictionary_encode()
    codes = np.repeat(phases.indices.to_numpy(zero_copy_only=False), sizes)
    starts = np.cumsum(sizes) - sizes
    columns = {
        "run": np.repeat(np.repeat(np.arange(len(rows)), per_run), sizes),
        "phase": pd.Categorical.from_codes(codes, phases.dictionary.to_pylist()),
        **of_evaluation,
        "episode": np.arange(sizes.sum()) - np.repeat(starts, sizes),
        **{name: _flat(table, name) for name in folders.EPISODE},
    }
    columns["length"] = columns["length"].astype(np.int64)
    return Readings(rows, settings, problems, columns)


def _flat(table: pa.Table, name: str) -> np.ndarray:
    """All values of a column of lists, one after the other."""
    return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
