"""The rules of OPEN, without I/O (spec/protocol.md#open).

The order of checks: version, partition, proof, power, number of sessions.  At a private Unix socket no proof
is needed.  If a client sends one there, it has to be right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.frames import Open, Opened, OpenStatus, ProofKind
from hcall_abi.proof import NO_PROOF, client_proof, proofs_equal, server_proof
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_server.platform.custody import LEFT, Custody

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem

_LEFT = LEFT | {Custody.RELEASED}
"""The records of a system whose partition is on another one."""


class ListenerFacts(NamedTuple):
    """The listener of a connection: its partition (None: all), and whether it demands a proof.

    For a listener of all partitions, `listener` is the address in the log.
    """

    partition: Partition | None
    demand_proof: bool
    listener: str = "all partitions"

    @property
    def source(self) -> str:
        """The source in the log lines of its connections, until they have a session."""
        return self.partition.name if self.partition else self.listener


class Admitted(NamedTuple):
    """An OPEN that is accepted: its partition, and the access key if the client has proven it."""

    partition: Partition
    key: bytes

    def __repr__(self) -> str:
        return f"Admitted({self.partition})"


def admit(
    frame: Open,
    facts: ListenerFacts,
    system: ManagedSystem,
    nonce: bytes,
    has_room: Callable[[int], bool],
    held: Callable[[Partition], bool],
) -> Admitted | Rule:
    """Return the partition of an OPEN, or the rule that the OPEN breaks.

    `nonce` is that of the HELLO. `held` returns whether the calls of a partition are held back, because the
    partition is about to move.  While they are held back, an OPEN is accepted even if the partition has left.
    The record that it has left may not be durable yet.
    """
    partition = _wanted(frame.partition, facts, system)
    if partition is None or (partition.profile.custody in _LEFT and not held(partition)):
        return rules.OPEN_PARTITION
    # The proof is checked before power and sessions.  So a client without the key can't find out whether the
    # partition runs.
    key = partition.access_key if frame.proof_kind == ProofKind.HMAC_SHA256 else b""
    if not _proven(frame, facts, nonce, key):
        return rules.OPEN_PROOF
    if not partition.running or held(partition) or not partition.owned:
        return rules.OPEN_POWER
    if not has_room(partition.number):
        return rules.OPEN_SESSIONS
    return Admitted(partition, key)


def accepted(frame: Open, admitted: Admitted, nonce: bytes) -> Opened:
    """Return the OPENED for an accepted OPEN; it proves to the client that the server has the key too."""
    partition = admitted.partition
    proof = NO_PROOF
    if frame.proof_kind == ProofKind.HMAC_SHA256:
        # The proof has the partition id from OPEN, even if it was 0.  The client checks the proof with the
        # fields that it sent.
        proof = server_proof(admitted.key, nonce, frame.nonce, frame.partition)
    return Opened(frame.tag, 0, partition.number, partition.ipl_count, proof, partition.level.name)


def refusal(tag: int, rule: Rule, partition: int = 0) -> Opened:
    """Return the OPENED for an OPEN that breaks `rule`; the rule has its status.

    ValueError for a rule that no OPEN can break.
    """
    if not isinstance(rule.answer, OpenStatus):
        raise ValueError(f"rule {rule.id} does not answer OPEN")
    return Opened(tag, int(rule.answer), partition, 0, NO_PROOF, "")


def _wanted(number: int, facts: ListenerFacts, system: ManagedSystem) -> Partition | None:
    """Return the partition that an OPEN names, None if there is none."""
    only = facts.partition
    if only is None:
        if number:
            return system.by_number(number)
        served = list(system.partitions.values())
        return served[0] if len(served) == 1 else None
    return only if number in (0, only.number) else None


def _proven(frame: Open, facts: ListenerFacts, nonce: bytes, key: bytes) -> bool:
    if frame.proof_kind != ProofKind.HMAC_SHA256:
        return not facts.demand_proof
    # Without a key every proof is wrong, because any client can make an HMAC under an empty key.
    return bool(key) and proofs_equal(frame.proof, client_proof(key, nonce, frame.nonce, frame.partition))
