"""What a sweep would do, as text: the answer to --dry-run."""

from collections import Counter
from collections.abc import Iterable, Sequence

from lom_exp.runspec import RunSpec

_GAP = 2  # spaces between columns


def describe(name: str, packs: Sequence[Sequence[RunSpec]]) -> str:
    """Runs by method and dataset, packs and updates, of runs grouped by who trains together."""
    specs = [spec for pack in packs for spec in pack]
    labels = _distinct(spec.label for spec in specs)
    counts = Counter((spec.env.name, spec.label) for spec in specs)
    rows = [["runs", *labels, "all"]]
    for env in _distinct(spec.env.name for spec in specs):
        row = [counts[env, label] for label in labels]
        rows.append([env, *(f"{count or ''}" for count in row), f"{sum(row)}"])
    by_label = [[spec for spec in specs if spec.label == label] for label in labels]
    packs_of = Counter(pack[0].label for pack in packs)  # the runs of a pack share the method
    rows += [
        ["all", *(f"{len(runs)}" for runs in by_label), f"{len(specs)}"],
        ["packs", *(f"{packs_of[label]}" for label in labels), f"{len(packs)}"],
        ["updates", *(_short(_updates(runs)) for runs in [*by_label, specs])],
    ]
    lines = [
        f"{name}: {_count(len(specs), 'run')} in {_count(len(packs), 'pack')}, "
        f"{_updates(specs):,} updates. The runs of a pack train together.",
        "This is a dry run: nothing was trained, downloaded or written.",
        "",
        *_aligned(rows),
        "",
        "updates of a run:",
    ]
    for length in _distinct(_length(spec) for spec in specs):
        of_length = _distinct(spec.label for spec in specs if _length(spec) == length)
        lines.append(f"  {length}: {', '.join(of_length)}")
    return "\n".join(lines)


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


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = " " * _GAP
    return [
        (row[0].ljust(widths[0]) + gap)
        + gap.join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
