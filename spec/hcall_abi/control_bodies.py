"""The bodies of the control channel as msgspec structs: validation and JSON schema from one definition.

Sizes of keystores are in KiB (`kbytes`), sizes of their contents in bytes.  Attribute names are those of the
real console where it has them (`keystore_kbytes`, `secure_boot`, `curr_secure_boot`).  No body holds a
password, a key or object data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import msgspec

from hcall_abi.bounds import LONGEST_NAME, MAX_COUNT, MAX_SECONDS
from hcall_abi.console import ATTRIBUTES, AttributeRow, ConsoleAttributes, SecureBootMode
from hcall_abi.faults import COUNTED_TROUBLES, ConsoleTrouble

_SIZE = ATTRIBUTES["keystore_kbytes"]
Kbytes = Annotated[
    int,
    msgspec.Meta(ge=0, le=_SIZE.numbers[-1], description="KiB; 0 is a keystore that is off"),
]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
Commits = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME, description="name of a partition")]
SystemStateName = Literal["Operating", "Recovery", "Reset pending"]
FaultName = Literal["guest", "peer", "operator", "storage", "internal"]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of every struct in a request: unknown fields are refused."""


class View(msgspec.Struct, kw_only=True):
    """The base of every struct in an answer: a later version may add fields."""


class NewPartition(Body):
    """A partition to create. It is powered off, and its keystore is off unless a size is given (R-30)."""

    name: Name
    keystore_kbytes: Kbytes = _SIZE.default
    auto_start: Annotated[bool, msgspec.Meta(description="powered on when the server starts")] = True


def _change(row: AttributeRow) -> Any:
    """Return the type of an attribute that may be left away, by its number."""
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
        namespace={"__doc__": "Attributes to set, all of them or none; what is not named stays as it is."},
    ),
)
"""A field for each row of `hcall_abi.console.ATTRIBUTES`; bodies have numbers, never words."""


class FaultSetting(Body):
    """A busy answer on demand: which call, which status, from the n-th call on, and for how long.

    It lasts `times` calls in a row or `seconds` from the first; once, where neither is given.
    """

    hcall: Annotated[str, msgspec.Meta(description="such as WRITE_OBJECT")]
    status: Annotated[str, msgspec.Meta(description="H_BUSY, or an H_LONG_BUSY_ORDER_* of the call")]
    nth: Count = 1
    times: Count | None = None
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] | None = None


class FaultPlanSetting(Body):
    """The faults that a partition is to have, in the place of those that it has."""

    faults: list[FaultSetting]


class NvramFaultSetting(Body):
    """A trouble of NVRAM: the next `commits` are refused as full or by an I/O error, or one hangs.

    `commits` goes with `full` and `io`, and is 1 if it is left away.
    """

    trouble: Literal["none", ConsoleTrouble]
    commits: Commits | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if self.commits is not msgspec.UNSET and self.trouble not in COUNTED_TROUBLES:
            raise ValueError(f"{self.trouble} takes no number of commits")


class TrustedKeySetting(Body):
    """A trusted system key to set.

    `change` and `restore` take `key`, 32 bytes in base64; `return` takes `sealed`, the blob that the console
    stores.  `old_key` is checked against the present key if it is given.
    """

    operation: Literal["change", "restore", "return"]
    key: bytes | None = None
    old_key: bytes | None = None
    sealed: bytes | None = None

    def __post_init__(self) -> None:
        needed, other = ("sealed", "key") if self.operation == "return" else ("key", "sealed")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"{self.operation} takes {needed}, and not {other}")

    def __repr__(self) -> str:
        return f"TrustedKeySetting({self.operation}, keys hidden)"


class CopyToRestore(Body):
    """A console copy to restore, in base64."""

    copy: bytes

    def __repr__(self) -> str:
        return f"CopyToRestore(<{len(self.copy)} bytes>)"


class RecoveryEnd(Body):
    """The end of a recovery; `give_up`: stores that were not restored are given up."""

    give_up: bool = False


class FaultView(View):
    """A fault of the plan, the calls of its sort since the plan was set, and those it has answered."""

    hcall: str
    status: str
    nth: int
    times: int | None
    seconds: float | None
    seen: int
    answered: int
    spent: bool


class KeystoreView(View):
    """A keystore that is on: bytes in all and taken, objects, and how far NVRAM is behind."""

    total_bytes: int
    used_bytes: int
    objects: int
    generation: Annotated[int, msgspec.Meta(description="counts every change that belongs in NVRAM")]
    flushed: Annotated[int, msgspec.Meta(description="the generation known to be durable")]


class Trouble(View):
    """Why something does not work: what happened, the rule, the page that has it."""

    detail: str
    rule_id: str
    rule: str
    section: str


@dataclass(frozen=True, kw_only=True)
class PartitionFacts:
    """What the console shows of a partition before its attributes; `uuid` names it for life."""

    number: int
    name: str
    uuid: str
    power: Literal["off", "running"]
    ipl_count: int
    auto_start: bool
    curr_secure_boot: SecureBootMode


@dataclass(frozen=True, kw_only=True)
class PartitionView(ConsoleAttributes, PartitionFacts):
    """A partition as the console shows it, with every attribute of `hcall_abi.console`.

    `secure_boot` is the console's setting, and `curr_secure_boot` the one of this IPL.  `keystore` is null
    while it is off or could not be opened; `refused` then has the reason.  `faults` is its fault plan.
    It is a dataclass, which travels as a struct does, because it inherits the attributes.
    """

    keystore: KeystoreView | None
    refused: Trouble | None
    faults: list[FaultView]


class SystemView(View):
    """A managed system with its partitions; `system_id` is 32 hex digits and no secret.

    `restored` and `lost` are names of stores in the state Recovery: those that came back, and those that
    are known to be missing.
    """

    name: str
    type_model_serial: str
    state: SystemStateName
    restored: list[str]
    lost: list[str]
    system_id: str
    firmware_level: str
    total_kbytes: int
    assigned_kbytes: int
    partitions: list[PartitionView]


class ComponentView(View):
    """A replaceable part as the last start found it.

    `copy` tells about its copy of the root key: agrees, restored, present, none, or silent (its TPM does not
    answer).  `ok` is false if redundancy is missing.
    """

    name: str
    kind: str
    copy: str
    detail: str
    ok: bool


class AccessStepView(View):
    """A step of the procedure that gave access to the stores (1 to 9), and its finding."""

    step: int
    finding: str


class ComponentsView(View):
    """All replaceable parts, the row of the root-key table that decided at the start, and the steps."""

    decision: str
    components: list[ComponentView]
    steps: list[AccessStepView]


class TrustedKeyView(View):
    """The trusted system key: its id (16 hex digits), and the key sealed under the root key (base64).

    Both are null while there is none.  Only this system opens `sealed`.
    """

    id: str | None
    sealed: bytes | None


class CopyView(View):
    """A console copy (base64) with its clear facts; `time` is in seconds since the epoch (UTC)."""

    uuid: str
    trusted_key_id: str
    generation: int
    time: int
    keystore_kbytes: int
    firmware_level: str
    copy: bytes


class RecoveredView(View):
    """The end of a recovery: partitions that came back, and those that were given up, by name."""

    restored: list[str]
    given_up: list[str]


class WritebackView(View):
    """How writing to NVRAM goes: partitions waiting, commits and failures, age of the oldest change.

    `fault` is the trouble that was asked for, if it is not over.
    """

    state: str
    pending: int
    commits: int
    failures: int
    oldest_pending_seconds: float
    last_error: str | None
    fault: str | None


class HealthView(View):
    """Whether all is well; `reasons` has a sentence for each thing that is not."""

    ok: bool
    reasons: list[str]
    version: str
    firmware_level: str
    partitions: int
    running: int
    writeback: WritebackView


class Problem(View, omit_defaults=True):
    """A refusal or an error (RFC 9457, `application/problem+json`).

    `fault` tells who has to change something, `rule_id` and `rule` which rule was broken (spec/rules.md),
    `section` the page that has it; `code` is the real console's message number where it has one.
    """

    type: str
    title: str
    status: int
    detail: str
    fault: FaultName
    rule_id: str
    rule: str
    section: str
    code: str | None = None


Answered = View | PartitionView
"""What an answer holds, where it is not plain text."""
