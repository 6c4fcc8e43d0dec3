"""Compiled updates compute what eager ones do. Slow, so in a file of its own."""

from functools import partial

import pytest
import torch
from tiny import close, train, trainer

from lom_exp.algorithms import REGISTRY
from lom_exp.trainer.compiling import Compiled

pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]


def assert_compiled_and_eager_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "_warned", False)
    eager = train(trainer(name, [0, 3]), name)
    compiled = train(trainer(name, [0, 3], compile=True), name)
    assert not Compiled._warned  # nothing was done as it is
    for one, other in zip(eager, compiled, strict=True):
        assert close(one, other)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_update_is_one_graph_that_computes_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compiler's front end alone, which captures a graph: its code generator takes minutes.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert_compiled_and_eager_agree(name, monkeypatch)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("bc", "lom") else pytest.mark.long)
        for name in REGISTRY
    ],
)
def test_compiled_and_eager_updates_agree(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_compiled_and_eager_agree(name, monkeypatch)
