"""The fixtures that other projects get by installing swpks; imported by pytest through its entry point.

`pks_partition`   a fresh partition inside the test's process (an asynchronous fixture for pytest-trio)
`pks_console`     a management console with two systems, `a` and `b`, in the test's process as well
`swpks_server`    a real server process with one partition, `lpar1` of 64 KiB

A mark changes the defaults for a test:

    @pytest.mark.pks_partition(level="FW950", kbytes=8, faults=["READ_OBJECT=H_BUSY,times=3"])
    @pytest.mark.pks_console(partitions={"a": ["lpar1", "lpar2"], "b": []}, level="FW1030")
    @pytest.mark.swpks_server(partitions=["a:4", "b:64"], options=["--firmware", "FW950"])

This module loads only pytest.  The first test that uses a fixture loads the rest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from swpks.testing import EmulatedConsole, EmulatedPartition, ServerProcess

_MARKS = (
    "pks_partition(name, level, kbytes, secure_boot, ...): what the fixture's partition is like",
    "pks_console(partitions, level, kbytes, ...): what the systems of the fixture's console are like",
    "swpks_server(partitions, options): how the fixture's server process is started",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)


def _wishes(request: pytest.FixtureRequest, mark: str) -> dict[str, Any]:
    """Return the keyword arguments of the test's nearest mark of that name."""
    found = request.node.get_closest_marker(mark)
    return dict(found.kwargs) if found else {}


@pytest.fixture
async def pks_partition(request: pytest.FixtureRequest) -> AsyncIterator[EmulatedPartition]:
    """A fresh, powered-on partition over memory streams, with an open channel."""
    from swpks.testing import emulated_partition

    async with emulated_partition(**_wishes(request, "pks_partition")) as partition:
        yield partition


@pytest.fixture
async def pks_console(request: pytest.FixtureRequest) -> AsyncIterator[EmulatedConsole]:
    """A running management console with two powered-on systems; none of it leaves the test's process."""
    from swpks.testing import emulated_console

    async with emulated_console(**_wishes(request, "pks_console")) as console:
        yield console


@pytest.fixture
def swpks_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A running server process on a state folder of its own; killed at the end if it still runs."""
    from swpks.testing import ServerProcess

    server = ServerProcess(tmp_path / "state", **_wishes(request, "swpks_server"))
    try:
        yield server.start()
    finally:
        server.kill()
