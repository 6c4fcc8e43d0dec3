"""Updates of a phase that may overlap, and on a GPU that as one graph they compute the same."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from tiny import equal, small_config, train, trainer, transitions
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import REGISTRY
from lom_exp.random import Rng
from lom_exp.trainer import sharing
from lom_exp.trainer.graphs import Graph, chains
from lom_exp.trainer.sharing import Access
from lom_exp.types import Transitions

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def accesses(name: str, phase: str) -> list[Access]:
    config = small_config(name)
    rng = Rng.of(torch.tensor(0), phase, torch.tensor(0))
    state = REGISTRY[name].init(5, 3, config, rng)
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    data = transitions()
    return [
        sharing.observe(lambda s, c, u=u: u(s, data, c, rng), state, values)
        for u in REGISTRY[name].phases[phase]
    ]


@pytest.mark.parametrize(
    ("name", "phase", "expected"),
    [
        ("lom", "policy", [0, 1, 2]),  # nobody waits for hyper-Q and policy
        ("td3", "policy", [0, 0]),  # critics read the target policy that the second one moves
        ("dmpo", "policy", [0, 0]),
        ("iql", "policy", [0, 0, 0]),  # the value waits for the critics' targets, which come last
    ],
)
def test_what_depends_on_one_another_is_one_chain(
    name: str, phase: str, expected: list[int]
) -> None:
    assert chains(accesses(name, phase)) == expected


def access(reads: str, writes: str) -> Access:
    return Access(frozenset(), tuple(sorted(set(reads + writes))), tuple(writes), {})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("", "a"), ("a", "b"), ("ab", "c")], [0, 1, 2]),
        ([("", "a"), ("", "a"), ("a", "b")], [0, 0, 2]),  # both write a
        ([("b", "a"), ("", "b"), ("a", "c")], [0, 0, 2]),  # the first reads the last round's b
        ([("c", "a"), ("", "b"), ("", "c")], [0, 0, 0]),  # the one between goes with them
        ([("", "a"), ("c", "b"), ("b", "c"), ("c", "d")], [0, 1, 1, 3]),
    ],
)
def test_chains_by_hand(parts: list[tuple[str, str]], expected: list[int]) -> None:
    assert chains([access(*each) for each in parts]) == expected


def on_gpu(data: Transitions) -> Transitions:
    return Transitions(*(field.cuda() for field in data))


def sweep(**options: Any) -> Any:
    configs = [
        small_config("lom", num_components=m, inverse_temperature=beta)
        for m in (2, 3, 6)
        for beta in (1.0, 5.0)
    ]
    return trainer("lom", [0] * 6, configs, data=on_gpu(transitions()), **options)


@needs_cuda
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("pad", [1.0, 2.0, 9.0])
def test_a_graph_computes_what_its_updates_do_one_by_one(pad: float, compile: bool) -> None:
    updates = Graph.LONGEST + 2 * Graph.SHORTEST + 3
    one_by_one = sweep(pad=pad, compile=compile, capture=False)
    captured = sweep(pad=pad, compile=compile)
    for made in (one_by_one, captured):
        for phase in ("behavior", "policy"):
            made.take_metrics()
            made.advance(phase, 0, 2)
            made.advance(phase, 2, updates)
            made.advance(phase, updates, updates + Graph.LONGEST)
    for one, other in zip(one_by_one.snapshots(), captured.snapshots(), strict=True):
        assert equal(one, other)
        assert one.num_summed == other.num_summed
        assert all(torch.equal(one.sums[key], other.sums[key]) for key in one.sums)


@needs_cuda
@pytest.mark.parametrize("name", REGISTRY)
def test_a_gpu_computes_what_a_cpu_does(name: str, float64: None) -> None:
    captured = trainer(name, [0, 3], data=on_gpu(transitions()))
    for one, other in zip(
        train(captured, name, Graph.SHORTEST + 5),
        train(trainer(name, [0, 3]), name, Graph.SHORTEST + 5),
        strict=True,
    ):
        for x, y in zip(*map(tree_leaves, (one.state, other.state)), strict=True):
            assert torch.allclose(x, y, rtol=1e-6, atol=1e-8)


@needs_cuda
def test_what_is_frozen_stays_while_a_graph_goes_on() -> None:
    made = sweep()
    made.advance("behavior", 0, 2 + Graph.LONGEST)
    frozen, before = made.freeze(), made.snapshots()
    made.advance("behavior", 2 + Graph.LONGEST, 2 + 3 * Graph.LONGEST)
    for one, other in zip(frozen.snapshots(), before, strict=True):
        assert equal(one, other)
    assert not equal(made.snapshots()[0], before[0])
