"""Rules about the root key's copies, Recovery and restores, broken at machines whose parts are in memory."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path

from hcall_abi.faults import NvramFault
from hcall_abi.rules.rule import Rule
from hcall_client import console
from hcall_server.components.memory import MemoryCard, MemoryTpm
from hcall_server.components.seam import Card
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import wrapped_name
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.cli import hmc
from swpks.testing.seams import simulated_seams
from tests.rules.breaking import Break, Breaks, breaks, refused, refused_late, run
from tests.service.folder import assembled

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))
KEY, OTHER = TrustedSystemKey(bytes(32)), TrustedSystemKey(bytes(range(32)))


class Parts:
    """The parts of a system; they stay when a machine is started anew."""

    def __init__(self, nvram: MemoryNvram | None = None) -> None:
        self.nvram, self.card, self.tpm = nvram or MemoryNvram(), MemoryCard(), MemoryTpm()

    def start(self, settings: Settings = SETTINGS) -> Machine:
        """Return a machine that has started with these parts."""
        return assemble(simulated_seams(nvram=self.nvram, card=self.card, tpms=[self.tpm]), settings)


class _LosesWrapped(MemoryNvram):
    """NVRAM that loses the wrapped copy of the root key."""

    def load(self) -> dict[str, bytes]:
        """Return the records without the wrapped copy."""
        return {name: blob for name, blob in super().load().items() if name != wrapped_name(1)}


def _another_card(_: Path) -> Rule:
    parts = Parts()
    parts.start()
    parts.card.held = Card(SystemIdentity(bytes(16), bytes(32)))
    return refused(parts.start)


def _card_and_tpm_new(_: Path) -> Rule:
    parts = Parts()
    parts.start()
    parts.card, parts.tpm = MemoryCard(), MemoryTpm()
    return refused(parts.start)


def _two_layouts(folder: Path) -> Rule:
    with assembled(folder / "state"):
        pass
    (folder / "state" / "nvram.sqlite").touch(mode=0o600)
    return refused(lambda: assembled(folder / "state").__enter__())


def started(then: Callable[[Machine], Awaitable[object]], settings: Settings = SETTINGS) -> Break:
    """Return a function that breaks a rule: `then` makes a request to a new system with these settings."""

    async def broken() -> Rule:
        return await refused_late(then(Parts().start(settings)))

    return lambda _: run(broken)


def recovering(then: Callable[[Machine], Awaitable[object]]) -> Break:
    """Return a function that breaks a rule: `then` makes a request to a system in the state Recovery."""

    async def broken() -> Rule:
        machine = Parts().start(Settings())
        await machine.recovery.begin()
        return await refused_late(then(machine))

    return lambda _: run(broken)


async def _create(machine: Machine) -> None:
    machine.changes.create("b")


async def _copy(machine: Machine) -> None:
    machine.changes.create("b")
    await machine.backups.copy_of("b")


async def _restore_running(machine: Machine) -> None:
    copy = await machine.backups.copy_of("a")
    machine.power_on("a")
    await machine.backups.restore(copy.blob)


async def _restore_behind(machine: Machine) -> None:
    copy = await machine.backups.copy_of("a")
    await machine.backups.restore(copy.blob)
    await machine.backups.restore(copy.blob, older=False)


async def _delete_in_trouble(machine: Machine) -> None:
    machine.set_nvram_fault(NvramFault("full", times=99))
    await machine.changes.delete("a")


async def _restore_key_running(machine: Machine) -> None:
    machine.power_on("a")
    await machine.backups.restore_key(KEY)


async def _change_in_trouble(machine: Machine) -> None:
    machine.set_nvram_fault(NvramFault("full", times=99))
    await machine.backups.change_key(KEY)


def _no_file(folder: Path) -> Rule:
    parser = argparse.ArgumentParser()
    hmc.add_parser(parser.add_subparsers())
    return refused(hmc.ask_of, parser.parse_args(["hmc", "restore", str(folder / "nothing")]))


BREAKS: Breaks = {
    "root-key.agree": _another_card,
    "root-key.readable": _card_and_tpm_new,
    "root-key.stored": lambda _: refused(Parts(_LosesWrapped()).start),
    "state.layout": _two_layouts,
    "system.name-form": breaks(Settings, name="a*b"),
    "tpm.count": breaks(Settings, tpm=("embedded",) * 3),
    "system.operating": recovering(_create),
    "recovery.state": started(lambda machine: machine.recovery.end(give_up=True)),
    "recovery.complete": recovering(lambda machine: machine.recovery.end(give_up=False)),
    "trusted-key.set": started(_copy, Settings()),
    "trusted-key.sealed": started(lambda machine: machine.backups.return_key(b"no key")),
    "trusted-key.old": started(lambda machine: machine.backups.change_key(KEY, OTHER)),
    "trusted-key.idle": started(_restore_key_running),
    "trusted-key.operation": breaks(console.set_trusted_key, "change"),
    "partition.stored": started(_delete_in_trouble),
    "copy.behind": started(_restore_behind),
    "copy.idle": started(_restore_running),
    "backup.file": _no_file,
    "backup.stored": started(_change_in_trouble),
}
