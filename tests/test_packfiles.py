"""Packs as files: what comes back is what was written, and nothing secret is in them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lom_exp import configuration, packfiles
from lom_exp.algorithms import REGISTRY
from lom_exp.errors import ConfigError
from lom_exp.launcher.control import Settings
from lom_exp.packfiles import Pack


def make_pack(*overrides: str, seeds: range = range(3)) -> Pack:
    specs = [configuration.compose([*overrides, f"seed={seed}"]) for seed in seeds]
    execution, _ = configuration.execution_config(specs)
    names = tuple(spec.name("abc") for spec in specs)
    return Pack("sweep", names, "abc", tuple(specs), execution)


@pytest.mark.parametrize("algorithm", sorted(REGISTRY))
def test_a_pack_comes_back_as_it_was(algorithm: str, tmp_path: Path) -> None:
    pack = make_pack(f"algo={algorithm}", "env=hopper-medium-replay")
    back = packfiles.read(packfiles.write(tmp_path, pack))
    assert back == pack
    assert back.id == pack.id
    assert [spec.id("abc") for spec in back.specs] == [spec.id("abc") for spec in pack.specs]
    assert list(back.specs[0].updates) == list(pack.specs[0].updates)  # the phases' order


def test_runs_that_differ_in_several_settings_come_back_apart(tmp_path: Path) -> None:
    specs = [
        configuration.compose([f"beta={beta}", f"algo.tau={tau}", f"seed={seed}", f"label={label}"])
        for beta, tau, seed, label in ((0.1, 0.3, 0, "a"), (0.1, 1e-7, 1, "a"), (5, 0.3, 0, "b"))
    ]
    execution, _ = configuration.execution_config(specs)
    names = tuple(spec.name("abc") for spec in specs)
    pack = Pack("sweep", names, "abc", tuple(specs), execution)
    assert packfiles.read(packfiles.write(tmp_path, pack)) == pack


def test_what_runs_have_in_common_is_written_once(tmp_path: Path) -> None:
    one = packfiles.write(tmp_path, make_pack(seeds=range(1))).stat().st_size
    twenty = packfiles.write(tmp_path, make_pack(seeds=range(20))).stat().st_size
    assert twenty < 2 * one


def test_a_pack_is_known_by_its_runs() -> None:
    two, three = make_pack(seeds=range(2)), make_pack(seeds=range(3))
    assert two.id != three.id
    assert two.id == replace(two, sweep="another", execution=three.execution).id


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("shared"),
        lambda content: content["shared"].pop("config"),
        lambda content: content["shared"]["config"].update(a_field_of_tomorrow=1),
        lambda content: content["shared"].update(algorithm="of_tomorrow"),
        lambda content: content["execution"].pop("tracking"),
    ],
)
def test_a_pack_of_other_code_is_refused_with_the_remedy(damage, tmp_path: Path) -> None:
    path = packfiles.write(tmp_path, make_pack())
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"another version of the code.*the sweep's command"):
        packfiles.read(path)


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"x\.json is no pack"):
        packfiles.read(tmp_path / "x.json")


def test_settings_come_back_without_a_password() -> None:
    specs = [configuration.compose(["tracking.uri=https://user:secret@host:5000"])]
    settings = Settings(*configuration.execution_config(specs), cluster=None, workers=3)
    text = json.dumps(settings.plain())
    assert "secret" not in text
    back = Settings.of(json.loads(text))
    assert back.execution.tracking.uri == "https://***@host:5000"
    known = replace(settings.execution.tracking, uri=back.execution.tracking.uri)
    execution = replace(settings.execution, tracking=known)
    assert back == replace(settings, execution=execution)
