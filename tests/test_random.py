"""Random numbers: which they are, how they are distributed, and what they do not depend on."""

import math
import zlib

import pytest
import torch
from torch.func import vmap

from lom_exp.random import Rng
from lom_exp.types import Transitions

SEEDS = [0, 1, 12345, 2**31, 2**63 - 1]
SAMPLE = 100_000


def rng(seed=0, phase="policy", update=0):
    return Rng.of(torch.tensor(seed), phase, torch.tensor(update))


# The same numbers once more, with Python's unbounded integers.

WORD = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def expected_bits(seed, phase, update, stream, position):
    key = mix(mix(seed * GOLDEN % WORD) ^ zlib.crc32(phase.encode()))
    key = mix(mix((key + update * GOLDEN) % WORD) ^ zlib.crc32(stream.encode()))
    return mix((position ^ key) * GOLDEN % WORD)


def test_the_mixing_function_is_splitmix64s():
    """The generator's published outputs for the seed 1234567."""
    outputs = [mix((1234567 + i * GOLDEN) % WORD) for i in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("phase", "update"), [("behavior", 0), ("policy", 0), ("policy", 999_999)])
def test_bits_are_a_hash_of_seed_phase_update_stream_and_position(seed, phase, update):
    bits = rng(seed, phase, update).bits("mode", (3, 5)).flatten().tolist()
    expected = [expected_bits(seed, phase, update, "mode", i) for i in range(15)]
    assert [x % WORD for x in bits] == expected


def test_the_numbers_of_a_release_are_those_of_the_next():
    """Written down once: a change of any of these changes every result."""
    draws = rng(seed=7, phase="policy", update=42)
    assert draws.bits("golden", (2,)).tolist() == GOLDEN_BITS
    assert draws.integers("golden", 1000, (5,)).tolist() == GOLDEN_INTEGERS
    assert (draws.uniform("golden", (3,)).double() * 2**24).tolist() == GOLDEN_UNIFORMS
    assert draws.normal("golden", (3,)).tolist() == pytest.approx(GOLDEN_NORMALS, abs=1e-6)


GOLDEN_BITS = [2233619420003485255, 6187956859909531943]
GOLDEN_INTEGERS = [255, 39, 762, 36, 746]
GOLDEN_UNIFORMS = [2031465, 5627913, 15544527]
GOLDEN_NORMALS = [0.34083547, 0.629321221, 0.637289277]


def assert_near(value, expected, variance, size=SAMPLE):
    """Within five standard errors of a mean of `size` values of this variance."""
    assert abs(value.item() - expected) < 5 * math.sqrt(variance / size)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", SEEDS)
def test_normals_have_the_moments_of_the_standard_normal(seed):
    x = rng(seed).normal("moments", (SAMPLE,))
    assert_near(x.mean(), 0, 1)
    assert_near((x**2).mean(), 1, 2)
    assert_near((x**3).mean(), 0, 15)
    assert_near((x**4).mean(), 3, 96)
    for z in (-2.0, -0.5, 0.0, 1.0, 2.5):
        share = 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert_near((x < z).double().mean(), share, share * (1 - share))


@pytest.mark.usefixtures("float64")
def test_normals_are_bounded_and_finite():
    x = rng().normal("bounds", (1_000_000,))
    assert x.isfinite().all()
    assert 4.5 < x.abs().max() < 5.8


def chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum().item()


def assert_uniform(counts):
    """Chi-square within five standard deviations of its mean."""
    freedom = len(counts) - 1
    assert abs(chi_square(counts.double()) - freedom) < 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("seed", SEEDS)
def test_uniforms_fill_the_unit_interval_evenly(seed):
    x = rng(seed).uniform("bins", (SAMPLE,))
    assert x.min() >= 0
    assert x.max() < 1
    assert_uniform((x * 64).long().bincount(minlength=64))
    low_bits = (x.double() * 2**24).long() % 64
    assert_uniform(low_bits.bincount(minlength=64))


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_are_even_over_their_range(high):
    x = rng().integers("indices", high, (SAMPLE,))
    assert x.dtype == torch.int64
    assert x.min() >= 0
    assert x.max() == high - 1
    if high > 1:
        assert_uniform(x.bincount(minlength=high))


@pytest.mark.usefixtures("float64")
def test_integers_reach_the_ends_of_a_dataset_larger_than_single_precision_counts():
    high = 10**9
    x = rng().integers("indices", high, (SAMPLE,)).double() / high
    assert_near(x.mean(), 0.5, 1 / 12)
    assert x.max() > 0.9999


def draws_of_relatives():
    """One draw, and the draws that differ from it in one thing."""
    base = rng(seed=0)
    return {
        "itself": base.normal("mode", (SAMPLE,)),
        "the next seed": rng(seed=1).normal("mode", (SAMPLE,)),
        "a seed of another high bit": rng(seed=2**40).normal("mode", (SAMPLE,)),
        "another phase": rng(phase="behavior").normal("mode", (SAMPLE,)),
        "the next update": rng(update=1).normal("mode", (SAMPLE,)),
        "a later update": rng(update=1000).normal("mode", (SAMPLE,)),
        "another stream": base.normal("smoothing", (SAMPLE,)),
        "a stream of a similar name": base.normal("modf", (SAMPLE,)),
        "the next position": base.normal("mode", (SAMPLE + 1,))[1:],
    }


@pytest.mark.usefixtures("float64")
def test_draws_that_differ_in_anything_are_independent():
    draws = list(draws_of_relatives().values())
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert_near((first * second).mean(), 0, 1)
            assert_near((first**2 * second**2).mean(), 1, 8)
            assert_near((first.abs() * second).mean(), 0, 1)


def test_no_two_draws_share_their_bits():
    """Shifted copies would pass a correlation at lag 0: all the bits must differ."""
    bits = torch.cat(
        [
            rng(seed, phase, update).bits(stream, (500,))
            for seed in (0, 1, 2)
            for phase in ("init", "behavior", "policy")
            for update in (0, 1, 2)
            for stream in ("mode/radius", "mode/angle", "components/radius", "policy/batch")
        ]
    )
    assert len(bits.unique()) == len(bits)


@pytest.mark.usefixtures("float64")
def test_one_number_from_each_update_is_as_random_as_many_from_one():
    updates = torch.arange(20_000)
    x = vmap(lambda update: Rng.of(torch.tensor(0), "policy", update).normal("mode", (1,)))(updates)
    x = x.flatten()
    assert_near(x.mean(), 0, 1, len(x))
    assert_near((x**2).mean(), 1, 2, len(x))
    assert_near((x[1:] * x[:-1]).mean(), 0, 1, len(x))


@pytest.mark.usefixtures("float64")
def test_one_number_from_each_seed_is_as_random_as_many_from_one():
    seeds = torch.arange(20_000)
    x = vmap(lambda seed: Rng.of(seed, "init", torch.tensor(0)).normal("mode", (1,)))(seeds)
    x = x.flatten()
    assert_near(x.mean(), 0, 1, len(x))
    assert_near((x**2).mean(), 1, 2, len(x))
    assert_near((x[1:] * x[:-1]).mean(), 0, 1, len(x))


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    draws = rng()
    first = draws.normal("mode", (4,))
    draws.normal("smoothing", (100,))
    draws.integers("policy/batch", 10, (3,))
    assert (draws.normal("mode", (4,)) == first).all()


def test_the_first_numbers_do_not_depend_on_how_many_are_drawn():
    draws = rng(seed=3)
    few, many = draws.normal("mode", (7,)), draws.normal("mode", (5, 7))
    assert (many[0] == few).all()
    few, many = draws.integers("batch", 50, (7,)), draws.integers("batch", 50, (35,))
    assert (many[:7] == few).all()


@pytest.mark.usefixtures("float64")
def test_precision_does_not_change_which_numbers_are_drawn():
    def draw():
        draws = rng(seed=2)
        size = (2000,)
        return (
            draws.integers("batch", 999_983, size),
            draws.uniform("bins", size),
            draws.normal("mode", size),
        )

    double = draw()
    torch.set_default_dtype(torch.float32)
    single = draw()
    assert single[1].dtype == torch.float32
    assert (single[0] == double[0]).all()
    assert (single[1].double() == double[1]).all()
    torch.testing.assert_close(single[2].double(), double[2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_runs_draw_together_what_they_draw_alone(kind):
    def draw(seed, update):
        return getattr(Rng.of(seed, "policy", update), kind)("mode", (3, 5))

    seeds, updates = torch.tensor(SEEDS), torch.tensor([0, 5, 9, 9, 123_456])
    together = vmap(draw)(seeds, updates)
    alone = torch.stack([draw(seed, update) for seed, update in zip(seeds, updates, strict=True)])
    assert (together == alone).all()


def test_runs_draw_the_same_minibatches_together_and_alone():
    def draw(seed):
        return Rng.of(seed, "policy", torch.tensor(4)).integers("policy/batch", 23, (9,))

    together = vmap(draw)(torch.tensor(SEEDS))
    assert together.tolist() == [draw(torch.tensor(seed)).tolist() for seed in SEEDS]


def dataset(size):
    """Rows that carry their own number in every column."""
    rows = torch.arange(size).float()
    return Transitions(
        observations=rows[:, None].expand(-1, 4),
        actions=rows[:, None].expand(-1, 2),
        rewards=rows,
        next_observations=rows[:, None].expand(-1, 4),
        next_actions=rows[:, None].expand(-1, 2),
        terminations=rows,
    )


def test_a_minibatch_keeps_the_columns_of_a_transition_together():
    batch = dataset(23).sample(rng(), "policy/batch", 9)
    assert batch.observations.shape == batch.next_observations.shape == (9, 4)
    assert batch.actions.shape == batch.next_actions.shape == (9, 2)
    for column in batch:
        assert (column.reshape(9, -1) == batch.rewards[:, None]).all()


def test_minibatches_are_drawn_evenly_and_with_replacement():
    batch = dataset(17).sample(rng(), "policy/batch", SAMPLE)
    assert_uniform(batch.rewards.long().bincount(minlength=17))
    small = dataset(1000).sample(rng(), "policy/batch", 1000)
    distinct = len(small.rewards.unique())
    assert 590 < distinct < 675  # 1000 (1 - 1/e) = 632
