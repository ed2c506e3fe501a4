"""The bodies of requests to the control channel as msgspec structs (spec/control.md#requests).

Validation and JSON schema come from one definition.  The bodies of answers are in `hcall_abi.control_views`.
Sizes of keystores are in KiB (`kbytes`), sizes of their contents in bytes.  Attribute names are those of the
real console where it has them (`keystore_kbytes`, `secure_boot`, `curr_secure_boot`).  `repr` of a body shows
no secret: no key, no token and no bytes of a copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import msgspec

from hcall_abi import json_forms as forms
from hcall_abi.addresses import is_place
from hcall_abi.bounds import LONGEST_NAME, MAX_COUNT, MAX_EPOCH, MAX_FAULTS, MAX_SECONDS, TOKEN_SIZE
from hcall_abi.console import (
    ATTRIBUTES,
    LARGEST_PARTITION_ID,
    AttributeRow,
)
from hcall_abi.faults import COUNTED_TROUBLES, ConsoleTrouble

LARGEST_NUMBER = (1 << 63) - 1
"""The largest number in a body: counters and times have 63 bits, as in the stores that keep them."""
Base64 = Annotated[bytes, msgspec.Meta(extra_json_schema=forms.BASE64)]
Token = Annotated[bytes, msgspec.Meta(extra_json_schema=forms.TOKEN)]
_SIZE = ATTRIBUTES["keystore_kbytes"]
Kbytes = Annotated[
    int,
    msgspec.Meta(ge=0, le=_SIZE.numbers[-1], description="KiB; 0 is a keystore that is off"),
]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
Counter = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_NUMBER)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME, description="name of a partition")]


# A misspelt field must not be ignored: a default would be taken in its place.
class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of every struct in a request: unknown fields are refused."""


def _id(description: str) -> msgspec.Meta:
    """Return the constraint of a field that holds a 16-byte id as 32 hexadecimal digits."""
    return msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32, description=description)


AutoStart = Annotated[bool, msgspec.Meta(description="powered on when the server starts")]
PartitionNumber = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_PARTITION_ID, description="a partition id")]
Uuid = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        max_length=36,
        description="UUID of a partition",
    ),
]
# Each pattern has a longest length too, because `$` alone is too weak: in Python it also accepts a newline at
# the end.
ConsoleId = Annotated[str, _id("identity of a management console, no secret")]
SystemId = Annotated[str, _id("public identity of a managed system")]
Epoch = Annotated[int, msgspec.Meta(ge=1, le=MAX_EPOCH, description="the number of an attempt")]
SystemName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME, description="name of a system")
]


def _change(row: AttributeRow) -> Any:
    """Return the type of an attribute in a body: its number, or no value."""
    description = row.legend or row.description
    number = msgspec.Meta(ge=row.numbers[0], le=row.numbers[-1], description=description)
    return Annotated[int, number] | msgspec.UnsetType


AttributeChanges = cast(
    type[Body],
    msgspec.defstruct(
        "AttributeChanges",
        [(name, _change(row), msgspec.UNSET) for name, row in ATTRIBUTES.items()],
        bases=(Body,),
        module=__name__,
        kw_only=True,
        namespace={"__doc__": "Attributes to set, all of them or none; others stay as they are."},
    ),
)
"""A field for each row of `hcall_abi.console.ATTRIBUTES`; bodies have numbers, never words."""


class NewPartition(Body):
    """A partition to create. It is powered off, and its keystore is off unless a size is given (R-30).

    Without a `number`, the partition gets the lowest free one.  `attributes` are further attributes, in the
    console's numbers.
    """

    name: Name
    keystore_kbytes: Kbytes = _SIZE.default
    auto_start: AutoStart = True
    number: PartitionNumber | msgspec.UnsetType = msgspec.UNSET
    attributes: AttributeChanges | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]


class PartitionChanges(Body):
    """Changes of a partition, all of them or none.  Fields that are left out stay as they are."""

    new_name: Name | msgspec.UnsetType = msgspec.UNSET
    auto_start: AutoStart | msgspec.UnsetType = msgspec.UNSET
    attributes: AttributeChanges | msgspec.UnsetType = msgspec.UNSET  # type: ignore[valid-type]


class PartitionDeletion(Body):
    """Deletion of a partition.  With `destroy`, the partition's keystore may still hold objects."""

    destroy: bool = False


class SystemChanges(Body):
    """Changes of the managed system."""

    name: SystemName


class ConsoleAttachment(Body):
    """A management console: its identity, and its name for people."""

    id: ConsoleId
    name: Annotated[SystemName, msgspec.Meta(extra_json_schema=forms.PRINTABLE)]

    def __post_init__(self) -> None:
        if not self.name.isprintable():
            raise ValueError("the name of a console is printable")


class KeptCopy(Body):
    """A copy that the console has stored: its partition, and the counters that show which copy is newer."""

    uuid: Uuid
    restores: Counter
    generation: Counter
    time: Annotated[Counter, msgspec.Meta(description="seconds since 1970 (UTC)")]


class ForgottenCopies(Body):
    """Deleted partitions whose copies the console has put aside."""

    uuids: list[Uuid]


class FaultSetting(Body):
    """A busy answer on demand: which call, which status, from the n-th call on, and for how long.

    It lasts `times` calls in a row, or `seconds` from the first one.  Without both it answers one call.
    """

    hcall: Annotated[str, msgspec.Meta(description="such as WRITE_OBJECT")]
    status: Annotated[str, msgspec.Meta(description="H_BUSY, or an H_LONG_BUSY_ORDER_* of the call")]
    nth: Count = 1
    times: Count | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] | None = None


class FaultPlanSetting(Body):
    """The new fault plan of a partition; it replaces the present one."""

    faults: Annotated[list[FaultSetting], msgspec.Meta(extra_json_schema={"maxItems": MAX_FAULTS})]


class NvramFaultSetting(Body):
    """An NVRAM fault on demand: commits fail as full or with an I/O error, or one commit hangs.

    `commits` is the number of commits that fail with `full` or `io`; 1 if it is left out.
    """

    trouble: Literal["none", ConsoleTrouble]
    commits: Count | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.commits is not msgspec.UNSET and self.trouble not in COUNTED_TROUBLES:
            raise ValueError(f"{self.trouble} takes no number of commits")


class TraceSetting(Body):
    """The trace of a partition: `off` ends it, `blanked` and `secrets` begin one.

    `blanked` writes zeros for passwords, keys and object data; `secrets` writes all bytes.
    """

    trace: Literal["off", "blanked", "secrets"]


class TrustedKeySetting(Body):
    """A trusted system key to set.

    `change` and `restore` take `key`, 32 bytes in base64; `return` takes `sealed`, the blob that the console
    stores.  `old_key` is checked against the present key if it is given.
    """

    operation: Literal["change", "restore", "return"]
    key: Base64 | None = None
    old_key: Base64 | None = None
    sealed: Base64 | None = None

    def __post_init__(self) -> None:
        needed, other = ("sealed", "key") if self.operation == "return" else ("key", "sealed")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            flags = {"key": "--newkey FILE", "sealed": "--sealed FILE"}
            message = f"{self.operation} needs {needed} ({flags[needed]}), and takes no {other}"
            raise ValueError(message)

    def __repr__(self) -> str:
        return f"TrustedKeySetting({self.operation}, keys hidden)"


class CopyToRestore(Body):
    """A console copy to restore, in base64; `older`: it may be older than the present store.

    `seen_restores`, `seen_generation` and `seen_ipl_count` are the largest counters of this store that the
    console has ever seen, 0 for none.  The counters of the restored store are larger.

    `check`: nothing is restored; the answer shows the partition as the restore would leave it.
    """

    copy: Base64
    older: bool = True
    seen_restores: Counter = 0
    seen_generation: Counter = 0
    seen_ipl_count: Counter = 0
    check: bool = False

    def __repr__(self) -> str:
        return f"CopyToRestore(<{len(self.copy)} bytes>)"


class RecoveryEnd(Body):
    """Order to end a recovery.  With `give_up`, the system gives up the stores that were not restored."""

    give_up: bool = False


# Migration (spec/migration.md)


class MigrationOrder(Body):
    """Begin a live migration at its source: the attempt, its target, and the token of its channel.

    `address` is where the target listens: ``unix:PATH`` or ``tcp:HOST:PORT``.  `token` is 32 bytes in base64.
    """

    uuid: Uuid
    epoch: Epoch
    target_id: SystemId
    address: Annotated[
        str, msgspec.Meta(min_length=6, max_length=LONGEST_NAME, extra_json_schema=forms.PLACE)
    ]
    token: Token

    def __post_init__(self) -> None:
        _check_token(self.token)
        if not is_place(self.address):
            raise ValueError(f"{self.address!r} is no address: unix:PATH or tcp:HOST:PORT")

    def __repr__(self) -> str:
        return f"MigrationOrder({self.uuid}, epoch {self.epoch}, token hidden)"


class ExpectedPartition(Body):
    """Expect a partition at the target of an attempt.  The token opens the channel until the attempt ends."""

    uuid: Uuid
    epoch: Epoch
    source_id: SystemId
    token: Token

    def __post_init__(self) -> None:
        _check_token(self.token)

    def __repr__(self) -> str:
        return f"ExpectedPartition({self.uuid}, epoch {self.epoch}, token hidden)"


CustodyWord = Literal[
    "abort", "aborted", "activate", "active", "bar", "fenced", "force", "prepared", "resume", "serve"
]
"""The words of `hcall_server.platform.custody` that a console carries to a system."""


class CustodyMessage(Body):
    """A message of the migration protocol to a system: an answer, an order, or the other system's message.

    `generation` is used only with `prepared`.  `peer_id` is the new owner, and is used only with `fenced`.
    """

    uuid: Uuid
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH, description="the number of an attempt")]
    word: CustodyWord
    generation: Counter = 0
    peer_id: SystemId | msgspec.UnsetType = msgspec.UNSET


class PartitionRelease(Body):
    """Release a powered-off partition to a target, durably; the answer is its copy."""

    uuid: Uuid
    epoch: Epoch
    target_id: SystemId


class ArrivingCopy(Body):
    """A console copy of a partition that this system takes over by inactive migration or remote restart.

    `seen_restores`, `seen_generation` and `seen_ipl_count` are as in `CopyToRestore`.
    `check`: nothing is changed; the answer shows the partition as it would arrive.
    """

    copy: Base64
    epoch: Epoch
    source_id: SystemId
    check: bool = False
    seen_restores: Counter = 0
    seen_generation: Counter = 0
    seen_ipl_count: Counter = 0

    def __repr__(self) -> str:
        return f"ArrivingCopy(epoch {self.epoch}, <{len(self.copy)} bytes>)"


class ArrivalCheck(Body):
    """The needs of a partition at its target (spec/migration.md#validation); sizes are in bytes.

    Only `kbytes` is in KiB.  `calls` are the names of h-calls that the partition's objects need.
    """

    uuid: Uuid
    name: Name
    epoch: Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH, description="the number of an attempt")]
    level: Annotated[str, msgspec.Meta(max_length=32)]
    formats: list[Counter]
    kbytes: Kbytes
    used_bytes: Counter
    objects: Counter
    longest_label: Counter
    largest_object: Counter
    longest_password: Counter
    policies: Counter
    calls: list[str]
    attributes: AttributeChanges  # type: ignore[valid-type]


def _check_token(token: bytes) -> None:
    if len(token) != TOKEN_SIZE:
        raise ValueError(f"a token has {TOKEN_SIZE} bytes")


# msgspec's schema has nothing about `__post_init__`. A test compares this schema with the checks of the
# server.
OF_SEVERAL_FIELDS: Mapping[type[Body], Mapping[str, Any]] = {
    NvramFaultSetting: {
        "anyOf": [forms.given("trouble", *COUNTED_TROUBLES), {"not": {"required": ["commits"]}}]
    },
    TrustedKeySetting: {
        "anyOf": [
            forms.both(forms.given("operation", "change", "restore"), forms.only("key", "sealed")),
            forms.both(forms.given("operation", "return"), forms.only("sealed", "key")),
        ]
    },
}
"""For the description: JSON Schema of each `__post_init__` above that compares fields."""
