"""Breakpoints that are set and cleared together."""

from __future__ import annotations

from collections.abc import Iterable

from swpks.qemu.stub import Stub


class BreakpointGroup:
    """Breakpoints at some addresses; `set` and `clear` may be repeated.

    The stub counts: it keeps a breakpoint that was set twice until it is cleared twice.
    """

    def __init__(self, stub: Stub, addresses: Iterable[int]) -> None:
        self._stub = stub
        self.addresses = tuple(dict.fromkeys(addresses))
        self._are_set = False

    async def set(self) -> None:
        """Set all breakpoints of the group, unless they are set."""
        if not self._are_set:
            self._are_set = True
            for address in self.addresses:
                await self._stub.set_breakpoint(address)

    async def clear(self) -> None:
        """Clear all breakpoints of the group, unless they are clear."""
        if self._are_set:
            self._are_set = False
            for address in self.addresses:
                await self._stub.clear_breakpoint(address)
