"""A dataset in parts: files made by several processes, each whole as soon as it exists.

What a process that is killed leaves are finished parts, which are not made again, and temporary
files, which nobody reads. Memory holds a few parts at a time, whatever the size of the dataset.
"""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from zipfile import BadZipFile

import h5py
import numpy as np

from lom_exp import cores
from lom_exp.datasets.config import EnvConfig
from lom_exp.datasets.progress import progress
from lom_exp.datasets.world import Arrays, World
from lom_exp.errors import DataError
from lom_exp.files import write_atomically

_log = logging.getLogger(__name__)

Attribute = str | int | float | bool


def make_parts(env: EnvConfig, world: World, folder: Path, processes: int | None) -> list[Path]:
    """Make those parts of a dataset that the folder lacks; the paths of all, in order.

    Raises OSError where the folder cannot be written.
    """
    for remains in folder.glob(".*.tmp"):
        remains.unlink(missing_ok=True)
    starts = range(0, env.num_trajectories, world.part)
    tasks = {
        folder / f"{start}.npz": range(start, min(start + world.part, env.num_trajectories))
        for start in starts
    }
    missing = {path: task for path, task in tasks.items() if not path.is_file()}
    done = env.num_trajectories - sum(map(len, missing.values()))
    if done:
        _log.info("%s: %d of %d trajectories are there", env.name, done, env.num_trajectories)
    processes = min(processes or len(cores.available()), len(missing))
    with (
        progress(f"generating {env.name}", done, env.num_trajectories) as report,
        contextlib.closing(_made(env, world, missing, processes)) as made,
    ):
        for path in made:
            done += len(missing[path])
            report(done)
    return list(tasks)


def _made(
    env: EnvConfig, world: World, tasks: Mapping[Path, range], processes: int
) -> Generator[Path]:
    """Make parts and yield their paths, each as soon as it is finished."""
    if processes <= 1:
        for path, trajectories in tasks.items():
            _make(env, world, trajectories, path)
            yield path
        return
    # Spawned, since to fork a process that has threads, as PyTorch's do, may block the child.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_serve_parent)
    try:
        futures = {pool.submit(_make, env, world, tasks[path], path): path for path in tasks}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise DataError(
            f"{env.name}: a process that generates it was killed or could not start, perhaps for "
            "lack of memory; start again, what is finished is kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _make(env: EnvConfig, world: World, trajectories: range, path: Path) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **world.simulate(env, trajectories))
    write_atomically(path, content.getvalue())


def _serve_parent() -> None:
    """In a process of the pool: leave Ctrl-C to the parent, and end where it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def join(paths: list[Path], whole: Path, attributes: Mapping[str, Attribute], title: str) -> None:
    """Write the rows of all parts, in this order, to an HDF5 file that is on the disk on return.

    Raises OSError where it cannot be written and DataError for a part that was damaged.
    """
    rows = sum(len(_read(path)["rewards"]) for path in paths)
    try:
        with progress(title, 0, rows) as report, h5py.File(whole, "w") as file:
            file.attrs.update(attributes)
            start = 0
            for path in paths:
                part = _read(path)
                stop = start + len(part["rewards"])
                for key, values in part.items():
                    if start == 0:
                        file.create_dataset(key, (rows, *values.shape[1:]), values.dtype)
                    file[key][start:stop] = values
                start = stop
                report(start)
    except RuntimeError as error:  # of HDF5, when a full disk keeps it from closing the file
        raise OSError(str(error)) from error
    with whole.open("rb") as written:
        os.fsync(written.fileno())


def _read(path: Path) -> Arrays:
    try:
        with np.load(path) as part:
            return dict(part)
    except (BadZipFile, ValueError, EOFError, KeyError, zlib.error) as error:
        raise DataError(
            f"{path}: is damaged ({error}); delete it and start again, other parts are kept"
        ) from error
