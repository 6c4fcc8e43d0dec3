"""The trainer's own contract; what holds of every algorithm is in test_properties."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny import NUM_TRANSITIONS, OBSERVATION_DIM, close, equal, small_config, trainer
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import bc
from lom_exp.errors import ConfigError
from lom_exp.trainer import static_part


def test_runs_that_differ_in_what_shapes_an_update_cannot_train_together() -> None:
    config = small_config("lom")
    with pytest.raises(ConfigError, match=r"num_critics=2.*num_critics=3"):
        trainer("lom", [0, 1], [config, replace(config, num_critics=3)])


def test_only_float_and_padded_fields_may_differ() -> None:
    static, floats = static_part(small_config("lom", tau=0.25, num_components=6, num_critics=3))
    assert floats["tau"] == 0.25
    assert "num_components" not in floats
    assert static.tau is static.num_components is None
    assert static.num_critics == 3
    assert static == static_part(small_config("lom", tau=0.5, num_critics=3))[0]


def test_each_run_has_its_own_hyperparameters() -> None:
    slow, fast = small_config("bc", learning_rate=1e-4), small_config("bc", learning_rate=1e-2)
    made = trainer("bc", [0, 0], [slow, fast])
    before = [snapshot.state.policy.params[1] for snapshot in made.snapshots()]
    made.advance("policy", 0, 1)
    after = [snapshot.state.policy.params[1] for snapshot in made.snapshots()]
    # Adam's first step moves every parameter by its learning rate.
    for start, end, rate in zip(before, after, (1e-4, 1e-2), strict=True):
        assert (end - start).abs().tolist() == pytest.approx([rate] * 3, rel=1e-3)


@pytest.mark.parametrize("vectorize", [True, False])
def test_training_stops_after_the_update_in_which_it_was_asked_to(vectorize: bool) -> None:
    made = trainer("bc", [0, 1], vectorize=vectorize)
    asked = iter([False, False, True])
    assert made.advance("policy", 5, 100, lambda: next(asked)) == 8
    assert made.snapshots()[0].num_summed == 3


@pytest.mark.parametrize("vectorize", [True, False])
def test_a_run_with_a_parameter_that_is_not_finite_is_told_from_the_others(
    vectorize: bool,
) -> None:
    made = trainer("bc", [0, 1, 2], vectorize=vectorize)
    snapshots = made.snapshots()
    snapshots[1].state.policy.params[1][0] = torch.nan
    made.restore(snapshots)
    assert made.finite() == [True, False, True]


@pytest.mark.parametrize("vectorize", [True, False])
def test_what_is_frozen_stays_as_it_was_whatever_is_trained_since(vectorize: bool) -> None:
    made = trainer("lom", [0, 1], vectorize=vectorize)
    made.advance("behavior", 0, 3)
    observations = torch.rand(2, 6, OBSERVATION_DIM)
    before, actions = deepcopy(made.snapshots()), made.act(observations, 7)
    frozen = made.freeze()
    made.advance("behavior", 3, 8)
    for leaf in tree_leaves(
        [made._stacks.trees, [task._sums for task in made._tasks["behavior"][0]]]
    ):
        leaf.zero_()  # whether or not it is trained in place
    for snapshot, expected in zip(frozen.snapshots(), before, strict=True):
        assert equal(snapshot, expected)
        assert (snapshot.sums, snapshot.num_summed) == (expected.sums, expected.num_summed)
    assert torch.equal(frozen.act(observations, 7), actions)
    assert not torch.equal(made.act(observations, 7), actions)


def test_networks_and_their_targets_share_no_memory() -> None:
    [snapshot] = trainer("lom", [0], vectorize=False).snapshots()
    online, target = snapshot.state.critics.params[0][0], snapshot.state.target_critics[0][0]
    assert torch.equal(online, target)
    assert online.data_ptr() != target.data_ptr()


def test_a_batch_larger_than_the_dataset_is_refused() -> None:
    config = small_config("lom", hyper_critic_batch_size=NUM_TRANSITIONS + 1)
    with pytest.raises(ConfigError, match=r"algo\.hyper_critic_batch_size=41 .* 40 transitions"):
        trainer("lom", [0], [config])
    trainer("lom", [0], [small_config("lom", hyper_critic_batch_size=NUM_TRANSITIONS)])


@pytest.mark.slow
def test_packs_of_other_sizes_are_compiled_one_after_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The compiler's front end alone: it counts, and it is what may take sizes for variables.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    for width in range(8, 18):  # more than the compiler compiles of one function
        config = small_config("bc", hidden_sizes=(width,))
        made = trainer("bc", [0, 1], [config] * 2, compile=True)
        made.advance("policy", 0, 1)
        eager = trainer("bc", [0, 1], [config] * 2)
        eager.advance("policy", 0, 1)
        assert close(made.snapshots()[1], eager.snapshots()[1])


@pytest.mark.parametrize("value", [0.5, torch.zeros(3)])
@pytest.mark.parametrize("vectorize", [True, False])
def test_a_metric_that_is_no_single_number_is_named(
    value: object, vectorize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def update_policy(state, data, config, rng):  # type: ignore[no-untyped-def]
        return state, {"policy/loss": value}

    monkeypatch.setattr(bc, "phases", {"policy": (update_policy,)})
    made = trainer("bc", [0], vectorize=vectorize)
    with pytest.raises(TypeError, match="the metric policy/loss must be a 0-d tensor"):
        made.advance("policy", 0, 1)
