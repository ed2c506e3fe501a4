"""The records of a small system in memory, ways to damage them, and what a start finds in them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import trio

from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card
from hcall_server.machine.logs import Log
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.guest import Chance, Guest

NAMES = ("a", "b", "c")
Held = frozenset[tuple[int, bytes, int, bytes]]
Records = Mapping[str, bytes]


class _System(NamedTuple):
    """A small system: its card, its high-water mark, its records before and after the last commit."""

    card: Card | None
    mark: tuple[bytes, ...]
    past: dict[str, bytes]
    now: dict[str, bytes]


@functools.cache
def _system() -> _System:
    async def fill() -> _System:
        nvram, card, past = MemoryNvram(), MemoryCard(), dict[str, bytes]()
        wishes = tuple(PartitionSettings.of(name, 8, auto_start=True) for name in NAMES)
        seams = simulated_seams(nvram=nvram, card=card, entropy=Chance(b"records"))
        machine = assemble(seams, Settings(partition=wishes))
        for partition in machine.system.partitions.values():
            partition.power_on()
        for _ in range(2):
            past = nvram.load()
            for partition in machine.system.partitions.values():
                guest = Guest(partition)
                made = guest.write(3, b"label %d" % nvram.commits, partition.name.encode() * 40)
                assert made.status == 0
                machine.after_calls(partition, Log())
            assert await machine.encryptor.flush()
        return _System(card.held, nvram.mark.slots(), past, nvram.load())

    return trio.run(fill)


def sound() -> dict[str, bytes]:
    """Return the records after the last commit."""
    return dict(_system().now)


@functools.cache
def contents() -> dict[str, Held | None]:
    """Return the contents of each partition."""
    return recovered(sound())


def recovered(records: Records) -> dict[str, Held | None]:
    """Return the contents that a start finds, by name, with None for a refused partition.

    Errors of the start are raised. A partition with an unreadable name has a placeholder name.
    """
    nvram = MemoryNvram(records)
    nvram.mark.held = list(_system().mark)
    card = MemoryCard(_system().card)
    seams = simulated_seams(nvram=nvram, card=card, entropy=Chance(b"start"))
    found: dict[str, Held | None] = {}
    for partition in assemble(seams, Settings()).system.partitions.values():
        if partition.refused:
            assert partition.refused.rule.id
            found[partition.name] = None
        else:
            keystore = partition.keystore
            found[partition.name] = frozenset(keystore.contents.snapshot().objects if keystore else ())
    return found


def damage(records: Records, data: bytes) -> dict[str, bytes]:
    """Return damaged records. `data` chooses the damages, each of one of seven ways, and their places."""
    damaged, past, at = dict(records), _system().past, 0
    while len(data) - at >= 4 and damaged:
        way, which, place, value = data[at : at + 4]
        at += 4
        names = sorted(damaged)
        name, other = names[which % len(names)], names[value % len(names)]
        blob = damaged[name]
        offset = place * 7 % (len(blob) or 1)
        match way % 7:
            case 0:
                damaged[name] = blob[:offset] + bytes([value]) + blob[offset + 1 :]
            case 1:
                damaged[name] = blob[:offset]
            case 2:
                damaged[name], damaged[other] = damaged[other], blob
            case 3:
                del damaged[name]
            case 4:
                damaged[name + chr(value)] = blob
            case 5:
                damaged[name] = past.get(name, b"")
            case _:
                rest = data[at : at + value]
                damaged[name], at = blob[:offset] + rest + blob[offset + len(rest) :], at + value
    return damaged


def seeds() -> list[bytes]:
    """Return bytes that choose each way of damage."""
    return [bytes([way, which, 30, 9]) for way in range(7) for which in range(8)] + [b""]
