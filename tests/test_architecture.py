"""The floors: a module imports only from floors below its own, and algorithms know one run only."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

FLOORS: list[set[str]] = [
    {"errors", "cores", "handover", "types", "random", "networks", "distributions", "validation"}
    | {"critics", "policies", "mixtures", "autoencoders", "batch_norm", "precision", "modes"},
    {"files", "slurm", "leases", "runs", "sweeps", "checkpoints", "code_version", "rates"}
    | {"datasets", "envs", "tracking", "packs", "progress"}
    | {"overrides", "sources", "composition", "composition_errors"},
    {"algorithms", "runspec"},
    {"trainer", "evaluation", "packfiles", "plan", "checks", "automatic"},
    {"training", "experiment", "evaluator", "configuration", "trained"},
    {"worker", "launcher", "watch"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# Within a floor a module may import another one, but never back: those that do, and whom.
SAME_FLOOR = {
    "types": {"random"},
    "networks": {"random"},
    "critics": {"networks", "random", "types"},
    "policies": {"networks", "random"},
    "mixtures": {"networks", "random"},
    "autoencoders": {"networks", "random"},
    "batch_norm": {"networks"},
    "validation": {"errors"},
    "modes": {"errors"},
    "leases": {"files", "slurm"},
    "runs": {"files", "leases"},
    "sweeps": {"files", "leases"},
    "checkpoints": {"files"},
    "code_version": {"files"},
    "rates": {"files"},
    "tracking": {"files"},
    "plan": {"trainer"},
    "datasets": {
        "envs",
        "files",
        "code_version",
    },  # a generator steps the environment that will score its data
    "composition": {"sources"},
    "composition_errors": {"overrides"},
    "training": {"evaluator"},
    "experiment": {"training"},
}


def modules() -> list[Path]:
    return sorted((ROOT / "lom_exp").rglob("*.py"))


def unit(path: Path) -> str:
    """The module or package directly below lom_exp that a file belongs to."""
    return path.relative_to(ROOT / "lom_exp").parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Full names of what a file imports: modules, and names from modules."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_floors_below(path: Path) -> None:
    own = unit(path)
    if own == "__init__":
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "analysis":
            assert own == "launcher", f"{path} imports {name}: results are read from files"
        if parts[0] != "lom_exp" or parts[1] == own:
            continue
        below = FLOOR[parts[1]] < FLOOR[own] or parts[1] in SAME_FLOOR.get(own, set())
        assert below, f"{path} (floor {FLOOR[own]}) imports {name} (floor {FLOOR[parts[1]]})"


def test_every_module_has_its_floor() -> None:
    assert {unit(path) for path in modules()} - {"__init__"} == set(FLOOR)


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda p: p.name)
def test_analysis_reads_results_without_the_code_that_made_them(path: Path) -> None:
    code = ("lom_exp", "torch", "analysis.policies")  # figures of trained policies are apart
    assert not {name for name in imports(path) if name.startswith(code)}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "lom_exp" / "algorithms").glob("[!_]*.py")), ids=lambda p: p.stem
)
def test_an_algorithm_is_pure(path: Path) -> None:
    allowed = ("lom_exp.", "torch", "math", "dataclasses.", "typing.", "collections.abc.")
    assert all(name.startswith(allowed) for name in imports(path))
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"item", "detach", "cpu", "numpy", "manual_seed"}, (
                f"{path.name}:{node.lineno}: .{node.attr} has no place in an update"
            )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "open"}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            drawn = ast.unparse(node.func)
            assert drawn not in {"torch.randn", "torch.rand", "torch.randint", "torch.normal"}


def test_the_training_core_needs_no_hydra_simulator_or_tracker() -> None:
    program = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in {'hydra', 'omegaconf', 'mujoco', 'gymnasium', 'mlflow', 'submitit'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import lom_exp.trainer, lom_exp.algorithms, lom_exp.datasets, lom_exp.envs\n"
        "import lom_exp.evaluation, lom_exp.checkpoints\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
