"""Runs of different M in one vmap: what is beyond a run's own components contributes nothing."""

from typing import Any

import pytest
import torch
from tiny import OBSERVATION_DIM, close, equal, small_config, train, trainer
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.checkpoints import Snapshot
from lom_exp.trainer import Trainer, padding

pytestmark = pytest.mark.usefixtures("float64")
SIZES = (3, 1, 6)
SWITCHES: list[tuple[str, dict[str, Any]]] = [
    ("mdn", {}),
    ("mdn", {"evaluation_action": "best_component"}),
    ("lom", {"min_component_weight": 0.0}),
    ("lom", {"component_loss": "legacy_component_mean", "hyper_critic_samples": 2}),
    ("lom", {"hyper_critic": "one_hot", "baseline": "hyper_critic"}),
    ("lom", {"squash_means": False, "policy_loss": "log_likelihood"}),
    *(
        ("lom", {"component_choice": choice, "baseline": baseline})
        for choice, baseline in (
            ("critic", "policy"),
            ("heaviest", "component_mean"),
            ("first", "hyper_critic"),
            ("random", "policy"),
            ("all", "component_mean"),
            ("all", "hyper_critic"),
        )
    ),
]
every_switch = pytest.mark.parametrize(
    ("name", "changes"), SWITCHES, ids=[f"{name}-{changes}" for name, changes in SWITCHES]
)


def padded(name: str, changes: dict[str, Any], **options: Any) -> Trainer:
    configs = [small_config(name, num_components=m, **changes) for m in SIZES]
    return trainer(name, [5, 6, 7], configs, **{"pad": 9.0, **options})


def alone(name: str, changes: dict[str, Any], i: int) -> Trainer:
    config = small_config(name, num_components=SIZES[i], **changes)
    return trainer(name, [5 + i], [config], vectorize=False)


@every_switch
def test_a_padded_run_is_the_unpadded_one(name: str, changes: dict[str, Any]) -> None:
    """In its parameters, metrics and actions, and so in its random numbers."""
    pack = padded(name, changes)
    snapshots, metrics = train(pack, name), pack.take_metrics()
    observations = torch.randn(3, 8, OBSERVATION_DIM)
    actions = pack.act(observations, 4)
    for i in range(3):
        single = alone(name, changes, i)
        assert close(snapshots[i], train(single, name)[0])
        [own] = single.take_metrics()
        assert metrics[i] == pytest.approx(own, rel=1e-9, abs=1e-9)
        assert torch.allclose(single.act(observations[i : i + 1], 4)[0], actions[i], atol=1e-9)


@every_switch
def test_what_is_beyond_stays_exactly_zero(name: str, changes: dict[str, Any]) -> None:
    pack = padded(name, changes)
    train(pack, name)
    [stacks] = pack.freeze()._stacks
    for i, snapshot in enumerate(pack.snapshots()):
        places = tree_map(lambda leaf, i=i: leaf[i], list(stacks.values()))
        refilled = padding.padded(snapshot.state, padding.shapes(places))
        assert all(map(torch.equal, tree_leaves(places), tree_leaves(refilled)))
        assert sum(map(torch.numel, tree_leaves(places))) > sum(
            map(torch.numel, tree_leaves(snapshot.state))
        ) or SIZES[i] == max(SIZES)


def test_a_checkpoint_knows_nothing_of_its_pack() -> None:
    whole = train(padded("lom", {}), "lom")
    pack = padded("lom", {})
    for phase in ("behavior", "policy"):
        pack.take_metrics()
        pack.advance(phase, 0, 4 if phase == "behavior" else 2)
    halfway: list[Snapshot] = pack.snapshots()
    for i in range(3):
        single = alone("lom", {}, i)
        shapes = [leaf.shape for leaf in tree_leaves(single.templates[0])]
        assert [leaf.shape for leaf in tree_leaves(halfway[i].state)] == shapes
        single.restore([halfway[i]])
        single.advance("policy", 2, 4)
        assert close(single.snapshots()[0], whole[i])
    pack = padded("lom", {}, pad=1.0)
    pack.restore(halfway)
    pack.advance("policy", 2, 4)
    assert all(close(one, other) for one, other in zip(pack.snapshots(), whole, strict=True))


def test_without_vectorizing_nothing_is_padded() -> None:
    together = train(padded("lom", {}, vectorize=False), "lom")
    for i in range(3):
        assert equal(together[i], train(alone("lom", {}, i), "lom")[0])


def test_room_is_left_at_the_end_of_each_axis() -> None:
    trees = [{"a": torch.ones(2, 1)}, {"a": torch.ones(1, 3)}]
    room = padding.largest([padding.shapes(tree) for tree in trees])
    assert room == [(2, 3)]
    assert padding.padded(trees[0], room)["a"].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert padding.padded(trees[1], room)["a"].tolist() == [[1, 1, 1], [0, 0, 0]]
    for tree in trees:
        assert torch.equal(
            padding.cut(padding.padded(tree, room), padding.shapes(tree))["a"], tree["a"]
        )


@pytest.mark.parametrize(
    ("pad", "groups"),
    [
        (1.0, [[3], [1, 4], [0, 5], [2]]),
        (2.0, [[1, 3, 4], [0, 2, 5]]),
        (3.0, [[0, 1, 3, 4, 5], [2]]),
        (9.0, [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_no_run_is_padded_to_more_than_so_many_times_its_size(
    pad: float, groups: list[list[int]]
) -> None:
    configs = [small_config("mdn", num_components=m) for m in (2, 5, 1, 6, 5, 2)]
    assert trainer("mdn", range(6), configs, pad=pad)._stacks.groups == groups
