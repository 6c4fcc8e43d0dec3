"""Modules that the peers import and an update never uses, in the least form that lets them import.

Any attribute of a stand-in is a class that can be subclassed, subscripted and called as a
decorator, and any submodule is another stand-in. A few have to do a little more.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any


class Anything:
    """What a stand-in's attributes are; an instance returns what it is called on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __class_getitem__(cls, item: Any) -> type["Anything"]:
        return cls

    def __call__(self, decorated: Any) -> Any:
        return decorated


class StandIn(ModuleType):
    """A module in which every public name is there."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Anything,), {})
        setattr(self, name, made)
        return made


class BaseModel:
    """pydantic's, without its checks: fields with defaults, and a repr that names them."""

    def __init__(self, **values: Any) -> None:
        for name in type(self).__annotations__:
            setattr(self, name, values.get(name, getattr(type(self), name)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({vars(self)})"


class OmegaConf:
    """The peers read their settings from a command line that is not theirs here."""

    @staticmethod
    def from_cli() -> dict[str, Any]:
        return {}


def nothing(iterable: Any, **kwargs: Any) -> tuple[()]:
    """tqdm over no element: the authors' LOM pre-trains in its constructor, in such a loop."""
    return ()


MORE: dict[str, dict[str, Any]] = {
    "pydantic": {"BaseModel": BaseModel},
    "omegaconf": {"OmegaConf": OmegaConf},
    "tqdm": {"tqdm": nothing, "trange": nothing},
    "gym.version": {"VERSION": "0.26.2"},  # d3rlpy looks at both when it is imported
    "gymnasium": {"__version__": "1.0.0"},
}


class Finder:
    """Finds stand-ins for these packages and whatever is below them, before anything else does."""

    def __init__(self, packages: set[str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self.packages:
            return None
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for name, value in MORE.get(module.__name__, {}).items():
            setattr(module, name, value)


def install(*packages: str) -> None:
    """From now on in this process, importing these packages gives stand-ins.

    Those that something has imported already, as torch does tqdm, stay what they are for it.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder(set(packages)))  # type: ignore[arg-type]


def load(path: str, file: str) -> ModuleType:
    """A peer's file as a module, its repository's root importable.

    Raises FileNotFoundError, which names the file, where it is missing.
    """
    full = Path(path, file)
    if not full.is_file():
        raise FileNotFoundError(f"{full} does not exist")
    if path not in sys.path:
        sys.path.insert(0, path)
    name = "peer_" + file.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(name, full)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module
