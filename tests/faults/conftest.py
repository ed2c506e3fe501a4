"""Server processes for the tests of faults: started by the test, killed at its end."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from swpks.testing import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server with these partitions and options; running ones are killed at the end."""
    servers = []

    def start(state: Path, partitions: Sequence[str] = (), options: Sequence[str] = ()) -> ServerProcess:
        servers.append(ServerProcess(state, partitions, options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()
