"""Fixtures of the C programs: one folder of compiled programs for each process of the test run."""

import pytest

from tests.export.compilers import Programs


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Return the programs of this process, none of which is compiled yet."""
    return Programs(tmp_path_factory.mktemp("c"))
