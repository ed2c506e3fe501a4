"""Server processes for the tests of faults: the test starts them, and the fixture kills them at its end."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from swpks.testing import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Return a function that starts a server with these partitions and options.

    At the end of the test, servers that still run are killed.
    """
    servers = []

    def start(state: Path, partitions: Sequence[str] = (), options: Sequence[str] = ()) -> ServerProcess:
        servers.append(ServerProcess(state, partitions, options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()
