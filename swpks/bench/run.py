"""One run of `swpks bench`: on a partition of a running server, or of one that is started for it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from swpks.bench.cases import CASES, Case, Figure
from swpks.bench.clients import BenchClient, measure
from swpks.bench.sessions import BenchSession
from swpks.bench.tenant import Tenant
from swpks.testing.process import ServerProcess
from swpks.testing.short_paths import short_path

PARTITION = "bench"
KBYTES = 64


def run_bench(
    path: str | os.PathLike[str],
    password: bytes,
    seconds: float,
    timeout: float,
    announce: Callable[[str], None],
    *,
    disposable: bool = False,
) -> list[Figure]:
    """Measure a partition at its Unix socket, `seconds` a case; `announce` is called with the title of each.

    A `disposable` partition is not cleaned up.

    Raises BenchRefused, HcallError and other SwpksErrors, and OSError if there is no server.
    """
    with Tenant(path, password, timeout, disposable=disposable) as tenant:
        return [_measured(path, tenant, case, seconds, timeout, announce) for case in CASES]


def _measured(
    path: str | os.PathLike[str],
    tenant: Tenant,
    case: Case,
    seconds: float,
    timeout: float,
    announce: Callable[[str], None],
) -> Figure:
    announce(case.title)
    with ExitStack() as stack:
        clients = []
        for number in range(case.sessions):
            # A label of its own for each session: two writers of one label would refuse each other.
            requests, again = tenant.requests(case.call, number)
            session = stack.enter_context(BenchSession(path, timeout))
            clients.append(BenchClient(session, requests * case.depth, again))
        return measure(case, clients, seconds, timeout)


@contextmanager
def own_server() -> Iterator[Path]:
    """Start a server with one partition for the length of a block; yield the partition's socket."""
    # A long TMPDIR would leave no room for the socket.
    with tempfile.TemporaryDirectory(prefix="swpks-bench-") as made, short_path(Path(made)) as folder:
        server = ServerProcess(folder / "state", [f"{PARTITION}:{KBYTES}"])
        server.start()
        try:
            yield server.socket(PARTITION)
        finally:
            server.stop()
