"""A component that lives as long as its object: for tests and simulations."""

from __future__ import annotations

from hcall_server.platform.identity import SystemIdentity


class MemoryCard:
    """An anchor card without a file.  It outlives the system that uses it, as the real card does."""

    name = "anchor card"

    def __init__(self, held: SystemIdentity | None = None) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"MemoryCard({self.held!r})"

    def read(self) -> SystemIdentity | None:
        """Return the identity on the card, None if it is new."""
        return self.held

    def write(self, identity: SystemIdentity) -> None:
        """Replace the identity on the card."""
        self.held = identity
