"""What a plan may know of a dataset: its fingerprint if its file is here, and no download."""

import pytest
from dataset_files import NAME, TWO_TIMED_OUT, env, own_home, write  # noqa: F401

from lom_exp.datasets import EnvConfig, identify, identify_if_present
from lom_exp.errors import DataError

pytestmark = pytest.mark.usefixtures("own_home")
URL = "http://127.0.0.1:9/x.hdf5"  # where nobody answers


def generated(**fields) -> EnvConfig:
    fields = {"environment": "FetchReachFourGoals", "num_trajectories": 4} | fields
    return env(source="fetch_reach", file="", **fields)


@pytest.mark.parametrize("where", ["path", "LOM_DATA_DIR", "d4rl"])
def test_a_file_that_is_here_is_identified_wherever_it_lies(tmp_path, monkeypatch, where):
    folder = tmp_path / ("home/.d4rl/datasets" if where == "d4rl" else "data")
    folder.mkdir(parents=True)
    path = write(folder / NAME, TWO_TIMED_OUT)
    if where == "LOM_DATA_DIR":
        monkeypatch.setenv("LOM_DATA_DIR", str(folder))
    here = env(path=str(path)) if where == "path" else env(url=URL)
    assert identify_if_present(here) == identify(here)
    assert len(identify(here)) == 64


def test_a_file_to_be_downloaded_is_not_asked_for(tmp_path):
    assert identify_if_present(env(url=URL)) is None
    assert list(tmp_path.iterdir()) == []


def test_generated_data_is_known_only_once_it_was_made(tmp_path):
    assert identify_if_present(generated()) is None
    assert list(tmp_path.iterdir()) == []
    made = identify(generated())
    assert identify_if_present(generated()) == made
    assert identify_if_present(generated(generator_seed=1)) is None


def test_data_of_the_d4rl_package_is_known_by_its_name():
    here = env(source="d4rl_package")
    assert identify_if_present(here) == identify(here) == "d4rl_package:hopper-medium"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"path": "/nowhere/x.hdf5"}, "env.path=/nowhere/x.hdf5 is not a file"),
        ({"file": ""}, "names no file"),
        ({}, "env.url is empty"),
    ],
)
def test_data_that_cannot_be_had_at_all_is_an_error_at_once(fields, message):
    with pytest.raises(DataError, match=message):
        identify_if_present(env(**fields))


def test_a_data_folder_that_is_not_there_is_an_error_at_once(monkeypatch):
    monkeypatch.setenv("LOM_DATA_DIR", "/nowhere")
    with pytest.raises(DataError, match="LOM_DATA_DIR=/nowhere is not a folder"):
        identify_if_present(env(url=URL))
