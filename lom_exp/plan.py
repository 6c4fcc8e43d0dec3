"""What a sweep would do, as text: the answer to --dry-run."""

import shlex
import textwrap
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch

from lom_exp import rates
from lom_exp.rates import Measurement
from lom_exp.runspec import ExecutionConfig, RunSpec
from lom_exp.trainer import padded_sizes

_WIDTH = 100
_GAP = 2  # spaces between columns
_SECONDS_PER_HOUR = 3600

Packs = Sequence[Sequence[RunSpec]]


class _PackTime(NamedTuple):
    """How long a pack will be trained; its evaluations come on top."""

    runs: Counter[str | None]  # by label; None stands for any
    algorithm: str
    hours: float | None  # None where the algorithm was never measured
    measured: list[Measurement]  # one a phase
    differences: list[str]  # settings that were others when it was measured


def describe(
    name: str,
    specs: Sequence[RunSpec],
    packs: Packs,
    *,
    jobs: int,
    absent: Collection[str],
    pack_size: int | None,
    execution: ExecutionConfig,
    device: torch.device,
) -> str:
    """Runs by method and dataset, what of them is finished, packs, jobs, updates and hours.

    `specs` are all runs, each once; `packs` those still to be trained, by who trains together on a
    device like the given one. `absent` names the datasets whose files are not here, so that whether
    their runs are finished cannot be known: a run's folder is named by its data's fingerprint.
    """
    left = [spec for pack in packs for spec in pack]
    measurements = rates.read(Path(execution.results))
    timed = [_pack_time(pack, measurements, execution, device) for pack in packs]
    unit = "GPU-hours" if device.type == "cuda" else "job-hours"
    limit = "" if pack_size is None else f", at most {pack_size} of them"
    paragraphs = [
        [
            *_wrapped(f"{name}: {_summary(specs, left, len(packs), jobs)}"),
            f"The runs of a pack train together{limit}.",
            "This is a dry run: nothing was submitted, trained, downloaded or written.",
        ],
        _aligned(_table(specs, left, timed, unit)),
        _absence(specs, absent),
        ["updates of a run:", *_lengths(specs)],
        [*_hours(timed, unit), *_unmeasured(timed, unit, execution, device)],
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def _summary(
    specs: Sequence[RunSpec], left: Sequence[RunSpec], num_packs: int, num_jobs: int
) -> str:
    all_runs = _count(len(specs), "run")
    if not left:
        return f"{all_runs}, all of them finished; there is nothing left to be trained."
    finished = len(specs) - len(left)
    of_all = f"{all_runs}, {finished:,} of them finished. Left: " if finished else ""
    return of_all + (
        f"{_count(len(left), 'run')} in {_count(num_packs, 'pack')}, {_count(num_jobs, 'job')}, "
        f"{_updates(left):,} updates."
    )


def _table(
    specs: Sequence[RunSpec], left: Sequence[RunSpec], timed: Sequence[_PackTime], unit: str
) -> list[list[str]]:
    """A row for each dataset, a column for each method; then what is left of each method."""
    labels = [*_distinct(spec.label for spec in specs), None]
    num_all, num_left = _by_env_and_label(specs), _by_env_and_label(left)

    def runs(env: str | None, label: str | None) -> str:
        count = num_all[env, label]
        if len(left) == len(specs) or not count:
            return f"{count or ''}"
        return f"{count - num_left[env, label]}/{count}"

    def updates(label: str | None) -> str:
        return _short(_updates([spec for spec in left if label in (spec.label, None)]))

    def packs(label: str | None) -> str:
        return str(sum(label in pack.runs for pack in timed))

    def hours(label: str | None) -> str:
        found = [pack for pack in timed if label in pack.runs]
        # Methods that share a pack share its hours.
        known = [p.hours * p.runs[label] / p.runs[None] for p in found if p.hours is not None]
        if len(known) == len(found):
            return _short_hours(sum(known))
        return f"{_short_hours(sum(known))}+" if known and label is None else "?"

    heading = "runs" if len(left) == len(specs) else "finished/runs"
    return [
        [heading, *(label or "all" for label in labels)],
        *(
            [env or "all", *(runs(env, label) for label in labels)]
            for env in [*_distinct(spec.env.name for spec in specs), None]
        ),
        ["packs", *map(packs, labels)],
        ["updates", *map(updates, labels)],
        [unit, *map(hours, labels)],
    ]


def _by_env_and_label(specs: Iterable[RunSpec]) -> Counter[tuple[str | None, str | None]]:
    """Numbers of runs; None stands for any."""
    return Counter(
        key for spec in specs for key in product((spec.env.name, None), (spec.label, None))
    )


def _absence(specs: Sequence[RunSpec], absent: Collection[str]) -> list[str]:
    envs = _distinct(spec.env.name for spec in specs)
    here = [env for env in envs if env not in absent]
    if len(here) == len(envs):
        return []
    names = ", ".join(env for env in envs if env in absent)
    return _wrapped(
        f"Not on this machine yet: {names if here or len(envs) == 1 else 'all datasets'}. Without "
        "its data it is not known whether a run is finished; these runs count as left."
    )


def _lengths(specs: Sequence[RunSpec]) -> list[str]:
    labels: dict[str, dict[str, None]] = {}
    for spec in specs:
        labels.setdefault(_length(spec), {})[spec.label] = None
    return [
        line
        for length, of_length in labels.items()
        for line in _wrapped(f"  {length}: {', '.join(of_length)}")
    ]


def _pack_time(
    pack: Sequence[RunSpec],
    measurements: Sequence[Measurement],
    execution: ExecutionConfig,
    device: torch.device,
) -> _PackTime:
    # The others differ in nothing that costs time but their sizes, which are padded to these.
    spec = max(pack, key=lambda spec: padded_sizes(spec.config))
    settings = rates.settings(spec.config, spec.dtype, execution.compiles(device))
    runs = Counter(label for spec in pack for label in (spec.label, None))
    seconds, measured = 0.0, []
    for phase, updates in spec.updates.items():
        found = rates.nearest(
            measurements,
            device=device.type,
            algorithm=spec.algorithm,
            phase=phase,
            runs=len(pack),
            vectorized=execution.vectorizes(device),
            settings=settings,
        )
        if found is None:
            return _PackTime(runs, spec.algorithm, None, [], [])
        seconds += found.seconds(len(pack), updates)
        measured.append(found)
    differences = _distinct(key for found in measured for key in found.differences(settings))
    return _PackTime(runs, spec.algorithm, seconds / _SECONDS_PER_HOUR, measured, differences)


def _hours(timed: Sequence[_PackTime], unit: str) -> list[str]:
    """The hours, and what they are worth: what was measured, on what and when."""
    hours = [pack.hours for pack in timed if pack.hours is not None]
    if not hours:
        return []
    lines = _wrapped(
        f"{unit}: about {_short_hours(sum(hours))}, the longest pack {_short_hours(max(hours))}. "
        "Evaluations come on top."
    )
    sources: dict[str, dict[str, None]] = {}  # by what was measured, the labels in order
    differences: dict[str, dict[str, None]] = {}  # by label
    for pack in timed:
        labels = [label for label in pack.runs if label is not None]
        for measurement in pack.measured:
            sources.setdefault(_source(measurement), {}).update(dict.fromkeys(labels))
        for label in labels:
            differences.setdefault(label, {}).update(dict.fromkeys(pack.differences))
    for source, of_source in sources.items():
        lines += _wrapped(f"  measured {source}: {', '.join(of_source)}")
    rough = [f"{label} ({', '.join(keys)})" for label, keys in differences.items() if keys]
    if rough:
        lines += _wrapped(f"  rough, as measured at other settings: {', '.join(rough)}")
    return lines


def _source(measurement: Measurement) -> str:
    date = time.strftime("%Y-%m-%d", time.localtime(measurement.time))
    threads = f", {_count(measurement.threads, 'thread')}" if measurement.device == "cpu" else ""
    return f"on {date} on {measurement.hardware}{threads}, torch {measurement.versions['torch']}"


def _unmeasured(
    timed: Sequence[_PackTime], unit: str, execution: ExecutionConfig, device: torch.device
) -> list[str]:
    """Which algorithms have no benchmark, and the command that makes it."""
    algorithms = _distinct(pack.algorithm for pack in timed if pack.hours is None)
    if not algorithms:
        return []
    command = ["python", "benchmarks/updates.py", *algorithms, "--device", device.type]
    command += ["--compile"] if execution.compiles(device) else []
    if Path(execution.results).absolute() != Path("results").absolute():
        command += ["--results", execution.results]
    kind = "GPU" if device.type == "cuda" else "CPU"
    return [
        *_wrapped(
            f"{unit} are not known for {', '.join(algorithms)}: not measured on a {kind} yet. To "
            "measure there:"
        ),
        f"  {shlex.join(command)}",
    ]


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _updates(specs: Sequence[RunSpec]) -> int:
    return sum(sum(spec.updates.values()) for spec in specs)


def _length(spec: RunSpec) -> str:
    return " + ".join(f"{count:,} {phase}" for phase, count in spec.updates.items())


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _short(count: int) -> str:
    """950, 30k or 1.2M."""
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:,.4g}{unit}"
    return str(count)


def _short_hours(hours: float) -> str:
    """Two digits or whole hours; no estimate is better."""
    if 0 < hours < 0.01:
        return "<0.01"
    return f"{hours:.2g}" if hours < 10 else f"{hours:,.0f}"


def _wrapped(text: str) -> list[str]:
    """Lines of the text; those after the first are indented below it."""
    indent = " " * (len(text) - len(text.lstrip()) + 2)
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " * _GAP
    return [
        (row[0].ljust(widths[0]) + gap)
        + gap.join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
