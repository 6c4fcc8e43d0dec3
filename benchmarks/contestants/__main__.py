"""One contestant in a process: reads requests, a JSON object a line, and answers each with one.

    {"case": {...}}     make the method ready; one case follows another
    {"updates": n}      do n updates and wait for them; seconds by the wall and of this process's
                        threads on the CPU
    {"profile": n}      do n updates under torch's profiler

An answer {"failed": why} leaves the process as it was. What peers print goes to stderr.
"""

import gc
import importlib
import json
import os
import platform
import sys
import time
from typing import Any

from contestants import Case, Contestant, Unsuitable

PREPARE = {  # a contestant's name: its module and function
    "ours": ("ours", "prepare"),
    "ours_compiled": ("ours", "prepare_compiled"),
    "lom": ("authors_lom", "prepare"),
    "corl": ("corl", "prepare"),
    "jax_corl": ("jax_corl", "prepare"),
    "d3rlpy": ("d3rlpy_package", "prepare"),
    "d3rlpy_compiled": ("d3rlpy_package", "prepare_compiled"),
}


def prepare(name: str, path: str | None, case: Case) -> Contestant:
    """Import the contestant, which may fail in any way that its packages can, and build it."""
    module, function = PREPARE[name]
    return getattr(importlib.import_module(f"contestants.{module}"), function)(case, path)


def timed(contestant: Contestant, updates: int) -> dict[str, float]:
    """Seconds that so many updates took, from idle to idle."""
    contestant.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    done = contestant.advance(updates)
    contestant.synchronize()
    return {
        "updates": done,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }


def profile(contestant: Contestant, updates: int) -> dict[str, Any]:
    """Milliseconds of an update in each of torch's operators itself, by the wall."""
    from torch.profiler import profile as torch_profile  # the peers in jax do without torch

    with torch_profile() as profiler:
        done = contestant.advance(updates)
        contestant.synchronize()
    rows = [
        {
            "operator": event.key,
            "calls": event.count / done,
            "cpu": event.self_cpu_time_total / 1e3 / done,
            "device": event.self_device_time_total / 1e3 / done,
        }
        for event in profiler.key_averages()
    ]
    return {"operators": rows}


def answer(request: dict[str, Any], contestant: Contestant | None) -> dict[str, Any]:
    """To a request other than a case."""
    assert contestant is not None, "no case has been made ready"
    if "updates" in request:
        return timed(contestant, request["updates"])
    return profile(contestant, request["profile"])


def main() -> None:
    """Serve until stdin ends."""
    name, path = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    sys.argv = sys.argv[:1]  # peers read it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    contestant: Contestant | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "case" in request:
                contestant = None
                gc.collect()
                contestant = prepare(name, path, Case(**request["case"]))
                found = {"python": platform.python_version(), **contestant.versions}
                made = {"parameters": contestant.parameters, "versions": found}
            else:
                made = answer(request, contestant)
        except Unsuitable as reason:
            made = {"unsuitable": str(reason)}
        except Exception as error:  # whatever a peer raises: the others are timed all the same
            made = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(made) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
