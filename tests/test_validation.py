"""A setting out of range is refused by name, with its value and what would be accepted."""

import re
from dataclasses import fields

import pytest

from lom_exp.algorithms import REGISTRY, bc, lom
from lom_exp.errors import ConfigError, LomExpError

NAN, INFINITY = float("nan"), float("inf")


def assert_refused(config, **setting):
    """The message names the field and the value, and says what it must be."""
    [(name, value)] = setting.items()
    with pytest.raises(ConfigError) as caught:
        config(**setting)
    message = str(caught.value)
    assert re.match(rf"{name}=", message), message
    shown = list(value) if isinstance(value, tuple) else value
    assert repr(shown) in message or str(shown) in message
    assert re.search(r"must be|is not one of", message), message
    return message


POSITIVE = [
    "num_components",
    "num_critics",
    "target_update_period",
    "hyper_critic_samples",
    "inverse_temperature",
    "max_weight",
    "behavior_batch_size",
    "critic_batch_size",
    "hyper_critic_batch_size",
    "policy_batch_size",
    "behavior_learning_rate",
    "critic_learning_rate",
    "hyper_critic_learning_rate",
    "policy_learning_rate",
]
NON_NEGATIVE = ["smoothing_std", "smoothing_clip", "action_noise_std"]
SHARES = ["discount", "min_component_weight"]
CHOICES = {
    "component_loss": ("mixture", "legacy_component_mean"),
    "hyper_critic": ("heads", "one_hot"),
    "baseline": ("policy", "component_mean", "hyper_critic"),
    "component_choice": ("hyper_critic", "critic", "heaviest", "first", "random", "all"),
    "policy_loss": ("squared_error", "log_likelihood"),
}


@pytest.mark.parametrize("value", [0, -1, NAN, INFINITY, -INFINITY])
@pytest.mark.parametrize("name", POSITIVE)
def test_what_must_be_positive_is(name, value):
    message = assert_refused(lom.Config, **{name: value})
    assert "above 0" in message


@pytest.mark.parametrize("value", [-0.1, NAN, INFINITY])
@pytest.mark.parametrize("name", NON_NEGATIVE)
def test_what_must_not_be_negative_is_not(name, value):
    message = assert_refused(lom.Config, **{name: value})
    assert "at least 0" in message


@pytest.mark.parametrize("value", [-0.01, 1.01, NAN, INFINITY])
@pytest.mark.parametrize("name", SHARES)
def test_what_must_be_a_share_is_one(name, value):
    message = assert_refused(lom.Config, **{name: value})
    assert "[0, 1]" in message


@pytest.mark.parametrize("value", [0, -0.01, 1.01, NAN, INFINITY])
def test_a_polyak_rate_of_0_would_leave_the_targets_where_they_are(value):
    assert "(0, 1]" in assert_refused(lom.Config, tau=value)


@pytest.mark.parametrize("name", ["hidden_sizes", "behavior_hidden_sizes"])
@pytest.mark.parametrize("value", [(), (0,), (256, -1)])
def test_layers_must_have_units(name, value):
    assert_refused(lom.Config, **{name: value})


@pytest.mark.parametrize(("name", "choices"), CHOICES.items())
def test_a_misspelled_choice_is_refused_with_the_nearest(name, choices):
    for choice in choices:
        misspelled = choice[:-1]
        message = assert_refused(lom.Config, **{name: misspelled})
        assert all(accepted in message for accepted in choices)
        assert f"did you mean {choice!r}" in message


def test_a_choice_that_resembles_none_is_refused_without_a_guess():
    message = assert_refused(lom.Config, baseline="xyzzy")
    assert "did you mean" not in message


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_log_std": 0.5, "max_log_std": 0.0},
        {"min_log_std": 0.0, "max_log_std": 0.0},
    ],
)
def test_the_bounds_of_the_log_std_are_in_order(bounds):
    with pytest.raises(ConfigError, match=r"min_log_std=0\.\d.*must be below max_log_std=0\.0"):
        lom.Config(**bounds)


@pytest.mark.parametrize("name", ["min_log_std", "max_log_std"])
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_the_bounds_of_the_log_std_are_finite(name, value):
    assert_refused(lom.Config, **{name: value})


@pytest.mark.parametrize(
    "setting",
    [
        {"learning_rate": 0.0},
        {"learning_rate": NAN},
        {"batch_size": 0},
        {"hidden_sizes": ()},
        {"policy_loss": "mse"},
    ],
)
def test_bc_refuses_what_it_cannot_run(setting):
    assert_refused(bc.Config, **setting)


def test_the_edges_of_the_ranges_are_accepted():
    lom.Config(
        num_components=1,
        discount=1.0,
        tau=1.0,
        min_component_weight=1.0,
        smoothing_std=0.0,
        smoothing_clip=0.0,
        action_noise_std=0.0,
        hidden_sizes=(1,),
    )
    lom.Config(discount=0.0, tau=0.001, min_component_weight=0.0)


@pytest.mark.parametrize("algorithm", REGISTRY.values(), ids=REGISTRY)
def test_every_number_of_every_algorithm_is_checked(algorithm):
    for field in fields(algorithm.Config):
        if field.type is float:
            assert_refused(algorithm.Config, **{field.name: NAN})
        elif field.type is int:
            assert_refused(algorithm.Config, **{field.name: -1})
        elif field.type is str:
            assert_refused(algorithm.Config, **{field.name: "no such choice"})


def test_every_error_can_be_caught_as_the_projects_own():
    with pytest.raises(LomExpError):
        lom.Config(num_components=0)
