"""Runs that have parts of their training in common do these once and end as if each were alone."""

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from tiny import close, equal, small_config, train, trainer, transitions
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import REGISTRY, lom
from lom_exp.random import Rng
from lom_exp.trainer import Trainer, sharing, static_part
from lom_exp.trainer.sharing import Access

pytestmark = pytest.mark.usefixtures("float64")


def observed(update: Any, name: str = "lom", **changes: Any) -> Access:
    config = small_config(name, **changes)
    rng = Rng.of(torch.tensor(0), "policy", torch.tensor(0))
    state = REGISTRY[name].init(5, 3, config, rng)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return sharing.observe(lambda s, c: update(s, transitions(), c, rng), state, values)


def test_what_an_update_of_lom_reads_and_writes_is_seen() -> None:
    behavior, critics = observed(lom.update_behavior), observed(lom.update_critics)
    hyper_critic, policy = observed(lom.update_hyper_critic), observed(lom.update_policy)
    assert behavior.reads == ("behavior", "components")
    assert behavior.writes == ("behavior",)
    assert critics.reads == critics.writes == ("critics", "target_critics")
    assert critics.fields == {
        *("critic_batch_size", "critic_learning_rate", "discount", "tau"),
        *("smoothing_std", "smoothing_clip", "target_update_period"),
    }
    assert hyper_critic.reads == ("behavior", "critics", "hyper_critic", "components")
    assert hyper_critic.writes == ("hyper_critic",)
    assert "inverse_temperature" not in behavior.fields | critics.fields | hyper_critic.fields
    assert "inverse_temperature" in policy.fields
    assert policy.writes == ("policy",)
    # Of the critics others compute with the parameters alone, and not with Adam's moments.
    state = lom.init(5, 3, small_config("lom"), Rng.of(torch.tensor(0), "init", torch.tensor(0)))
    own = [len(tree_leaves(part)) for part in state.critics]
    assert list(policy.leaves["critics"]) == [True] * own[0] + [False] * sum(own[1:])
    assert all(critics.leaves["critics"])
    assert not any(critics.leaves["behavior"])


def test_what_is_read_under_a_switch_is_seen_only_there() -> None:
    assert "hyper_critic" in observed(lom.update_policy).reads
    uses_q = observed(lom.update_policy, component_choice="critic", baseline="component_mean")
    assert "min_component_weight" in uses_q.fields
    mean_only = observed(lom.update_policy, policy_loss="squared_error", action_noise_std=0.0)
    assert mean_only.fields == observed(lom.update_policy).fields  # a float steers no branch


def test_an_update_that_takes_something_apart_is_taken_to_use_all_of_it() -> None:
    def state_as_a_whole(state: Any, data: Any, config: Any, rng: Any) -> Any:
        _behavior, *_others = state
        return state, {}

    def config_as_a_whole(state: Any, data: Any, config: Any, rng: Any) -> Any:
        dataclasses.asdict(config)
        return state, {}

    names = lom.State._fields
    assert observed(state_as_a_whole).reads == names
    assert observed(config_as_a_whole).reads == observed(config_as_a_whole).writes == names
    assert observed(config_as_a_whole).fields == {f.name for f in dataclasses.fields(lom.Config)}


def sweep(**options: Any) -> Trainer:
    """Two seeds, two M and two temperatures, and one run with a rate of its own."""
    configs = [
        small_config("lom", num_components=m, inverse_temperature=beta)
        for m in (2, 5)
        for beta in (1.0, 3.0)
        for _ in range(2)
    ]
    configs.append(small_config("lom", num_components=5, critic_learning_rate=1e-2))
    seeds = [0, 1] * 4 + [0]
    return trainer("lom", seeds, configs, **options)


def test_a_sweep_calls_each_update_once_for_what_its_runs_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: Counter[str] = Counter()

    def counted(update: Any) -> Any:
        def call(*arguments: Any) -> Any:
            calls[update.__name__] += 1
            return update(*arguments)

        return call

    phases = {phase: tuple(map(counted, updates)) for phase, updates in lom.phases.items()}
    monkeypatch.setattr(lom, "phases", phases)
    made = sweep(vectorize=False)
    calls.clear()
    made.advance("behavior", 0, 1)
    made.advance("policy", 0, 1)
    # Nine runs: mixtures by seed and M; critics by seed, and one of another rate; hyper-Qs by seed
    # and M, and that of the other critic; policies all.
    assert calls == {
        "update_behavior": 4,
        "update_critics": 3,
        "update_hyper_critic": 5,
        "update_policy": 9,
    }


@pytest.mark.parametrize("pad", [1.0, 2.0, 9.0])
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_shared_sweep_ends_where_the_unshared_one_does(vectorize: bool, pad: float) -> None:
    same = close if vectorize else equal
    shared = sweep(vectorize=vectorize, pad=pad)
    unshared = sweep(vectorize=vectorize, share=False, pad=pad)
    for one, other in zip(train(shared, "lom"), train(unshared, "lom"), strict=True):
        assert same(one, other)
    for one, other in zip(shared.take_metrics(), unshared.take_metrics(), strict=True):
        assert one == (pytest.approx(other) if vectorize else other)


@pytest.mark.parametrize("name", REGISTRY)
def test_sharing_changes_no_bit_of_any_algorithm(name: str) -> None:
    """Whatever field it is in which runs of one seed differ."""
    base = small_config(name)
    _, floats = static_part(base)
    floats.pop("lagrange_gap", None)  # CQL's, which must be 0 without a Lagrange form
    changed = [dataclasses.replace(base, **{f: 0.9 * v + 0.01}) for f, v in floats.items()]
    configs, seeds = [base, base, *changed], [0, 1] + [0] * len(changed)
    shared = train(trainer(name, seeds, configs, vectorize=False), name, 3)
    unshared = train(trainer(name, seeds, configs, vectorize=False, share=False), name, 3)
    for one, other in zip(shared, unshared, strict=True):
        assert equal(one, other)
        assert one.sums.keys() == other.sums.keys()
        assert all(torch.equal(one.sums[key], other.sums[key]) for key in one.sums)


def test_runs_that_go_on_from_unequal_parts_do_not_share_them() -> None:
    configs = [small_config("lom", inverse_temperature=beta) for beta in (1.0, 3.0)]
    made = trainer("lom", [0, 0], configs, vectorize=False)
    made.advance("policy", 0, 2)
    one, other = made.snapshots()
    other.state.critics.params[0][0][0, 0, 0] += 1e-9  # as rounding elsewhere might have left it
    made.restore([one, other])
    made.advance("policy", 2, 4)
    apart = []
    for config, snapshot in zip(configs, (one, other), strict=True):
        alone = trainer("lom", [0], [config], vectorize=False)
        alone.restore([snapshot])
        alone.advance("policy", 2, 4)
        apart += alone.snapshots()
    assert all(equal(a, b) for a, b in zip(made.snapshots(), apart, strict=True))
    assert not torch.equal(apart[0].state.critics.params[0][0], apart[1].state.critics.params[0][0])


def test_classes_are_refined_through_all_that_reads_them() -> None:
    """Updates a and b, each reading what the other writes: what tells a's runs apart tells b's."""
    state = lom.init(
        5, 3, small_config("lom"), Rng.of(*map(torch.tensor, (0,)), "init", torch.tensor(0))
    )
    accesses = [
        Access(frozenset({"tau"}), ("critics", "policy"), ("critics",), {}),
        Access(frozenset(), ("critics", "policy"), ("policy",), {}),
        Access(frozenset({"discount"}), ("hyper_critic",), ("hyper_critic",), {}),
    ]
    floats = [{"tau": tau, "discount": 0.9} for tau in (0.1, 0.1, 0.2)]
    of_update, of_part = sharing.classes(accesses, [state] * 3, [7, 7, 7], floats)
    assert of_update == [[0, 0, 2], [0, 0, 2], [0, 0, 0]]
    assert of_part["critics"] == of_part["policy"] == [0, 0, 2]
    assert of_part["hyper_critic"] == of_part["behavior"] == [0, 0, 0]
