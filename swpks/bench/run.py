"""One run of `swpks bench`: on a partition of a running server, or of a server started for the run."""

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
    """Return the figures of all cases, measured on the partition at this Unix socket.

    Each case takes `seconds`.  `announce` is called with the title of each case before it begins.  In a
    `disposable` partition the benchmark leaves its objects.

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
            # Each session writes to its own label: the second WRITE of a shared label would be refused.
            requests, again = tenant.requests(case.call, number)
            session = stack.enter_context(BenchSession(path, timeout))
            clients.append(BenchClient(session, requests * case.depth, again))
        return measure(case, clients, seconds, timeout)


@contextmanager
def own_server() -> Iterator[Path]:
    """Run a server with one partition for the length of the `with` block; yield the partition's socket."""
    # A long TMPDIR would make the path too long for a Unix socket.
    with tempfile.TemporaryDirectory(prefix="swpks-bench-") as made, short_path(Path(made)) as folder:
        server = ServerProcess(folder / "state", [f"{PARTITION}:{KBYTES}"])
        server.start()
        try:
            yield server.socket(PARTITION)
        finally:
            server.stop()
