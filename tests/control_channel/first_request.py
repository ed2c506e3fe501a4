"""The cost of the first request, measured in a fresh process: one line of JSON.

Meanwhile data calls run in the same event loop, as fast as they can. `longest_gap_ms` is the longest time
between two of them. With the argument `quiet` no data calls run.  Run the program by hand for the figures;
test_serve.py checks the results that hold on any machine.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "spec")]

import trio  # noqa: E402

from hcall_client.calls import get_config  # noqa: E402
from hcall_client.channel import open_channel  # noqa: E402
from hcall_server.control_channel.serve import serve_control  # noqa: E402
from hcall_server.data_channel.memory import MemoryTransport  # noqa: E402
from hcall_server.service.assembly import assemble  # noqa: E402
from hcall_server.service.settings import PartitionSettings, Settings  # noqa: E402
from swpks.testing.seams import simulated_seams  # noqa: E402

STACK = {"starlette", "hypercorn", "msgspec", "anyio", "h2", "httpx", "prometheus_client"}
REQUEST = b"GET %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def memory() -> float:
    """Return resident memory in MB."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


async def timed(path: str, target: bytes) -> float:
    """Return the milliseconds that one request takes, from connecting to the end of its answer."""
    began = time.perf_counter()
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(REQUEST % target)
        answer = b"".join([bytes(chunk) async for chunk in stream])
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return (time.perf_counter() - began) * 1000


class Caller:
    """Makes data calls while it runs."""

    def __init__(self) -> None:
        self.calls = 0
        self.longest = 0.0

    async def run(self, stream: trio.abc.Stream) -> None:
        """Make one call after the other."""
        async with open_channel(stream) as channel:
            while True:
                began = time.perf_counter()
                await channel.call(get_config())
                self.calls += 1
                self.longest = max(self.longest, (time.perf_counter() - began) * 1000)


async def measure(listener: socket.socket, path: str) -> dict[str, object]:
    """Return the figures."""
    transport = MemoryTransport()
    settings = Settings(partition=(PartitionSettings.of("a", 64),))
    machine = assemble(simulated_seams(transport=transport), settings)
    caller = Caller()
    async with trio.open_nursery() as nursery:
        await nursery.start(machine.run)
        machine.start()
        await nursery.start(serve_control, machine, listener)
        if "quiet" not in sys.argv:
            nursery.start_soon(caller.run, transport.connect("a"))
            while caller.calls < 100:
                await trio.lowlevel.checkpoint()
        before, memory_before, loaded = caller.calls, memory(), sorted(STACK & sys.modules.keys())
        caller.longest = 0.0
        first = await timed(path, b"/health")
        figures: dict[str, object] = {
            "first_ms": round(first, 1),
            "first_mb": round(memory() - memory_before, 1),
            "calls_meanwhile": caller.calls - before,
            "longest_gap_ms": round(caller.longest, 1),
            "loaded_before": loaded,
            "loaded_after": sorted(STACK & sys.modules.keys()),
            "second_ms": round(await timed(path, b"/health"), 2),
            "first_metrics_ms": round(await timed(path, b"/metrics"), 1),
        }
        figures["with_metrics_mb"] = round(memory() - memory_before, 1)
        nursery.cancel_scope.cancel()
    return figures


def main() -> None:
    """Measure once and print."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = str(Path(folder) / "control.sock")
        listener.bind(path)
        listener.listen()
        print(json.dumps(trio.run(measure, listener, path)))


if __name__ == "__main__":
    main()
