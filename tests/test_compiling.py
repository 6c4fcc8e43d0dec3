"""Where updates cannot be compiled they are done as they are, and it is said once."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import equal, train, trainer

from lom_exp.trainer.compiling import Compiled

pytestmark = pytest.mark.usefixtures("float64", "unwarned")


@pytest.fixture
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "_warned", False)


def refuse(*arguments: Any, **options: Any) -> Any:
    raise RuntimeError("this machine has no such compiler")


def test_a_compiler_that_fails_is_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=refuse))
    with caplog.at_level(logging.WARNING):
        found = [
            train(trainer("lom", [0, 1], vectorize=False, compile=True), "lom") for _ in range(2)
        ]
    expected = train(trainer("lom", [0, 1], vectorize=False), "lom")
    for snapshots in found:
        assert all(equal(one, other) for one, other in zip(snapshots, expected, strict=True))
    [said] = [record.message for record in caplog.records if "compiled" in record.message]
    assert "no such compiler" in said
    assert "compile=false" in said


def test_without_a_cpp_compiler_training_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, str(tmp_path / "missing-g++")))
    monkeypatch.setattr(torch._inductor.config, "force_disable_caches", True)
    found = train(trainer("bc", [0], compile=True), "bc")
    assert all(map(equal, found, train(trainer("bc", [0]), "bc")))
    assert "cannot be compiled here" in caplog.text


def test_an_error_of_the_update_itself_is_not_the_compilers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def update(x: torch.Tensor) -> torch.Tensor:
        return x @ x

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        Compiled(update)(torch.zeros(2, 3))
    assert "cannot be compiled" not in caplog.text
