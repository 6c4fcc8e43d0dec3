"""What README, pins and citation say is so, and no file knows the machine it was written on."""

import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
# Put together from halves, so that this file does not find itself.
REGISTRY_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "download.py" + "torch.org"]
REGISTRY_HOSTS += ["anaconda" + ".org", "anaconda" + ".com"]
MACHINE_PATH = re.compile(r"(?<![\w.}$~])/(?:home|root|Users|work|mnt|opt)/[\w.]")


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def project_texts() -> Iterator[tuple[str, str]]:
    """Name and text of every file that git tracks or would, ignored ones left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the project is not known")
    for name in filter(None, listed.stdout.split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if b"\0" not in content:
            yield name, content.decode()


def readme_code() -> str:
    """All code of the README: its blocks and its spans."""
    blocks = re.findall(r"^```.*?^```", README, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`[^`\n]+`", re.sub(r"^```.*?^```", "", README, flags=re.M | re.S))
    return "\n".join([*blocks, *spans])


def test_conda_users_get_the_pins_of_pyproject() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    [pip] = [entry["pip"] for entry in conda if isinstance(entry, dict)]

    assert sorted(pip) == sorted(
        [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]
    )
    assert "python=3.11" in conda


def test_no_file_holds_a_path_of_one_machine_or_the_name_of_a_package_registry() -> None:
    found = [
        f"{name}: {match}"
        for name, text in project_texts()
        for match in [
            *MACHINE_PATH.findall(text),
            *(host for host in REGISTRY_HOSTS if host in text),
            *re.findall(r"\.\./" + "shared", text),
        ]
    ]
    assert found == []


def test_the_check_for_paths_of_one_machine_sees_them() -> None:
    assert MACHINE_PATH.search("file = /" + "home/someone/data.hdf5")
    assert not MACHINE_PATH.search("https://example.org/home/page, ~/mnt/x, $HOME/opt/x, a/mnt/b")


def test_the_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z0-9]+)", readme_code()))

    assert {"run", "test"} <= named
    assert named <= targets


def test_the_readme_names_modules_and_files_that_exist() -> None:
    modules = set(re.findall(r"python -m ([\w.]+)", readme_code()))
    files = set(re.findall(r"\b(?:conf|lom_exp|analysis|tests|docs)/[\w./-]+", README))

    assert modules
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
    assert [name for name in files if not (ROOT / name.rstrip(".")).exists()] == []


def test_the_readme_names_choices_of_configuration_that_exist() -> None:
    groups = {"algo", "env", "network", "experiment"}
    chosen = [
        (group, option)
        for command in re.findall(r"python launch\.py ([^\n`]*)", readme_code())
        for group, options in re.findall(r"(?:^|\s)(\w+)=(\S+)", command)
        if group in groups
        for option in options.split(",")
    ]
    assert ("env", "hopper-medium-replay") in chosen
    assert [
        f"{group}={option}"
        for group, option in chosen
        if not (ROOT / "conf" / group / f"{option}.yaml").is_file()
    ] == []


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper = citation["references"][0]

    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert [author["family-names"] for author in paper["authors"]] == ["Wang", "Jin", "Montana"]
    assert paper["title"] in README
    assert paper["url"] in README
