"""What a benchmark ran on, and the memory of its process."""

import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch


def hardware(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()  # not every system has it
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Of Python and what the core needs."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def describe(device: torch.device) -> dict[str, Any]:
    """Hardware and versions; the memory is the device's, in bytes. JSON."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    return {
        "device": device.type,
        "hardware": hardware(device),
        "memory_bytes": memory,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "clock": "CPU time" if clock(device) is time.process_time else "wall time",
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions(),
    }


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds of the wall; for one thread of a CPU, which others may want, those it has worked."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given: else only the giving is timed."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Memory:
    """The most memory held since this was made, in bytes, beyond what was held then.

    On a GPU: of tensors (`peak`), and of what torch has taken from the device for them, captured
    graphs included (`reserved`). On a CPU: of the whole process, its compiler included; `peak` only
    says something if nothing was freed before, so in a process of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._held = torch.cuda.memory_allocated(device)
            self._reserved = torch.cuda.memory_reserved(device)
        else:
            self._held = resident_bytes()

    def peak(self) -> int:
        """Bytes, since the beginning."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._held
        return max(0, process_peak_bytes() - self._held)

    def reserved(self) -> int | None:
        """Bytes, on a GPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_reserved(self._device) - self._reserved
        return None


def process_peak_bytes() -> int:
    """The most memory this process has held so far."""
    # Not getrusage's where there is another: a child begins with its parent's peak.
    peak = _kib("VmHWM")
    if peak is None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024
    return peak * 1024


def resident_bytes() -> int:
    """What the process holds now; where the system does not say, the most it has held."""
    held = _kib("VmRSS")
    return process_peak_bytes() if held is None else held * 1024


def _kib(name: str) -> int | None:
    """A line of /proc/self/status, in KiB; None where there is no such file or line."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(values[0]) if values else None
