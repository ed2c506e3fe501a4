"""The seam of the components: a part of the machine that keeps a copy of the PKS root key (R-40)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hcall_server.platform.identity import SystemIdentity


class RootKeyComponent(Protocol):
    """A part of the machine that keeps a copy of the root key."""

    @property
    def name(self) -> str:
        """The name of the component in messages."""

    def read(self) -> SystemIdentity | None:
        """Return the identity in the component, None if it is new; StorageError if it is damaged."""

    def write(self, identity: SystemIdentity) -> None:
        """Replace the identity in the component; durable on return."""


class Components(NamedTuple):
    """The parts of one managed system that can be replaced."""

    anchor_card: RootKeyComponent
