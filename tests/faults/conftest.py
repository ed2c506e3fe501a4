"""Server processes for the tests of this folder: started at will, gone at the end of the test."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from swpks.testing import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server on a state folder, with these partitions and options; what is left running is killed."""
    servers = []

    def start(state: Path, partitions: Sequence[str] = (), options: Sequence[str] = ()) -> ServerProcess:
        servers.append(ServerProcess(state, partitions, options))
        return servers[-1].start()

    yield start
    for server in servers:
        server.kill()
