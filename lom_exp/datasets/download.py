"""Fetch a file once: resumed where it stopped, checked, and in place only when it is whole.

Many processes may ask for the same file: one of them, holding a lock beside the file, downloads
and the others wait. What has arrived is kept in `<file>.part`, so a process that is killed loses
nothing; the next one asks the server for the rest only (HTTP Range), where the server can.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import mktime_tz, parsedate_tz
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import h5py

from lom_exp.datasets.fingerprint import file_sha256
from lom_exp.datasets.folders import lock
from lom_exp.errors import DataError

_log = logging.getLogger(__name__)
_BLOCK_BYTES = 1 << 20

Report = Callable[[int, int | None], None]  # (bytes on disk, bytes in all or None)


class Patience(NamedTuple):
    """How long a server is waited for."""

    timeout: float = 30.0  # seconds without a byte, to connect and to read alike
    attempts: int = 5
    pause: float = 1.0  # seconds before the second attempt, doubled before each further one


PATIENT = Patience()


class _Interrupted(Exception):
    """The transfer ended early; another attempt may complete it."""


def download(
    url: str, target: Path, size: int | None, sha256: str | None, patience: Patience = PATIENT
) -> None:
    """Bring an HDF5 file to `target`, unless it is there when the lock is free.

    Size in bytes and sha256 are checked where they are known; without them a file counts as whole
    if HDF5 opens it. Raises DataError; the partial file is kept for another try unless its content
    is known to be wrong.
    """
    if not re.match(r"https?://", url):
        raise DataError(f"env.url={url!r} is no web address; give one, or the file as env.path")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock(target, "downloads"):
            if target.is_file():
                return
            partial = target.with_name(target.name + ".part")
            with _progress(target.name) as report:
                _complete(url, partial, size, patience, report)
            _verify(url, partial, size, sha256)
            os.replace(partial, target)
    except OSError as error:  # of the disk: those of the network are dealt with below
        raise DataError(
            f"{target}: cannot be written ({error}); free the disk or give another folder "
            "as LOM_DATA_DIR"
        ) from error
    _log.info("%s is in %s", target.name, target.parent)


def _complete(
    url: str, partial: Path, size: int | None, patience: Patience, report: Report
) -> None:
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.pause * 2 ** (attempt - 1))
        try:
            return _transfer(url, partial, size, patience.timeout, report)
        except _Interrupted as error:
            reason = str(error)
            _log.warning("%s: %s (attempt %d)", url, reason, attempt + 1)
    raise DataError(
        f"{url}: {reason}, after {patience.attempts} attempts; try again later (what has arrived "
        f"is kept), or download it by hand to {partial.with_suffix('')}"
    )


def _transfer(url: str, partial: Path, size: int | None, timeout: float, report: Report) -> None:
    """Add to the partial file what it lacks."""
    start = partial.stat().st_size if partial.exists() else 0
    if size is not None and start >= size:
        return
    headers = {"User-Agent": "lom-exp", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        with error:
            if error.code == 416 and start:  # there is nothing after what we have
                if error.headers.get("Content-Range") == f"bytes */{start}":
                    return
                partial.unlink()
                raise _Interrupted("the server has no rest of the file") from error
            if error.code in (408, 429) or error.code >= 500:
                raise _Interrupted(f"HTTP {error.code} {error.reason}") from error
            raise DataError(
                f"{url}: HTTP {error.code} {error.reason}; check env.url, or download the file "
                f"by hand to {partial.with_suffix('')}"
            ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"no answer ({error})") from error

    with response:
        if response.status == 206:
            _check_resumed(response, partial, start)
        else:
            start = 0  # the server sends the whole file again
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if size is not None and total is not None and total != size:
            raise DataError(
                f"{url}: the server offers {total} bytes and the file has {size}; check env.url "
                "and env.bytes"
            )
        # Unbuffered, so that a killed process leaves all that has arrived.
        with partial.open("ab" if start else "wb", buffering=0) as file:
            while block := _read(response):
                file.write(block)
                start += len(block)
                report(start, total)
            os.fsync(file.fileno())
        if total is not None and start < total:
            raise _Interrupted(f"the connection was closed after {start} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK_BYTES)  # what is there: a time-out later loses none of it
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection was lost ({error})") from error


def _check_resumed(response: http.client.HTTPResponse, partial: Path, start: int) -> None:
    """Start again if the rest on offer does not continue what we have."""
    content_range = response.headers.get("Content-Range", "")
    changed = parsedate_tz(response.headers.get("Last-Modified", ""))
    is_newer = changed is not None and mktime_tz(changed) > partial.stat().st_mtime
    if not content_range.startswith(f"bytes {start}-") or is_newer:
        partial.unlink()
        raise _Interrupted("the file on the server is another one by now")


def _verify(url: str, partial: Path, size: int | None, sha256: str | None) -> None:
    problem = None
    found = partial.stat().st_size
    if size is not None and found != size:
        problem = f"{found} bytes arrived and the file has {size}"
    elif sha256 is not None and (digest := file_sha256(partial)) != sha256:
        problem = f"the sha256 of what arrived is {digest} and the file's is {sha256}"
    else:
        try:
            h5py.File(partial, "r").close()
        except OSError as error:
            problem = f"what arrived is no whole HDF5 file ({error})"
    if problem:
        partial.unlink()
        raise DataError(f"{url}: {problem}; it was removed: try again, or check env.url")


@contextlib.contextmanager
def _progress(name: str) -> Iterator[Report]:
    """A bar on a terminal, a line per tenth of the file elsewhere."""
    if not sys.stderr.isatty():
        tenths = 0

        def log(done: int, total: int | None) -> None:
            nonlocal tenths
            if total and 10 * done // total > tenths:
                tenths = 10 * done // total
                _log.info("%s: %d %% of %.1f MB", name, 10 * tenths, total / 1e6)

        yield log
        return

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
