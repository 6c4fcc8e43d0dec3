"""One case in a process of its own: python -m benchmarks.worker CASE STARTED.

CASE is the JSON of a Case, STARTED the Unix time at which the process was started. Writes `ready`
when everything has been compiled, waits for a line, then times and writes the results: on standard
output, each a line of JSON after MARK. benchmarks.runner starts it.
"""

import json
import sys
import time

from benchmarks.cases import Case, Timing

MARK = "benchmark: "


def main() -> None:
    """Get ready, wait, measure."""
    import_seconds = time.time() - float(sys.argv[2])
    timing = Timing(Case(**json.loads(sys.argv[1])))
    timing.warm_up()
    _write({"ready": True})
    if not sys.stdin.readline():
        return  # whoever would have read the results is gone
    for result in timing.measure():
        _write(result | {"import_seconds": import_seconds})
    _write({"done": True})


def _write(message: dict[str, object]) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(message)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
