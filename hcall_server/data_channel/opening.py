"""Who may open a session: the rules of OPEN, without I/O (spec/protocol.md#open).

The order of checks: version, partition, proof, power, number of sessions.  A private Unix socket
is itself the proof; where a proof is given it has to be right all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hcall_abi.frames import Open, Opened, OpenStatus, ProofKind
from hcall_abi.proof import NO_PROOF, client_proof, proofs_equal, server_proof
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem

_RULES: dict[OpenStatus, str] = {
    OpenStatus.NO_SUCH_PARTITION: "the id is that of a partition served there, or 0 where there is only one",
    OpenStatus.NOT_AUTHORISED: "the proof is right; over TCP there has to be one",
    OpenStatus.NOT_ACTIVATED: "the partition is powered on",
    OpenStatus.VERSION_NOT_SUPPORTED: "the version is one that HELLO offers",
    OpenStatus.TOO_MANY_SESSIONS: "a partition has a bounded number of sessions",
}

SECTION = "spec/protocol.md#open"


class Door(NamedTuple):
    """Where a connection came in: the one partition served there (None: all), and if it must prove itself."""

    partition: Partition | None
    demand_proof: bool


class Judged(NamedTuple):
    """The outcome of an OPEN: the partition is None unless the status is OPENED."""

    status: OpenStatus
    partition: Partition | None = None
    key: bytes = b""

    def __repr__(self) -> str:
        return f"Judged({self.status.name}, {self.partition})"

    @property
    def rule(self) -> str:
        """The rule that a refused OPEN broke; empty when it was not refused."""
        return _RULES.get(self.status, "")


def judge(
    frame: Open,
    door: Door,
    system: ManagedSystem,
    nonce: bytes,
    key_of: Callable[[Partition], bytes],
    has_room: Callable[[int], bool],
) -> Judged:
    """Decide about an OPEN; `nonce` is that of the HELLO, `key_of` returns a partition's access key."""
    partition = _wanted(frame.partition, door, system)
    if partition is None:
        return Judged(OpenStatus.NO_SUCH_PARTITION)
    key = key_of(partition) if frame.proof_kind == ProofKind.HMAC_SHA256 else b""
    if not _proven(frame, door, nonce, key):
        return Judged(OpenStatus.NOT_AUTHORISED)
    if not partition.running:
        return Judged(OpenStatus.NOT_ACTIVATED)
    if not has_room(partition.number):
        return Judged(OpenStatus.TOO_MANY_SESSIONS)
    return Judged(OpenStatus.OPENED, partition, key)


def answer(frame: Open, judged: Judged, nonce: bytes) -> Opened:
    """Return the OPENED for a judged OPEN; it proves that the server has the key too."""
    partition = judged.partition
    if partition is None:
        return refusal(frame.tag, judged.status, frame.partition)
    proof = NO_PROOF
    if frame.proof_kind == ProofKind.HMAC_SHA256:
        # "The same fields" as the client signed: the id as it stood in OPEN, be it 0.
        proof = server_proof(judged.key, nonce, frame.nonce, frame.partition)
    return Opened(frame.tag, 0, partition.number, partition.ipl_count, proof, partition.level.name)


def refusal(tag: int, status: OpenStatus, partition: int = 0) -> Opened:
    """Return an OPENED that refuses."""
    return Opened(tag, int(status), partition, 0, NO_PROOF, "")


def _wanted(number: int, door: Door, system: ManagedSystem) -> Partition | None:
    """Return the partition that an OPEN means, or None."""
    only = door.partition
    if only is None:
        if number:
            return system.by_number(number)
        served = list(system.partitions.values())
        return served[0] if len(served) == 1 else None
    return only if number in (0, only.number) else None


def _proven(frame: Open, door: Door, nonce: bytes, key: bytes) -> bool:
    if frame.proof_kind != ProofKind.HMAC_SHA256:
        return not door.demand_proof
    # Without a key nothing is proven: HMAC under an empty key is anybody's to make.
    return bool(key) and proofs_equal(frame.proof, client_proof(key, nonce, frame.nonce, frame.partition))
