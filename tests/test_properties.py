"""What must hold of every algorithm, whatever it computes."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tiny import (
    ACTION_DIM,
    OBSERVATION_DIM,
    close,
    equal,
    small_config,
    train,
    trainer,
    transitions,
)
from torch.utils._pytree import tree_leaves

from lom_exp import checkpoints
from lom_exp.algorithms import REGISTRY
from lom_exp.random import Rng
from lom_exp.trainer import static_part

pytestmark = pytest.mark.usefixtures("float64")
every_algorithm = pytest.mark.parametrize("name", REGISTRY)
both_layouts = pytest.mark.parametrize("vectorize", [True, False])


@every_algorithm
def test_a_run_draws_and_learns_the_same_alone_and_packed(name: str) -> None:
    [alone] = train(trainer(name, [3]), name)
    packed = train(trainer(name, [0, 3, 7]), name)
    assert close(packed[1], alone)
    assert not close(packed[0], alone)
    assert not close(packed[2], alone)


@every_algorithm
def test_without_vectorizing_alone_and_packed_are_equal_to_the_bit(name: str) -> None:
    [alone] = train(trainer(name, [3], vectorize=False), name)
    packed = train(trainer(name, [0, 3, 7], vectorize=False), name)
    assert equal(packed[1], alone)


@every_algorithm
def test_both_layouts_compute_the_same(name: str) -> None:
    for one, other in zip(
        train(trainer(name, [0, 3], vectorize=True), name),
        train(trainer(name, [0, 3], vectorize=False), name),
        strict=True,
    ):
        assert close(one, other)


@every_algorithm
def test_a_run_does_not_notice_what_becomes_of_its_neighbor(name: str) -> None:
    config = small_config(name)
    _, floats = static_part(config)
    rate = next(field for field in floats if field.endswith("learning_rate"))
    wild = dataclasses.replace(config, **{rate: 10.0})
    quiet = train(trainer(name, [0, 1], [config, config]), name)
    beside = train(trainer(name, [0, 5], [config, wild]), name)
    assert equal(quiet[0], beside[0])


@every_algorithm
def test_permuting_seeds_permutes_results(name: str) -> None:
    forward = train(trainer(name, [0, 3, 7]), name)
    backward = train(trainer(name, [7, 3, 0]), name)
    for one, other in zip(forward, reversed(backward), strict=True):
        assert close(one, other)


@every_algorithm
@both_layouts
@pytest.mark.parametrize("stop", [1, 3])
def test_interrupted_training_ends_to_the_bit_where_uninterrupted_does(
    name: str, vectorize: bool, stop: int, tmp_path: Path
) -> None:
    seeds, phases = [0, 3], list(REGISTRY[name].phases)
    uninterrupted = train(trainer(name, seeds, vectorize=vectorize), name)

    first = trainer(name, seeds, vectorize=vectorize)
    for phase in phases[:-1]:
        first.advance(phase, 0, 4)
        first.take_metrics()
    first.advance(phases[-1], 0, stop)
    for seed, snapshot in zip(seeds, first.snapshots(), strict=True):
        (tmp_path / str(seed)).mkdir()
        checkpoints.save(tmp_path / str(seed), "a run", stop, snapshot)

    second = trainer(name, seeds, vectorize=vectorize)
    templates = second.templates
    second.restore(
        [
            checkpoints.load(tmp_path / str(seed), stop, template)
            for seed, template in zip(seeds, templates, strict=True)
        ]
    )
    second.advance(phases[-1], stop, 4)
    for one, other in zip(uninterrupted, second.snapshots(), strict=True):
        assert equal(one, other)
        assert one.num_summed == other.num_summed
        assert one.sums.keys() == other.sums.keys()
        assert all(torch.equal(one.sums[key], other.sums[key]) for key in one.sums)


# Fields that act only under a switch: the switch under which they must.
NEEDS = {
    ("cql", "lagrange_gap"): {"lagrange": True, "lagrange_gap": 8.0},
    ("lapo", "smoothing_clip"): {"smoothing_std": 1.0},
    ("lom", "smoothing_clip"): {"smoothing_std": 1.0},
    ("lom", "max_weight"): {"inverse_temperature": 50.0},
    ("lom", "min_log_std"): {"min_log_std": -0.05},
    ("lom", "max_log_std"): {"max_log_std": -0.3, "min_log_std": -20.0},
    ("awac", "max_weight"): {"temperature": 0.02},
    ("awac", "min_log_std"): {"min_log_std": 0.5},
    ("iql", "max_weight"): {"inverse_temperature": 50.0},
    ("iql", "min_log_std"): {"min_log_std": 0.5},
    ("onestep", "max_weight"): {"inverse_temperature": 50.0},
    ("td3", "smoothing_clip"): {"smoothing_std": 1.0},
    ("td3_bc", "smoothing_clip"): {"smoothing_std": 1.0},
    ("wcgan", "max_weight"): {"inverse_temperature": 50.0},
    ("wcvae", "max_weight"): {"inverse_temperature": 50.0},
}
CHANGES = {
    "min_log_std": -0.02,
    "max_log_std": -0.2,
    "max_weight": 1.01,
    "discount": 0.5,
    "expectile": 0.3,
    "pessimism": 0.6,
}


@every_algorithm
def test_every_float_field_reaches_an_update(name: str) -> None:
    _, floats = static_part(small_config(name))
    for field, value in floats.items():
        base = small_config(name, **NEEDS.get((name, field), {}))
        changed = dataclasses.replace(base, **{field: CHANGES.get(field, value * 1.5 + 0.01)})
        one, other = train(trainer(name, [0, 0], [base, changed]), name)
        assert not close(one, other), f"{field} is read by no update"


# What lets an algorithm look past an end on purpose, turned off.
BLINDFOLD = {
    # CQL compares the dataset's action with the policy's at the next observation, whatever it is.
    "cql": {"regularizer_weight": 0.0},
}


@every_algorithm
def test_what_follows_a_termination_is_hidden(name: str) -> None:
    config = small_config(name, **BLINDFOLD.get(name, {}))
    data = transitions()
    ended = data.terminations == 1
    other = data._replace(
        next_observations=torch.where(ended[:, None], 1e3, data.next_observations),
        next_actions=torch.where(ended[:, None], -data.next_actions, data.next_actions),
    )
    one = train(trainer(name, [2], [config], data=data), name)
    assert equal(one[0], train(trainer(name, [2], [config], data=other), name)[0])


@every_algorithm
def test_longer_pretraining_shifts_no_random_number_of_a_later_phase(name: str) -> None:
    phase = list(REGISTRY[name].phases)[-1]
    short, long = trainer(name, [4]), trainer(name, [4])
    for earlier in list(REGISTRY[name].phases)[:-1]:
        long.advance(earlier, 0, 1)
        long.take_metrics()
    long.restore([snapshot._replace(state=short.templates[0]) for snapshot in long.snapshots()])
    short.advance(phase, 0, 2)
    long.advance(phase, 0, 2)
    assert equal(short.snapshots()[0], long.snapshots()[0])


# LAPO learns standardized actions, whose box differs between datasets; evaluation clips them after
# it has scaled them back.
UNBOUNDED = {"lapo"}


@every_algorithm
def test_no_update_changes_what_it_was_given(name: str) -> None:
    config, data = small_config(name), transitions()
    seed, update = torch.tensor(3), torch.tensor(1)
    rng = Rng.of(seed, "init", update)
    state = REGISTRY[name].init(OBSERVATION_DIM, ACTION_DIM, config, rng)
    for phase, updates in REGISTRY[name].phases.items():
        for apply_update in updates:
            given = tree_leaves((state, data))
            before = [leaf.clone() for leaf in given]
            state, _ = apply_update(state, data, config, Rng.of(seed, phase, update))
            for leaf, copy in zip(given, before, strict=True):
                assert torch.equal(leaf, copy)


@every_algorithm
def test_a_random_stream_has_one_shape(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two shapes, the smaller draw would be the beginning of the larger."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    bits = Rng.bits

    def recorded(self: Rng, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        shapes.setdefault(stream, set()).add(tuple(shape))
        return bits(self, stream, shape)

    made = trainer(name, [0], vectorize=False)
    monkeypatch.setattr(Rng, "bits", recorded)
    for phase in REGISTRY[name].phases:
        shapes.clear()
        made.take_metrics()
        made.advance(phase, 0, 1)
        assert shapes
        assert all(len(of_stream) == 1 for of_stream in shapes.values()), shapes


@every_algorithm
@both_layouts
def test_actions_are_within_bounds_and_each_run_answers_for_itself(
    name: str, vectorize: bool
) -> None:
    made = trainer(name, [0, 3], vectorize=vectorize)
    train(made, name)
    observations = 10 * torch.randn(2, 6, OBSERVATION_DIM)
    actions = made.act(observations, update=5)
    assert actions.shape == (2, 6, ACTION_DIM)
    assert name in UNBOUNDED or actions.abs().max() <= 1
    swapped = made.act(observations.flip(0), update=5)
    assert not torch.allclose(actions, swapped.flip(0))


@every_algorithm
def test_metrics_are_finite_numbers_averaged_over_the_updates_since_the_last_time(
    name: str,
) -> None:
    for phase in REGISTRY[name].phases:
        singly, together = trainer(name, [1]), trainer(name, [1])
        rows = []
        for update in range(3):
            singly.advance(phase, update, update + 1)
            rows.append(singly.take_metrics()[0])
        together.advance(phase, 0, 3)
        [mean] = together.take_metrics()
        for key, value in mean.items():
            assert value == pytest.approx(sum(row[key] for row in rows) / 3, rel=1e-12)
