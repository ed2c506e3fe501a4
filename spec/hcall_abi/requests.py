"""The requests of a management console as values: one function for each verb (spec/control.md).

    request = set_attributes("lpar1", {"secure_boot": 2})

Each function returns a `ConsoleRequest` without I/O, as the typed h-calls do.  `hcall_client.console` carries
them over sockets.  The management console carries them through its links (`hcall_server.console`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar, get_args
from urllib.parse import quote

import msgspec

from hcall_abi.attributes import attribute_number
from hcall_abi.bounds import LONGEST_NAME
from hcall_abi.control import JSON, SYSTEM_HEADER, VERBS, Verb
from hcall_abi.control_bodies import (
    ArrivalCheck,
    ArrivingCopy,
    AttributeChanges,
    Body,
    ConsoleAttachment,
    CopyToRestore,
    CustodyMessage,
    CustodyWord,
    ExpectedPartition,
    FaultPlanSetting,
    FaultSetting,
    ForgottenCopies,
    KeptCopy,
    MigrationOrder,
    NewPartition,
    NvramFaultSetting,
    PartitionChanges,
    PartitionDeletion,
    PartitionRelease,
    RecoveryEnd,
    SystemChanges,
    TrustedKeySetting,
)
from hcall_abi.control_views import (
    ArrivalView,
    ComponentsView,
    CopyView,
    ExpectationView,
    HealthView,
    NeedsView,
    PartitionView,
    RecoveredView,
    SystemView,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.errors import OperatorError
from hcall_abi.faults import BusyFault, ConsoleTrouble
from hcall_abi.mistakes import all_of, check_bytes, check_mapping, check_number, check_text, listed, of_caller
from hcall_abi.rules import backup
from hcall_abi.rules import console as rules

T = TypeVar("T")
__tracebackhide__ = of_caller
_FAULTS = 'set_faults("lpar1", [parse_fault("READ_OBJECT=H_BUSY")])'
VERB_OF = {verb.operation: verb for verb in VERBS}
"""Each verb by its operation."""


@dataclass(frozen=True)
class ConsoleRequest(Generic[T]):
    """One request: its verb, the name in its path ("" for none), its body, and the type of its answer.

    With a `system_id` (32 hex digits), every other system refuses the request (`system.identity`).
    """

    verb: Verb
    answer: type[T]
    name: str = ""
    body: Body | None = None
    system_id: str = ""

    def only_for(self, system_id: str) -> ConsoleRequest[T]:
        """Return this request for one system alone."""
        return replace(self, system_id=system_id)

    @property
    def path(self) -> str:
        """The path with the partition's name in it."""
        return self.verb.path.replace("{name}", quote(self.name, safe=""))

    @property
    def headers(self) -> dict[str, str]:
        """The headers: the media type of the body, and the id of the system if the request has one."""
        system = {SYSTEM_HEADER: self.system_id} if self.system_id else {}
        return ({"content-type": JSON} if self.body else {}) | system

    @property
    def content(self) -> bytes | None:
        """The body, encoded."""
        return msgspec.json.encode(self.body) if self.body else None


def show_system() -> ConsoleRequest[SystemView]:
    """Show the system and its partitions."""
    return ConsoleRequest(VERB_OF["showSystem"], SystemView)


def show_partition(name: str) -> ConsoleRequest[PartitionView]:
    """Show a partition."""
    return _about("showPartition", name)


def create_partition(
    name: str,
    kbytes: int = 0,
    *,
    auto_start: bool = True,
    number: int | None = None,
    attributes: Mapping[str, int] | None = None,
) -> ConsoleRequest[PartitionView]:
    """Create a partition, powered off; its keystore has `kbytes` KiB, 0 for none.

    Without a `number`, the partition gets the lowest free one.  `attributes` are further attributes, by the
    console's names.
    """
    check_number("kbytes of create_partition", kbytes)
    if number is not None:
        check_number("number of create_partition", number)
    body = NewPartition(
        name=checked_name(name),
        keystore_kbytes=kbytes,
        auto_start=auto_start,
        number=msgspec.UNSET if number is None else number,
        attributes=_numbers(attributes or {}),
    )
    return ConsoleRequest(VERB_OF["createPartition"], PartitionView, body=body)


def power_on(name: str) -> ConsoleRequest[PartitionView]:
    """Activate a stopped partition, which is an IPL."""
    return _about("powerOn", name)


def power_off(name: str) -> ConsoleRequest[PartitionView]:
    """Stop a running partition and end its sessions."""
    return _about("powerOff", name)


def ipl(name: str) -> ConsoleRequest[PartitionView]:
    """Restart a running partition and end its sessions."""
    return _about("ipl", name)


def rotate_key(name: str) -> ConsoleRequest[PartitionView]:
    """Give a partition a new access key for TCP.  The key is in the state's key file, not in the answer."""
    return _about("rotateKey", name)


def set_attributes(name: str, changes: Mapping[str, int]) -> ConsoleRequest[PartitionView]:
    """Set attributes by their names (`hcall_abi.console.ATTRIBUTES`), all of them or none.

    OperatorError for a name or a number that no partition has.  The system refuses numbers that this
    partition may not have.
    """
    return _about("setAttributes", name, _numbers(changes))


def set_faults(name: str, faults: Iterable[BusyFault] = ()) -> ConsoleRequest[PartitionView]:
    """Set a partition's fault plan; an empty list of faults removes the plan."""
    settings = [
        FaultSetting(
            hcall=each.call.name,
            status=each.status.name,
            nth=each.nth,
            times=each.times,
            seconds=each.seconds,
        )
        for each in all_of(BusyFault, "faults", faults, _FAULTS)
    ]
    return _about("setFaults", name, FaultPlanSetting(faults=settings))


def set_nvram_fault(
    trouble: Literal["none", ConsoleTrouble], commits: int | None = None
) -> ConsoleRequest[WritebackView]:
    """Set an NVRAM fault, or end it ("none").

    `commits` is the number of commits that fail; 1 if it is left out.  OperatorError for an unknown
    `trouble`, and for `commits` if the trouble is neither "full" nor "io".
    """
    if trouble != "none" and trouble not in get_args(ConsoleTrouble):
        names = listed(("none", *get_args(ConsoleTrouble)))
        raise OperatorError(rules.TROUBLE_KNOWN, f"no trouble {trouble!r}; they are {names}")
    if commits is not None:
        check_number("commits of set_nvram_fault", commits)
    try:
        body = NvramFaultSetting(trouble=trouble, commits=msgspec.UNSET if commits is None else commits)
    except ValueError as error:
        raise OperatorError(rules.TROUBLE_COMMITS, str(error)) from None
    return ConsoleRequest(VERB_OF["setNvramFault"], WritebackView, body=body)


def show_components() -> ConsoleRequest[ComponentsView]:
    """Show the replaceable parts, and how the last start got access to the stores."""
    return ConsoleRequest(VERB_OF["showComponents"], ComponentsView)


def show_trusted_key() -> ConsoleRequest[TrustedKeyView]:
    """Show the id of the trusted system key."""
    return ConsoleRequest(VERB_OF["showTrustedKey"], TrustedKeyView)


def set_trusted_key(
    operation: Literal["change", "restore", "return"],
    key: bytes | None = None,
    old_key: bytes | None = None,
    sealed: bytes | None = None,
) -> ConsoleRequest[TrustedKeyView]:
    """Set the trusted system key; OperatorError if an argument is missing or not allowed.

    `change` and `restore` take `key` (32 bytes); `return` takes `sealed`, the blob of `show_trusted_key`.
    """
    for place, given in {"key": key, "old_key": old_key, "sealed": sealed}.items():
        if given is not None:
            check_bytes(f"{place} of set_trusted_key", given)
    try:
        body = TrustedKeySetting(operation=operation, key=key, old_key=old_key, sealed=sealed)
    except ValueError as error:
        raise OperatorError(backup.TRUSTED_KEY_OPERATION, str(error)) from None
    return ConsoleRequest(VERB_OF["setTrustedKey"], TrustedKeyView, body=body)


def show_copy(name: str) -> ConsoleRequest[CopyView]:
    """Make a copy of a partition's store, sealed under the trusted system key."""
    return ConsoleRequest(VERB_OF["showCopy"], CopyView, checked_name(name))


def restore_copy(copy: bytes, *, older: bool = True, check: bool = False) -> ConsoleRequest[PartitionView]:
    """Restore a store from a console copy; the partition must be powered off.

    With `older`, the copy may be older than the present store; the later changes of that store are lost.
    With `check`, nothing is changed, and the answer is the partition as the restore would leave it.
    """
    check_bytes("copy of restore_copy", copy)
    body = CopyToRestore(copy=copy, older=older, check=check)
    return ConsoleRequest(VERB_OF["restoreCopy"], PartitionView, body=body)


def begin_recovery() -> ConsoleRequest[SystemView]:
    """Put an empty system into the state Recovery."""
    return ConsoleRequest(VERB_OF["beginRecovery"], SystemView)


def end_recovery(*, give_up: bool = False) -> ConsoleRequest[RecoveredView]:
    """End the state Recovery.  With `give_up`, the system gives up the stores that were not restored."""
    return ConsoleRequest(VERB_OF["endRecovery"], RecoveredView, body=RecoveryEnd(give_up=give_up))


def attach_console(console_id: str, name: str) -> ConsoleRequest[SystemView]:
    """Attach a management console: its id (32 hex digits) is written to the system's NVRAM."""
    return ConsoleRequest(
        VERB_OF["attachConsole"], SystemView, body=ConsoleAttachment(id=console_id, name=name)
    )


def detach_console(console_id: str, name: str) -> ConsoleRequest[SystemView]:
    """Take a console's id out of the system's NVRAM."""
    return ConsoleRequest(
        VERB_OF["detachConsole"], SystemView, body=ConsoleAttachment(id=console_id, name=name)
    )


def keep_copy(name: str, kept: KeptCopy) -> ConsoleRequest[PartitionView]:
    """Answer the event "take-copy": the console has stored this copy."""
    return _about("keepCopy", name, kept)


def forget_copies(uuids: Iterable[str]) -> ConsoleRequest[SystemView]:
    """Answer the event "forget-copies": the console has recorded that these partitions were deleted."""
    return ConsoleRequest(VERB_OF["forgetCopies"], SystemView, body=ForgottenCopies(uuids=list(uuids)))


def set_system(name: str) -> ConsoleRequest[SystemView]:
    """Rename the managed system."""
    check_text("the name of a system", name)
    return ConsoleRequest(VERB_OF["setSystem"], SystemView, body=SystemChanges(name=name))


def stop_system() -> ConsoleRequest[SystemView]:
    """Power the managed system off: its server stops in good order after the answer."""
    return ConsoleRequest(VERB_OF["stopSystem"], SystemView)


def change_partition(
    name: str,
    *,
    new_name: str | None = None,
    auto_start: bool | None = None,
    attributes: Mapping[str, int] | None = None,
) -> ConsoleRequest[PartitionView]:
    """Change name, start and attributes of a partition, all of them or none; a rename needs power-off."""
    body = PartitionChanges(
        new_name=msgspec.UNSET if new_name is None else new_name,
        auto_start=msgspec.UNSET if auto_start is None else auto_start,
        attributes=_numbers(attributes or {}),
    )
    return _about("changePartition", name, body)


def delete_partition(name: str, *, destroy: bool = False) -> ConsoleRequest[SystemView]:
    """Delete a powered-off partition.  With `destroy`, the partition's keystore may still hold objects."""
    body = PartitionDeletion(destroy=destroy)
    return ConsoleRequest(VERB_OF["deletePartition"], SystemView, checked_name(name), body)


# Migration


def show_needs(name: str) -> ConsoleRequest[NeedsView]:
    """Show the needs of a partition at another system."""
    return ConsoleRequest(VERB_OF["showNeeds"], NeedsView, checked_name(name))


def check_arrival(needs: NeedsView) -> ConsoleRequest[ArrivalView]:
    """Check whether a partition fits on this system; a refusal names the rule."""
    body = msgspec.convert(msgspec.to_builtins(needs), ArrivalCheck)
    return ConsoleRequest(VERB_OF["checkArrival"], ArrivalView, body=body)


def expect_partition(uuid: str, epoch: int, source_id: str, token: bytes) -> ConsoleRequest[ExpectationView]:
    """Order a target to expect a partition; the answer has the address for its source."""
    body = ExpectedPartition(uuid=uuid, epoch=epoch, source_id=source_id, token=token)
    return ConsoleRequest(VERB_OF["expectPartition"], ExpectationView, body=body)


def begin_migration(name: str, order: MigrationOrder) -> ConsoleRequest[PartitionView]:
    """Begin a live migration at its source: the answer comes before the partition has moved."""
    return _about("beginMigration", name, order)


def release_partition(name: str, uuid: str, epoch: int, target_id: str) -> ConsoleRequest[CopyView]:
    """Release a powered-off partition to a target; the answer is its copy."""
    body = PartitionRelease(uuid=uuid, epoch=epoch, target_id=target_id)
    return ConsoleRequest(VERB_OF["releasePartition"], CopyView, checked_name(name), body)


def take_partition(
    copy: bytes, epoch: int, source_id: str, *, check: bool = False
) -> ConsoleRequest[PartitionView]:
    """Order a system to take over a partition from its console copy."""
    body = ArrivingCopy(copy=copy, epoch=epoch, source_id=source_id, check=check)
    return ConsoleRequest(VERB_OF["takePartition"], PartitionView, body=body)


def tell_custody(
    uuid: str, epoch: int, word: CustodyWord, *, generation: int = 0, peer_id: str = ""
) -> ConsoleRequest[SystemView]:
    """Send a message of the migration protocol to a system.  A message that changes nothing is no error."""
    peer = peer_id or msgspec.UNSET
    body = CustodyMessage(uuid=uuid, epoch=epoch, word=word, generation=generation, peer_id=peer)
    return ConsoleRequest(VERB_OF["tellCustody"], SystemView, body=body)


def show_health() -> ConsoleRequest[HealthView]:
    """Show the health.  A bad health is a normal answer, and no error."""
    return ConsoleRequest(VERB_OF["showHealth"], HealthView)


def show_metrics() -> ConsoleRequest[str]:
    """Show the figures for Prometheus, in its text format."""
    return ConsoleRequest(VERB_OF["showMetrics"], str)


def _numbers(changes: Mapping[str, int]) -> Body:
    """Return the body of attribute changes; OperatorError for a name or a number that no partition has."""
    check_mapping("attributes", changes, '{"secure_boot": 2}')
    return AttributeChanges(**{each: attribute_number(each, value) for each, value in changes.items()})


def _about(operation: str, name: str, body: Body | None = None) -> ConsoleRequest[PartitionView]:
    """Return a request about one partition; the answer is the partition's view."""
    return ConsoleRequest(VERB_OF[operation], PartitionView, checked_name(name), body)


def checked_name(name: str) -> str:
    """Return a name that can stand in a path; OperatorError for any other.

    The system itself checks whether such a partition exists, and whether it can exist.
    """
    check_text("the name of a partition", name)
    encodable = name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)
    if name in ("", ".", "..") or not encodable or len(name) > LONGEST_NAME:
        raise OperatorError(rules.NAME_PATH, f"{name[:40]!r} is no name for a partition")
    return name
