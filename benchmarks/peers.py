"""How fast an update is beside the same method's update in other people's code, in one run.

Ours and the peers whose path is given do the same methods on the same random data (Hopper's sizes,
S = 11, A = 3), with the same batch, the same hidden layers and as many critics, each as its own
repository trains it (benchmarks/contestants/*.py say what one timed update of each contains and
where methods differ by design). Everyone has a process of its own and they are timed in turns, in
an order that is reversed from round to round, so that what else the machine does hits all alike.
A ratio is taken within a round; the table has the median over rounds and the smallest and largest.

On a CPU the time is that of the process's threads on the CPU, on a GPU that of the wall, from idle
to idle; the JSON file has both. With several runs at once it is divided by them. `ours` is eager,
`ours_compiled` is compile=True. All compute float32 products as such unless --precision high.

    python benchmarks/peers.py --lom PATH --corl PATH --jax-corl PATH --d3rlpy
    python benchmarks/peers.py --device cuda ...                    the same on a GPU
    python benchmarks/peers.py td3_bc lom --corl PATH --profile     two of them, and where it goes

PATH is a checkout, or a folder with its files and a file COMMIT. A peer that cannot be imported is
named with the reason, and the others are timed. docs/performance/peers.md says how to get them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from contestants import SIZES, Case

ROOT = Path(__file__).resolve().parent.parent
OURS = ("ours", "ours_compiled")
# How many times as long as ours a peer's update should take: (CPU, GPU). None: not aimed at.
TARGETS = {"lom": (5, 20), "corl": (1, 10), "jax_corl": (1, 2), "d3rlpy": (1, None)}


class Failed(Exception):
    """A contestant cannot take part; says why."""


class Worker:
    """A contestant's process for one case."""

    def __init__(self, name: str, path: str | None, case: Case) -> None:
        self.name, self._case = name, case
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "contestants", name, *([path] if path else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self.made: dict[str, Any] = {}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer to a request; Failed with what it says when it cannot."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended, and the empty answer says so
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            lines = self._log.read().strip().splitlines() or ["it said nothing"]
            raise Failed(f"its process ended: {lines[-1]}")
        answer: dict[str, Any] = json.loads(line)
        for reason in ("failed", "unsuitable"):
            if reason in answer:
                raise Failed(answer[reason])
        return answer

    def start(self) -> None:
        """Make the case ready and do its first updates, which may compile, jax even twice."""
        self.made = self.ask({"case": self._case._asdict()})
        self.made["first"] = [self.ask({"updates": 1})["wall"] for _ in range(2)]

    def complain(self, reason: Failed) -> None:
        """Say why it takes no part in its case."""
        case = self._case
        sys.stderr.write(f"{case.method}, {case.phase}, {case.runs} runs: {self.name}: {reason}\n")

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


class Round(NamedTuple):
    """One contestant's turn."""

    updates: int
    wall: float  # seconds
    cpu: float


def play(workers: Sequence[Worker], rounds: int, seconds: float) -> dict[str, list[Round]]:
    """Every contestant's turns of about so many seconds, in turns; whoever fails is left out."""
    playing, counts = list(workers), {}
    played: dict[str, list[Round]] = {}

    def turn(worker: Worker, updates: int) -> Round | None:
        try:
            return Round(**worker.ask({"updates": updates}))
        except Failed as reason:
            worker.complain(reason)
            playing.remove(worker)
            played.pop(worker.name, None)
            return None

    for worker in workers:
        updates = 2
        while (trial := turn(worker, updates)) and trial.wall < seconds / 4:
            updates *= 4  # a short trial says little
        if trial:
            counts[worker.name] = max(1, round(seconds * trial.updates / trial.wall))
            played[worker.name] = []
    for i in range(rounds):
        for worker in playing[:] if i % 2 == 0 else playing[::-1]:
            if taken := turn(worker, counts[worker.name]):
                played[worker.name].append(taken)
    return played


def milliseconds(rounds: Iterable[Round], case: Case) -> list[float]:
    """Of an update of one run, in each round."""
    return [
        1e3 * (turn.cpu if case.device == "cpu" else turn.wall) / turn.updates / case.runs
        for turn in rounds
    ]


def ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    """How many times as long one took as the other, round by round."""
    return [a / b for a, b in zip(slower, faster, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the smallest and the largest."""
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def target(name: str, case: Case) -> float | None:
    """How many times as long as ours the peer should take. On a GPU for one run only."""
    on_cpu, on_gpu = TARGETS.get(name, (None, None))
    if case.device == "cpu":
        return on_cpu
    return on_gpu if case.runs == 1 else None


def verdict(name: str, case: Case, found: Sequence[list[float]]) -> str:
    """Whether the better of our modes meets the target, by its median."""
    wanted = target(name, case)
    if wanted is None or not found:
        return ""
    best = max(statistics.median(values) for values in found)
    return f"{wanted}: " + ("met" if best >= wanted else f"missed, {best:.2f}")


HEADER = (
    "| method | phase | runs | contestant | ms an update of one run | ours is faster by "
    "| ours compiled is faster by | target |\n|---|---|---|---|---|---|---|---|\n"
)


def table(case: Case, played: dict[str, list[Round]]) -> str:
    """The rows of a case."""
    times = {name: milliseconds(rounds, case) for name, rounds in played.items()}
    lines = []
    for name, values in times.items():
        against = {ours: ratios(values, times[ours]) for ours in OURS if ours in times}
        compared = {} if name in OURS else against
        cells = (
            case.method,
            case.phase,
            str(case.runs),
            name,
            spread(values, 3),
            *(spread(compared[ours]) if ours in compared else "" for ours in OURS),
            verdict(name, case, list(compared.values())),
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


def profile_table(name: str, case: Case, found: dict[str, Any], rows: int = 8) -> str:
    """Where the time within operators goes, those with most of it first.

    The profiler slows the calls themselves: read the shares, and the milliseconds as a hint.
    """
    operators = found["operators"]
    key = "device" if any(row["device"] for row in operators) else "cpu"
    total = sum(row[key] for row in operators)
    calls = sum(row["calls"] for row in operators)
    lines = [
        f"\n{name}, {case.method}, {case.phase}, {case.runs} runs: {calls:.0f} calls of operators "
        f"an update, {total:.2f} ms in them (profiled, {key}).\n\n"
        f"| operator | calls | {key} ms | share |\n|---|---|---|---|\n"
    ]
    for row in sorted(operators, key=lambda row: -row[key])[:rows]:
        lines.append(
            f"| {row['operator'][:60]} | {row['calls']:.1f} | {row[key]:.3f} "
            f"| {row[key] / total:.0%} |\n"
        )
    return "".join(lines)


def commit(path: str) -> str:
    """The commit of a checkout, or what a file COMMIT in the folder says, or unknown."""
    command = ["git", "-C", path, "rev-parse", "--show-prefix", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout.startswith("\n"):  # at its root, not below another's
        return done.stdout.strip()
    file = Path(path, "COMMIT")
    return file.read_text().strip() if file.is_file() else "unknown"


def hardware(device: str) -> str:
    """What the device calls itself."""
    if device == "cuda":
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()  # not every system has it
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """What is compared: every method that some peer has, for one run and for several."""
    for runs in arguments.runs:
        for (method, phase), sizes in SIZES.items():
            if method in arguments.methods and (runs == 1 or method != "lom"):
                yield Case(
                    method,
                    phase,
                    runs,
                    sizes.batch_size,
                    sizes.hidden_sizes,
                    arguments.device,
                    arguments.threads,
                    arguments.precision,
                )


def started(
    names: dict[str, str | None], chunk: Sequence[Case], jobs: int
) -> list[tuple[Case, list[Worker]]]:
    """The contestants of each case that could be made ready; says of the others why not."""

    def start(pair: tuple[Case, str]) -> Worker | None:
        case, name = pair
        worker = Worker(name, names[name], case)
        try:
            worker.start()
        except Failed as reason:
            worker.complain(reason)
            worker.stop()
            return None
        return worker

    pairs = [(case, name) for case in chunk for name in names if suits(name, case)]
    with ThreadPoolExecutor(jobs) as pool:
        workers = list(pool.map(start, pairs))
    return [
        (
            case,
            [w for (of, _), w in zip(pairs, workers, strict=True) if w is not None and of == case],
        )
        for case in chunk
    ]


def suits(name: str, case: Case) -> bool:
    """Whether the contestant has such a case at all."""
    if name in OURS:
        return True
    if name == "lom" or case.method == "lom":
        return name == case.method
    return name == "jax_corl" or case.runs == 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    methods = list(dict.fromkeys(method for method, _ in SIZES))
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(methods)}")
    parser.add_argument("--lom", metavar="PATH", help="the LOM authors' repository")
    parser.add_argument("--corl", metavar="PATH")
    parser.add_argument("--jax-corl", metavar="PATH")
    parser.add_argument("--d3rlpy", action="store_true", help="which is installed")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU (default: 1)")
    parser.add_argument("--precision", choices=("highest", "high"), default="highest")
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4], help="(default: 1 4)")
    parser.add_argument("--no-compile", action="store_true", help="leave ours_compiled out")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn (default: 1)")
    parser.add_argument("--jobs", type=int, help="made ready at a time (default: 2, on a GPU 8)")
    parser.add_argument(
        "--profile", action="store_true", help="and show where time goes, jax's aside"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every number")
    parsed = parser.parse_args(arguments)
    unknown = set(parsed.methods) - set(methods)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: none of {', '.join(methods)}")
    parsed.methods = parsed.methods or methods
    parsed.jobs = parsed.jobs or (8 if parsed.device == "cuda" else 2)
    return parsed


def contestants(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Who takes part, and the path of each."""
    paths = {name: getattr(arguments, name) for name in ("lom", "corl", "jax_corl")}
    names: dict[str, str | None] = {"ours": None}
    if not arguments.no_compile:
        names["ours_compiled"] = None
    names |= {name: str(Path(path).resolve()) for name, path in paths.items() if path}
    if arguments.d3rlpy:
        names["d3rlpy"] = None
        if arguments.device == "cuda":
            names["d3rlpy_compiled"] = None
    return names


def compare(
    arguments: argparse.Namespace, names: dict[str, str | None]
) -> Iterator[dict[str, Any]]:
    """Each case as it is timed, printed and then given as what is kept of it.

    On a GPU all cases are made ready before the first is timed, which compiles them side by side;
    on a CPU, whose cores the timing needs, one after the other.
    """
    everything = list(cases(arguments))
    size = len(everything) if arguments.device == "cuda" else 1
    for chunk in (everything[i : i + size] for i in range(0, len(everything), size)):
        ready = started(names, chunk, arguments.jobs)
        try:
            for case, workers in ready:
                played = play(workers, arguments.rounds, arguments.seconds)
                sys.stdout.write(table(case, played))
                sys.stdout.flush()
                profiles = {}
                for worker in workers:
                    if arguments.profile and worker.name in played and worker.name != "jax_corl":
                        profiles[worker.name] = worker.ask({"profile": 20})
                yield {
                    "case": case._asdict(),
                    "made": {worker.name: worker.made for worker in workers},
                    "rounds": {n: [r._asdict() for r in rounds] for n, rounds in played.items()},
                    "profiles": profiles,
                }
        finally:
            for _, workers in ready:
                for worker in workers:
                    worker.stop()


def main() -> None:
    """Compare, print and keep as it goes."""
    arguments = parse()
    names = contestants(arguments)
    kept: dict[str, Any] = {
        "command": " ".join(sys.argv),
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "hardware": hardware(arguments.device),
        "commits": {n: commit(path) for n, path in names.items() if path},
        "our_commit": commit(str(ROOT)),
        "cases": [],
    }
    sys.stdout.write(f"{kept['hardware']}; {arguments.threads} threads\n\n{HEADER}")
    for made in compare(arguments, names):
        kept["cases"].append(made)
        if arguments.json:
            arguments.json.write_text(json.dumps(kept, indent=1))
    for made in kept["cases"]:
        for name, found in made["profiles"].items():
            sys.stdout.write(profile_table(name, Case(**made["case"]), found))


if __name__ == "__main__":
    main()
