"""The fields of the ready line (spec/service.md#ready)."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from hcall_server import __version__
from hcall_server.data_channel.listeners import Listeners
from hcall_server.machine.machine import Machine

if TYPE_CHECKING:
    from hcall_server.platform.system import ManagedSystem


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ready_fields(
    machine: Machine,
    listeners: Listeners,
    others_reach: str,
    others: list[socket.socket],
    control: socket.socket,
    control_tcp: socket.socket | None,
    metrics: socket.socket | None,
) -> dict[str, Any]:
    """Return the fields of a server whose sockets all listen."""
    system = machine.system
    tcp = [each for each in others if each.family != socket.AF_UNIX]
    return {
        "version": __version__,
        "pid": os.getpid(),
        "name": system.name,
        "state": system.state.value,
        "firmware": system.level.name,
        "sockets": listeners.paths,
        "control": control.getsockname(),
        "control_tcp": _address(control_tcp) if control_tcp else None,
        "metrics": _address(metrics) if metrics else None,
        "mobility": others_reach or None,
        "tcp": [_address(each) for each in tcp],
        "tcp_port": tcp[0].getsockname()[1] if tcp else None,
        "partitions": list(system.partitions),
        "running": [each.name for each in system.partitions.values() if each.running],
        "refused": {each.name: each.refused.message for each in system.partitions.values() if each.refused},
        "keystore_off": _without_keystore(system),
        "unserved": _unserved(machine),
    }


def _unserved(machine: Machine) -> dict[str, dict[str, Any]]:
    """Return the custody of each partition that this system may not serve now, and its console."""
    stands = {each.name for each in machine.system.partitions.values() if not each.may_serve}
    if not stands:  # then attachment and custodian are not loaded
        return {}
    link = machine.attachment.link
    console = {"name": link.name, "id": link.id} if link else None
    facts = {each.name: each for each in machine.custody_facts() if each.name in stands}
    return {
        name: {
            "custody": each.custody.name.lower(),
            "mode": each.mode.value,
            "epoch": each.epoch,
            "peer_id": each.peer.hex(),
            "console": console,
        }
        for name, each in facts.items()
    }


def _without_keystore(system: ManagedSystem) -> list[str]:
    """Return the names of partitions whose keystore is switched off, on a level that has keystores."""
    if not system.level.has_keystore:
        return []
    return [each.name for each in system.partitions.values() if not each.kbytes and not each.refused]
