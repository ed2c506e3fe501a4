"""WRITE, READ, REMOVE, CONFIRM and GET_OBJECTLABELS: the h-calls about plain objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Write, new_tuple
from hcall_abi.levels import FirmwareLevel
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from hcall_abi.structures import build_label_entry
from hcall_server.hcalls.answers import DONE, NOT_YET, SUCCESS, Outcome
from hcall_server.hcalls.memory import Place
from hcall_server.hcalls.refusals import Refusal, bad_argument
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.refusals import NotFound
from hcall_server.keystore.store import Keystore

_CONTINUE = int(Status.H_CONTINUE)
_LABELS = CALLS[Opcode.GET_OBJECTLABELS]
_FLUSHED = Outcome(SUCCESS, CALLS[Opcode.CONFIRM_OBJECT_FLUSHED].results(flushed=1))
_ABSENT = Outcome(int(Status.H_NOT_FOUND), CALLS[Opcode.CONFIRM_OBJECT_FLUSHED].results(flushed=1))
"""The answer to CONFIRM for a label whose absence is durable."""


class WriteObject(NamedTuple):
    """The arguments of WRITE_OBJECT."""

    authorization: Credentials
    label: bytes
    policy: int
    data: bytes

    def __repr__(self) -> str:
        return (
            f"WriteObject({self.authorization}, {self.label!r}, 0x{self.policy:08X}, {len(self.data)} bytes)"
        )


class ReadObject(NamedTuple):
    """The arguments of READ_OBJECT."""

    authorization: Credentials
    label: bytes
    data: Place


class RemoveObject(NamedTuple):
    """The arguments of REMOVE_OBJECT."""

    authorization: Credentials
    label: bytes


class ConfirmObjectFlushed(NamedTuple):
    """The arguments of CONFIRM_OBJECT_FLUSHED."""

    authorization: Credentials
    label: bytes


class GetObjectLabels(NamedTuple):
    """The arguments of GET_OBJECTLABELS."""

    authorization: Credentials
    token: int
    labels: Place


def write_object(keystore: Keystore, level: FirmwareLevel, args: WriteObject) -> Outcome:
    """Make a new object."""
    keystore.objects.write(args.authorization, args.label, args.policy, args.data)
    return DONE


def read_object(keystore: Keystore, level: FirmwareLevel, args: ReadObject) -> Outcome:
    """Write an object to the guest, whole or not at all; return its size and policy in both cases."""
    authorization, label, (address, length) = args
    held = keystore.objects.read(authorization, label)
    data = held.data
    outputs = (len(data), held.policy)  # in the order of `results`, whose call would slow READ
    # This check comes after the access checks.  A caller without access must not learn the size (choice
    # C-15).
    if len(data) > length:
        message = f"the object has {len(data)} bytes and the buffer {length}"
        raise Refusal(rules.OBJECT_FITS_BUFFER, message, argument="data_length", outputs=outputs)
    return new_tuple(Outcome, (SUCCESS, outputs, (new_tuple(Write, (address, data)),)))


def remove_object(keystore: Keystore, level: FirmwareLevel, args: RemoveObject) -> Outcome:
    """Remove an object."""
    keystore.objects.remove(args.authorization, args.label)
    return DONE


def confirm_object_flushed(keystore: Keystore, level: FirmwareLevel, args: ConfirmObjectFlushed) -> Outcome:
    """Return whether the newest change to a label is durable: r4 is 1, or 0 for "not yet"."""
    # A label without an object is an answer and no refusal: a guest asks so after each removal.  A refusal
    # would be logged as a fault of the guest.
    try:
        return _FLUSHED if keystore.objects.confirm(args.authorization, args.label) else NOT_YET
    except NotFound:
        return _ABSENT


def get_objectlabels(keystore: Keystore, level: FirmwareLevel, args: GetObjectLabels) -> Outcome:
    """Write as many whole entries of the list as fit; return a token for the rest."""
    labels = keystore.objects.labels(args.authorization, args.token)
    listed = _fitting(labels, args.labels.length)
    # If no entry fits, the call is refused.  After H_CONTINUE without an entry, a guest could ask for ever
    # (choice C-29).
    if labels and not listed:
        raise bad_argument(_LABELS.arg("labels_length"), rules.LIST_ROOM, f"{args.labels.length} bytes")
    rest = labels[len(listed) :]
    token = keystore.listings.keep(args.authorization.consumer, args.token, rest)
    writes = (Write(args.labels.address, b"".join(listed)),) if listed else ()
    return Outcome(_CONTINUE if token else SUCCESS, _LABELS.results(count=len(listed), token=token), writes)


def _fitting(labels: Sequence[bytes], room: int) -> list[bytes]:
    """Return the entries of the first labels, as many as fit into `room` bytes."""
    entries = []
    for label in labels:
        entry = build_label_entry(label)
        room -= len(entry)
        if room < 0:
            break
        entries.append(entry)
    return entries
