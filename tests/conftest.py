"""Fixtures that every test file may use."""

from collections.abc import Iterator

import pytest
import torch

# A real Slurm, started once for all tests that use it.
from slurm_cluster import (  # noqa: F401
    accounting,
    cluster,
    running_accounting,
    running_cluster,
)

LONGEST_FILES = (
    *("test_slurm_sweeps.py", "test_compiled.py", "test_local_sweeps.py", "test_faults.py"),
    "test_peers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that none of several processes ends with them."""
    items.sort(key=lambda item: item.path.name not in LONGEST_FILES)  # and else as they were


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks of the tests are too small for threads to pay."""
    torch.set_num_threads(1)


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision by default, for tests of exact formulas."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
