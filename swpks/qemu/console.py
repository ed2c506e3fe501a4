"""Power and IPL of one partition, over the control channel of swpks (spec/control.md#power).

A machine that is reset is a partition with an IPL; one that ends is a partition without power.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import trio

from hcall_abi.consumers import SecureBoot
from swpks.qemu.errors import PartitionUnusable

if TYPE_CHECKING:
    import httpx

PATIENCE = 60.0
"""Seconds that a server may be away, being started again, before this gives up."""
PAUSE = 0.1
"""Seconds between two tries."""


class Console:
    """The management console of one partition; raises PartitionUnusable with what the server says."""

    def __init__(self, socket: Path, name: str, patience: float = PATIENCE) -> None:
        self.socket = socket
        self.name = name
        self.patience = patience

    def __repr__(self) -> str:
        return f"Console({self.socket}, {self.name!r})"

    async def check(self, kbytes: int | None = None) -> None:
        """Look whether there is such a partition, with a keystore of `kbytes` KiB if that is given."""
        view = await self._ask("GET", "")
        if refused := view.get("refused"):
            raise PartitionUnusable(f"{self.name} is refused: {refused['detail']}", refused["rule"])
        if kbytes not in (None, view.get("keystore_kbytes")):
            message = f"the keystore of {self.name} has {view.get('keystore_kbytes')} KiB, not {kbytes}"
            raise PartitionUnusable(message, "the sizes at a running server are set by its console")

    async def ipl(self) -> None:
        """Restart the partition, or start it where it is off."""
        view = await self._ask("GET", "")
        await self._ask("POST", "/ipl" if view.get("power") == "running" else "/power-on")

    async def secure_boot(self) -> SecureBoot:
        """Return the secure-boot mode of the current IPL."""
        mode = (await self._ask("GET", "")).get("curr_secure_boot")
        try:
            return SecureBoot[str(mode).upper()]
        except KeyError:
            raise PartitionUnusable(f"the control channel tells a secure-boot mode {mode!r}") from None

    async def power_off(self) -> None:
        """Stop the partition where it runs; a server that is away is not waited for."""
        if (await self._ask("GET", "", patience=0)).get("power") == "running":
            await self._ask("POST", "/power-off", patience=0)

    async def _ask(self, method: str, verb: str, patience: float | None = None) -> dict[str, Any]:
        """Send a request, again and again for some seconds while nobody serves the socket."""
        import httpx

        path = f"/v1/partitions/{quote(self.name, safe='')}{verb}"
        deadline = trio.current_time() + (self.patience if patience is None else patience)
        while True:
            try:
                async with _client(self.socket) as client:
                    return _content(await client.request(method, path))
            except httpx.TransportError as error:
                if trio.current_time() >= deadline:
                    raise PartitionUnusable(f"no server at {self.socket}: {error}") from None
            await trio.sleep(PAUSE)


def _client(socket: Path) -> httpx.AsyncClient:
    import httpx

    from hcall_client.control_socket import BASE_URL, transport_options

    transport = httpx.AsyncHTTPTransport(**transport_options(socket))
    return httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=30.0, trust_env=False)


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise PartitionUnusable(f"the control channel answers {answer.status_code} without saying more")
    if not answer.is_success:
        raise PartitionUnusable(str(content.get("detail") or content.get("title") or answer.status_code))
    return content
