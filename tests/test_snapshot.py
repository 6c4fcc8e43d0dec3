"""Snapshots of the code: taken by processes of their own, from a copy of this project's tree."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lom_exp.code_version import PARTS
from lom_exp.launcher import snapshot

ROOT = Path(__file__).parent.parent
TAKE = (
    "import sys; from pathlib import Path; from lom_exp.launcher import snapshot\n"
    "print(snapshot.take(Path(sys.argv[1])))"
)


@pytest.fixture
def tree(tmp_path):
    """A copy of the code, as a user's checkout would be."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=ignored)
        else:
            shutil.copy(ROOT / part, tree / part)
    return tree


def start(code_folder, code, *arguments, cwd=None, **variables):
    """Python that imports lom_exp from a folder."""
    variables = {**os.environ, **snapshot.environment(code_folder, {}), **variables}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=variables,
        cwd=cwd or code_folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code_folder, code, *arguments, **options):
    """Its output."""
    process = start(code_folder, code, *arguments, **options)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip()


def take(tree, results):
    return Path(run(tree, TAKE, results))


def git(tree, *arguments):
    command = ["git", "-c", "user.name=Ann", "-c", "user.email=a@b.c", "-C", str(tree), *arguments]
    variables = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return done.stdout.strip()


def commit(tree):
    (tree / ".gitignore").write_text("results\n__pycache__\n")
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "one")
    return git(tree, "rev-parse", "HEAD")


def test_every_tracked_file_of_the_code_is_in_a_snapshot(tree, tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is no git checkout")
    taken = take(tree, tmp_path / "results")
    tracked = [
        name for name in git(ROOT, "ls-files", *PARTS).splitlines() if (tree / name).exists()
    ]
    assert len(tracked) > 100
    for name in tracked:
        assert (taken / name).read_bytes() == (tree / name).read_bytes()


def test_strays_are_left_out_and_change_nothing(tree, tmp_path):
    before = take(tree, tmp_path / "results")
    for stray in ("lom_exp/.#errors.py", "conf/._config.yaml", "lom_exp/data.hdf5", "notes.py"):
        (tree / stray).write_text("stray")
    (tree / "lom_exp" / "broken.py").symlink_to(tmp_path / "nowhere")
    after = take(tree, tmp_path / "results")
    assert after == before
    names = {path.name for path in after.rglob("*")}
    assert not names & {".#errors.py", "._config.yaml", "data.hdf5", "notes.py", "broken.py"}
    assert not names & {"__pycache__", ".git", "results"}


def test_the_same_code_is_one_snapshot_and_other_code_another(tree, tmp_path):
    results = tmp_path / "results"
    first = take(tree, results)
    assert take(tree, results) == first
    assert first.parent == results / "code"
    assert len(first.name) == 12
    assert json.loads((first / "code.json").read_text())["hash"] == first.name

    (tree / "conf" / "algo" / "bc.yaml").write_text("label: bc\n")
    content_changed = take(tree, results)
    (tree / "conf" / "algo" / "bc.yaml").rename(tree / "conf" / "algo" / "bc2.yaml")
    path_changed = take(tree, results)
    assert len({first, content_changed, path_changed}) == 3


def test_a_results_folder_may_be_relative(tree):
    assert take(tree, "results").parent == tree / "results" / "code"


def test_a_process_given_a_snapshot_imports_nothing_of_the_tree(tree, tmp_path):
    """Although it is started in the tree, and the tests' own Python has an editable install."""
    taken = take(tree, tmp_path / "results")
    (tree / "lom_exp" / "__init__.py").write_text("raise RuntimeError('the tree of today')")
    (tree / "conf" / "config.yaml").write_text("today: 1\n")
    code = (
        "import lom_exp.overrides, analysis\n"
        "print(lom_exp.__file__, analysis.__file__, lom_exp.overrides.CONF, sep='\\n')"
    )
    assert run(taken, code, cwd=tree).splitlines() == [
        str(taken / "lom_exp" / "__init__.py"),
        str(taken / "analysis" / "__init__.py"),
        str(taken / "conf"),
    ]
    assert "today" not in (taken / "conf" / "config.yaml").read_text()


def test_a_module_run_in_the_tree_is_the_snapshot_s(tree, tmp_path):
    """`python -m` would look into the working folder first: PYTHONPATH alone does not do."""
    taken = take(tree, tmp_path / "results")
    (tree / "lom_exp" / "__init__.py").write_text("raise RuntimeError('the tree of today')")
    command = [sys.executable, "-m", "lom_exp.tracking", "--help"]
    variables = {key: os.environ[key] for key in os.environ if key != "PYTHONSAFEPATH"}
    variables |= snapshot.environment(taken, variables)
    subprocess.run(command, env=variables, cwd=tree, check=True, capture_output=True)

    del variables["PYTHONSAFEPATH"]
    done = subprocess.run(command, env=variables, cwd=tree, capture_output=True, text=True)
    assert "the tree of today" in done.stderr


def test_a_snapshot_comes_before_what_is_on_the_path_already():
    for inherited, path in (({}, "/code"), ({"PYTHONPATH": "/mine"}, f"/code{os.pathsep}/mine")):
        assert snapshot.environment(Path("/code"), inherited)["PYTHONPATH"] == path


def test_processes_that_take_a_snapshot_at_once_make_one(tree, tmp_path):
    processes = [start(tree, TAKE, tmp_path) for _ in range(6)]
    taken = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert [str(path) for path in (tmp_path / "code").iterdir()] == list(taken)


def test_a_process_killed_while_it_copies_leaves_no_snapshot(tree, tmp_path):
    """Writing a file longer than the limit kills it, as soon as the file comes."""
    (tree / "lom_exp" / "zz.py").write_text("#" * 300_000)
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    )
    process = start(tree, limit + TAKE, tmp_path)
    process.communicate()
    assert process.returncode < 0
    [remains] = (tmp_path / "code").iterdir()
    assert remains.name.startswith(".")
    assert (remains / "lom_exp" / "errors.py").exists()
    taken = take(tree, tmp_path)
    assert (taken / "lom_exp" / "zz.py").read_text() == "#" * 300_000


def test_a_disk_that_is_full_is_named_and_nothing_is_left(tree, tmp_path):
    (tree / "lom_exp" / "zz.py").write_text("#" * 300_000)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    _, errors = start(tree, limit + TAKE, tmp_path).communicate()
    error = errors.splitlines()[-1]
    assert error.startswith("lom_exp.launcher.snapshot.SnapshotError: cannot write a snapshot")
    assert f"{tmp_path}/code" in error
    assert "free the disk" in error
    assert list((tmp_path / "code").iterdir()) == []


def test_an_altered_snapshot_is_left_to_its_users_and_not_used_again(tree, tmp_path):
    first = take(tree, tmp_path)
    run(first, "import lom_exp.launcher.snapshot")  # Python's own caches are no alteration
    assert take(tree, tmp_path) == first

    errors = first / "lom_exp" / "errors.py"
    errors.unlink()
    errors.write_text("altered")
    second = take(tree, tmp_path)
    assert second.name == f"{first.name}-2"
    assert errors.read_text() == "altered"
    assert (second / "lom_exp" / "errors.py").read_text().startswith('"""Errors')
    assert take(tree, tmp_path) == second

    (second / "conf" / "more.yaml").write_text("a: 1")
    assert take(tree, tmp_path).name == f"{first.name}-3"
    shutil.rmtree(first / "conf")
    assert take(tree, tmp_path).name == f"{first.name}-3"


def test_files_of_a_snapshot_are_read_only(tree, tmp_path):
    taken = take(tree, tmp_path)
    assert (taken / "launch.py").stat().st_mode & 0o222 == 0


def test_results_that_cannot_be_written_are_named(tree, tmp_path):
    (tmp_path / "results").write_text("a file")
    _, errors = start(tree, TAKE, tmp_path / "results").communicate()
    error = errors.splitlines()[-1]
    assert f"cannot write a snapshot of the code to {tmp_path}/results/code" in error
    assert "results=" in error


def test_code_that_cannot_be_read_is_named(tree, tmp_path):
    (tree / "pyproject.toml").unlink()
    _, errors = start(tree, TAKE, tmp_path).communicate()
    assert f"{tree}/pyproject.toml" in errors.splitlines()[-1]
    assert "SnapshotError" in errors.splitlines()[-1]


VERSION = "from lom_exp.code_version import code_version; print(*code_version())"


def test_a_checkout_knows_its_commit_and_whether_it_was_changed(tree):
    head = commit(tree)
    (tree / "README.md").write_text("not code")
    assert run(tree, VERSION) == f"{head} False"
    (tree / "lom_exp" / "new.py").write_text("")
    assert run(tree, VERSION) == f"{head} True"


def test_code_outside_a_checkout_has_no_commit(tree):
    assert run(tree, VERSION, GIT_CEILING_DIRECTORIES=str(tree.parent)) == "None None"


def test_a_snapshot_knows_the_commit_it_was_taken_of_whatever_encloses_it(tree):
    head = commit(tree)
    started = time.time()
    taken = take(tree, tree / "results")
    (tree / "lom_exp" / "new.py").write_text("")
    assert commit(tree) != head
    assert run(taken, VERSION) == f"{head} False"
    record = json.loads((taken / "code.json").read_text())
    assert record["git_commit"] == head
    assert started <= record["time"] <= time.time()


def test_code_committed_after_it_was_first_run_has_that_commit(tree):
    first = commit(tree)
    (tree / "lom_exp" / "new.py").write_text("")
    taken = take(tree, tree / "results")
    assert run(taken, VERSION) == f"{first} True"
    second = commit(tree)
    assert take(tree, tree / "results") == taken
    assert run(taken, VERSION) == f"{second} False"
    (tree / "README.md").write_text("not code")
    commit(tree)
    take(tree, tree / "results")
    assert run(taken, VERSION) == f"{second} False"


def test_a_snapshot_taken_from_a_snapshot_keeps_its_commit(tree, tmp_path):
    head = commit(tree)
    first = take(tree, tree / "results")
    second = take(first, tmp_path / "elsewhere")
    assert second.name == first.name
    assert run(second, VERSION) == f"{head} False"


def test_taking_a_snapshot_needs_no_heavy_import(tree):
    code = "import sys, lom_exp.launcher.snapshot; print({'torch', 'hydra'} & set(sys.modules))"
    assert run(tree, code) == "set()"
