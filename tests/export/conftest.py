"""Fixtures of the exported files: compiled programs, and the file of the dissector."""

from pathlib import Path

import pytest

from hcall_abi.export.dissector import dissector
from tests.export.compilers import Programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Return the programs of this process, none of which is compiled yet."""
    return Programs(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="session")
def lua(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the dissector."""
    path = tmp_path_factory.mktemp("lua") / "swpks.lua"
    path.write_text(dissector(), "utf-8")
    return path
