"""The seam of the components: a part of the machine that keeps a copy of the PKS root key (R-40)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hcall_server.platform.identity import SystemIdentity


class RootKeyComponent(Protocol):
    """A part of the machine that keeps a copy of the root key."""

    @property
    def name(self) -> str:
        """What people call the component."""

    def read(self) -> SystemIdentity | None:
        """Return what the component holds, None when it is new; raises when it is damaged."""

    def write(self, identity: SystemIdentity) -> None:
        """Replace what the component holds; durable on return."""


class Components(NamedTuple):
    """The parts of one managed system that can be replaced."""

    anchor_card: RootKeyComponent
