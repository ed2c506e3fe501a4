"""The two systems of the tests of custody, S and T. A custody says which system owns a partition."""

from __future__ import annotations

import pytest
import trio

from hcall_server.platform.custody import Word
from tests.custody.world import EMPTY, PASSWORD, WITH_A, E, Home


@pytest.fixture
async def s(nursery: trio.Nursery) -> Home:
    """The source: its partition `a` runs, and has objects and a password."""
    home = Home(nursery, WITH_A, b"s")
    await home.run(home.machine)
    guest = home.guest()
    assert guest.write(3, b"object", b"data").status == 0
    assert guest.set_password(3, PASSWORD).status == 0
    home.machine.encryptor.changed(home.a)
    assert await home.machine.encryptor.flush()
    return home


@pytest.fixture
async def t(nursery: trio.Nursery) -> Home:
    """The target system, without partitions."""
    home = Home(nursery, EMPTY, b"t")
    await home.run(home.machine)
    return home


class Stage:
    """Brings both systems into each state of a migration of partition `a` from S to T."""

    def __init__(self, s: Home, t: Home) -> None:
        self.s, self.t, self.uuid = s, t, s.uuid

    async def copying(self, epoch: int = E) -> None:
        """Begin the copy phase at S."""
        assert await self.s.take(self.uuid, Word.BEGIN, epoch)

    async def frozen(self, epoch: int = E) -> None:
        """Freeze `a` at S, which then waits for PREPARED."""
        await self.copying(epoch)
        assert await self.s.take(self.uuid, Word.AGREED, epoch, peer=self.t.id)

    async def in_doubt(self, epoch: int = E) -> None:
        """Freeze `a` at S, and abort the attempt there, so that S is in doubt."""
        await self.frozen(epoch)
        assert await self.s.take(self.uuid, Word.ABORT, epoch)

    async def prepared(self, epoch: int = E) -> None:
        """Let T store the copy of `a`, so that T is prepared."""
        await self.frozen(epoch)
        custodian = self.s.machine.custodian
        traveller, generation = custodian.traveller_of(self.s.a), custodian.standing(self.uuid).generation
        further = {"generation": generation, "peer": self.s.id, "traveller": traveller}
        assert await self.t.take(self.uuid, Word.FINAL, epoch, **further)

    async def released(self, epoch: int = E) -> None:
        """Let T own `a`, while S still has the store."""
        await self.prepared(epoch)
        generation = self.t.machine.custodian.standing(self.uuid).generation
        assert await self.s.take(self.uuid, Word.PREPARED, epoch, generation=generation)

    async def arrived(self, epoch: int = E) -> None:
        """Let T serve `a`."""
        await self.released(epoch)
        assert await self.t.take(self.uuid, Word.ACTIVATE, epoch)

    async def gone(self, epoch: int = E) -> None:
        """Let S remove everything that it has of `a`."""
        await self.arrived(epoch)
        assert await self.s.take(self.uuid, Word.ACTIVE, epoch)


@pytest.fixture
async def stage(s: Home, t: Home) -> Stage:
    """Both systems, before any migration."""
    return Stage(s, t)
