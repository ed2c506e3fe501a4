"""Makes the bodies of the control channel from the machine's objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from hcall_abi.console import SECURE_BOOT_MODES
from hcall_abi.consumers import Consumer
from hcall_abi.control_views import (
    AccessStepView,
    ComponentsView,
    ComponentView,
    ConsoleLinkView,
    ConsumerName,
    CopyView,
    CustodyName,
    CustodyView,
    FaultView,
    HealthView,
    KeptCopyView,
    KeystoreView,
    PartitionView,
    SystemView,
    TraceView,
    Trouble,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.counts import counted
from hcall_abi.errors import SwpksError
from hcall_abi.faults import BusyFault
from hcall_server import __version__
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.faults.plan import FaultProgress
from hcall_server.keystore.store import Keystore
from hcall_server.machine.attachment import ConsoleLink
from hcall_server.machine.backups import StoreCopy
from hcall_server.machine.tracing import TraceFacts
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.identity import machine_type_serial
from hcall_server.platform.partition import Partition
from hcall_server.platform.system_state import SystemState
from hcall_server.writeback.health import Health

if TYPE_CHECKING:
    from hcall_server.machine.custodian import CustodyFacts
    from hcall_server.machine.machine import Machine

_CONSUMERS: dict[Consumer, ConsumerName] = {
    Consumer.FIRMWARE: "firmware",
    Consumer.BOOT_LOADER: "boot-loader",
    Consumer.OPERATING_SYSTEM: "os",
}


def partition_view(machine: Machine, partition: Partition) -> PartitionView:
    """Return a partition as the console shows it."""
    plan = machine.faults.get(partition.number)
    custody, mode = machine.shown_custody(partition)
    arrives = custody is Custody.PREPARED
    return PartitionView(
        number=partition.number,
        name=partition.name,
        uuid=str(partition.profile.uuid),
        power="running" if partition.running else "off",
        custody=_custody_name(custody),
        mode=mode.value,
        # A partition that is about to arrive has its address already.  So clients can connect before its
        # first call is answered.
        address=machine.transport.address(partition.name) if partition.running or arrives else "",
        ipl_count=partition.ipl_count,
        restores=partition.profile.restores,
        generation=partition.profile.image_generation,
        auto_start=partition.auto_start,
        curr_secure_boot=SECURE_BOOT_MODES[partition.secure_boot],
        keystore=_keystore_view(partition.keystore),
        copy=_kept_view(machine, partition),
        refused=_trouble(partition.refused),
        faults=[_fault_view(planned) for planned in plan.planned] if plan else [],
        **vars(partition.attributes),
    )


def system_view(machine: Machine) -> SystemView:
    """Return a managed system with its partitions, in the order of their numbers."""
    system = machine.system
    partitions = sorted(system.partitions.values(), key=lambda partition: partition.number)
    return SystemView(
        name=system.name,
        type_model_serial=machine_type_serial(system.system_id),
        state=system.state.value,
        restored=sorted(system.restored),
        lost=machine.recovery.lost if system.state is SystemState.RECOVERY else [],
        console=_link_view(machine.attachment.link),
        system_id=system.system_id.hex(),
        firmware_level=system.level.name,
        total_kbytes=system.total_kbytes,
        assigned_kbytes=system.assigned_kbytes,
        partitions=[partition_view(machine, partition) for partition in partitions],
        custody=[_custody_view(each) for each in machine.custody_facts()],
        mobility=machine.peers.address if machine.peers else "",
    )


def _custody_view(facts: CustodyFacts) -> CustodyView:
    return CustodyView(
        uuid=str(facts.uuid),
        name=facts.name or str(facts.uuid),
        custody=_custody_name(facts.custody),
        mode=facts.mode.value,
        epoch=facts.epoch,
        generation=facts.generation,
        peer_id=facts.peer.hex(),
        tried=facts.tried,
        trouble=facts.trouble,
        row=facts.row,
    )


def _custody_name(custody: Custody) -> CustodyName:
    return cast(CustodyName, custody.name.lower())


def components_view(machine: Machine) -> ComponentsView:
    """Return the replaceable parts as the last start found them, and the steps of that start."""
    access = machine.access
    return ComponentsView(
        decision=access.row,
        components=[ComponentView(**part._asdict()) for part in access.parts],
        steps=[AccessStepView(step=step.number, finding=step.text) for step in access.steps],
    )


def trusted_key_view(machine: Machine) -> TrustedKeyView:
    """Return the id of the trusted system key, and the key sealed for the console."""
    key = machine.backups.key
    return TrustedKeyView(id=key.id.hex() if key else None, sealed=machine.backups.sealed_key())


def copy_view(copy: StoreCopy) -> CopyView:
    """Return a console copy with its clear facts."""
    header, blob = copy
    return CopyView(
        uuid=str(header.uuid),
        trusted_key_id=header.tsk_id.hex(),
        restores=header.restores,
        generation=header.generation,
        time=header.time,
        keystore_kbytes=header.kbytes,
        firmware_level=header.firmware,
        copy=blob,
    )


def health_view(machine: Machine) -> HealthView:
    """Return the health, with a reason for each problem."""
    partitions = machine.system.partitions.values()
    writeback = machine.encryptor.health
    reasons = list(_reasons(machine, writeback))
    return HealthView(
        ok=not reasons,
        reasons=reasons,
        version=__version__,
        firmware_level=machine.system.level.name,
        partitions=len(partitions),
        running=sum(partition.running for partition in partitions),
        writeback=writeback_view(machine),
        console=_link_view(machine.attachment.link),
    )


def _nvram_reasons(machine: Machine, writeback: Health) -> Iterator[str]:
    if (owner := machine.nvram.ownership) and owner.over:
        yield "NVRAM: another server may own this system now: stop this one, or start it with --standby"
    if not writeback.ok:
        yield f"NVRAM ({writeback.state}): {writeback.last_error or 'changes wait too long'}"


def _reasons(machine: Machine, writeback: Health) -> Iterator[str]:
    yield from _nvram_reasons(machine, writeback)
    if machine.system.state is not SystemState.OPERATING:
        yield f"the system is in the state {machine.system.state.value}"
    for part in machine.access.parts:
        if not part.ok:
            yield f"{part.name}: {part.detail}"
    for partition in machine.system.places.values():
        if partition.refused:
            yield f"partition {partition.name}: {partition.refused.message}"
        if partition.mode in (Mode.ASKING, Mode.IN_DOUBT):
            yield f"partition {partition.name}: it waits for its console ({partition.mode.value})"
    for name in machine.unconfirmed:
        yield f"partition {name}: it was started without the console (--without-console)"
    for partition in machine.waiting:
        yield f"partition {partition.name}: it starts as soon as NVRAM has stored its IPL count"


def _link_view(link: ConsoleLink | None) -> ConsoleLinkView | None:
    if link is None:
        return None
    return ConsoleLinkView(id=link.id, name=link.name, connected=link.connected, since=int(link.since))


def _kept_view(machine: Machine, partition: Partition) -> KeptCopyView | None:
    kept = machine.attachment.kept(partition.profile.uuid)
    if kept is None:
        return None
    return KeptCopyView(restores=kept.restores, generation=kept.generation, time=kept.time)


def _keystore_view(keystore: Keystore | None) -> KeystoreView | None:
    if keystore is None:
        return None
    return KeystoreView(
        total_bytes=keystore.contents.limits.total_size,
        used_bytes=keystore.contents.used,
        objects=keystore.contents.object_count,
        generation=keystore.contents.generation,
        flushed=keystore.contents.flushed,
        passwords=[_CONSUMERS[Consumer(number)] for number, _ in keystore.access.passwords.items()],
    )


def _fault_view(planned: FaultProgress[BusyFault]) -> FaultView:
    fault = planned.fault
    return FaultView(
        hcall=fault.call.name,
        status=fault.status.name,
        nth=fault.nth,
        times=fault.times,
        seconds=fault.seconds,
        seen=planned.seen,
        answered=planned.answered,
        spent=planned.spent,
    )


def _trouble(error: SwpksError | None) -> Trouble | None:
    if error is None:
        return None
    rule = error.rule
    return Trouble(detail=error.message, rule_id=rule.id, rule=rule.sentence, section=rule.page)


def trace_view(partition: Partition, facts: TraceFacts, *, on: bool) -> TraceView:
    """Return the trace of a partition; `on`: it was begun by this request."""
    return TraceView(
        partition=partition.name,
        running=partition.running,
        on=on and not facts.ended,
        file=facts.file,
        secrets=facts.secrets,
        frames=facts.frames,
        lost=facts.lost,
        bytes=facts.size,
        ended=facts.ended or None,
    )


def writeback_view(machine: Machine) -> WritebackView:
    """Return the state of writing to NVRAM."""
    health = machine.encryptor.health
    return WritebackView(
        state=health.state,
        pending=health.pending,
        commits=health.commits,
        failures=health.failures,
        oldest_pending_seconds=round(health.oldest_pending, 3),
        last_error=health.last_error,
        fault=_nvram_fault(machine.nvram),
    )


def _nvram_fault(nvram: FaultyNvram) -> str | None:
    """Return the active fault of NVRAM in words, None if there is none."""
    planned = nvram.active()
    if planned is None:
        return None
    fault = planned.fault
    if fault.times is None:
        return f"{fault.trouble} until it is ended"
    return f"{fault.trouble}, {counted(fault.times - planned.answered, 'commit')} to go"
