"""Grouping runs, and where a group can go on together."""

from hypothesis import given
from hypothesis import strategies as st

from lom_exp import packs


def test_items_of_equal_keys_come_together_in_the_order_they_came() -> None:
    keys = [(2, "K"), (5, "K"), (2, "K"), (5, "K")]
    assert packs.group("abcd", keys) == [["a", "c"], ["b", "d"]]


def test_new_runs_start_together() -> None:
    assert packs.meet([[], [], []]) == [(0, [0, 1, 2])]


def test_runs_stopped_at_one_update_go_on_from_it() -> None:
    assert packs.meet([[40, 50], [40, 50]]) == [(50, [0, 1])]


def test_a_run_that_wrote_one_checkpoint_more_goes_back_to_the_common_one() -> None:
    assert packs.meet([[40, 50], [30, 40]]) == [(40, [0, 1])]


def test_a_run_far_behind_goes_alone_and_takes_none_back() -> None:
    assert packs.meet([[40, 50], [10], [40, 50]]) == [(10, [1]), (50, [0, 2])]


def test_a_run_further_on_is_never_taken_back_to_the_start() -> None:
    assert packs.meet([[40, 50], []]) == [(0, [1]), (50, [0])]


@given(st.lists(st.lists(st.integers(1, 9), max_size=2, unique=True).map(sorted), min_size=1))
def test_every_run_goes_on_once_from_a_checkpoint_it_has(steps: list[list[int]]) -> None:
    meetings = packs.meet(steps)
    assert sorted(run for _, runs in meetings for run in runs) == list(range(len(steps)))
    for step, runs in meetings:
        assert all(step in steps[run] or (step == 0 and not steps[run]) for run in runs)


@given(st.lists(st.integers(), max_size=40), st.integers(1, 12))
def test_a_split_keeps_all_in_order_in_the_fewest_even_parts(items: list[int], size: int) -> None:
    parts = packs.split(items, size)
    assert [item for part in parts for item in part] == items
    assert len(parts) == -(-len(items) // size)
    lengths = {len(part) for part in parts}
    assert all(1 <= length <= size for length in lengths)
    assert not lengths or max(lengths) - min(lengths) <= 1
