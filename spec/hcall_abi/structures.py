"""The structures of h-calls in guest memory: Construct definitions, big-endian and packed.

Facts: spec/structures.md.  Reserved bytes are checked in both directions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from construct import (
    Array,
    Bytes,
    Const,
    Construct,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Prefixed,
    Struct,
    Terminated,
    this,
)

from hcall_abi.errors import PeerError
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import protocol as rules

CONFIG_SIZE = 520
"""Full size of the config block in bytes; callers pass 32, 512 or 520."""
CONFIG_MIN_SIZE = 24
"""The fields of config version 1; a shorter buffer is refused (spec/choices.md)."""

FLAG_WRAPPING = 0x10
"""Config flag: WRAP_OBJECT and UNWRAP_OBJECT exist."""
FLAG_REVOKING = 0x08
"""Config flag: REVOKE_OBJECT and UNREVOKE_OBJECT exist."""


class Config(NamedTuple):
    """The config block: features, limits and space of a partition's keystore.  Sizes in bytes."""

    version: int
    flags: int
    object_overhead: int
    max_password_size: int
    max_label_size: int
    max_object_size: int
    total_size: int
    used_space: int
    supported_policies: int
    max_large_object_size: int
    signed_update_algorithms: int
    wrapping_features: int


def _since(version: int, first: int, name: str, kind: Construct[Any, Any]) -> Any:
    """Return the field if `version` has it, else zero bytes of the same size."""
    # Every version has the same offsets, so a driver can read any block with the newest layout.
    return name / kind if version >= first else Const(bytes(kind.sizeof()))


def _config_block(version: int) -> Struct:
    return Struct(
        "version" / Const(version, Int8ub),
        "flags" / Int8ub,
        Const(0, Int16ub),
        _since(version, 2, "object_overhead", Int16ub),
        "max_password_size" / Int16ub,
        "max_label_size" / Int16ub,
        "max_object_size" / Int16ub,
        "total_size" / Int32ub,
        "used_space" / Int32ub,
        "supported_policies" / Int32ub,
        _since(version, 3, "max_large_object_size", Int32ub),
        _since(version, 3, "signed_update_algorithms", Int64ub),
        _since(version, 3, "wrapping_features", Int64ub),
        Const(bytes(CONFIG_SIZE - 44)),
        Terminated,
    )


CONFIG_BLOCKS = {version: _config_block(version) for version in (1, 2, 3)}
"""The config block of each config version, at its full size."""


def build_config(config: Config) -> bytes:
    """Return the config block at its full size; fields that its version lacks are left out."""
    block: bytes = CONFIG_BLOCKS[config.version].build(config._asdict())
    return block


def parse_config(data: bytes) -> Config:
    """Read a config block of 24 to 520 bytes; fields beyond its end count as 0.

    Raises PeerError for an unknown version, a reserved byte that is not 0, or a wrong length.
    """
    definition = CONFIG_BLOCKS.get(data[0]) if CONFIG_MIN_SIZE <= len(data) <= CONFIG_SIZE else None
    try:
        if definition is None:
            raise ConstructError("unknown version or length")
        # Fields beyond the end of a short buffer count as 0 (spec/structures.md#config-block).
        fields = definition.parse(data.ljust(CONFIG_SIZE, b"\0"))
    except ConstructError:
        raise PeerError(rules.ANSWER_CONFIG, "unreadable config block") from None
    return Config(*(fields.get(name, 0) for name in Config._fields))


AUTH_VERSION = 1
AUTH_RESERVED = bytes(8)
"""The first reserved field of an authorization block; the second is a number, 0."""

AUTH_HEAD = Struct(
    "version" / Const(AUTH_VERSION, Int8ub),
    "consumer" / Int8ub,
    Const(AUTH_RESERVED),
    Const(0, Int32ub),
    "password_length" / Int16ub,
)
AUTH_BLOCK = Struct("head" / AUTH_HEAD, "password" / Bytes(this.head.password_length), Terminated)
"""The authorization block: whose objects are meant, and that consumer's password."""

# The layout is derived for speed, because nearly every call has such a block.
AUTH_LAYOUT = FixedLayout(AUTH_HEAD)
"""The first 16 bytes of an authorization block, as (consumer, password length)."""


def build_auth(consumer: int, password: bytes = b"") -> bytes:
    """Return an authorization block; an empty password means that none is given."""
    return AUTH_LAYOUT.pack(consumer, len(password)) + password


OS_LINUX = 0x02
OS_COMMON = 0x04
LABEL_HEADER = Struct(
    "prefix" / Bytes(8),
    "version" / Const(0, Int8ub),
    "os" / Int8ub,
    "length" / Const(16, Int8ub),
    Const(bytes(5)),
)
"""The header with which operating systems begin a label; only SIGNED_UPDATE reads it."""
LABEL_HEADER_SIZE: int = LABEL_HEADER.sizeof()
"""Bytes of the header before the name: 16."""


# The count is in a register and not in memory, so each list needs a definition of its own.
def label_list(count: int) -> Struct:
    """Return the definition of the list that GET_OBJECTLABELS writes, with `count` entries."""
    return Struct("labels" / Array(count, Prefixed(Int16ub, GreedyBytes)), Terminated)


def build_label_entry(label: bytes) -> bytes:
    """Return one entry of the list: a 16-bit length, then the label."""
    return len(label).to_bytes(2, "big") + label


def parse_label_list(data: bytes, count: int) -> list[bytes]:
    """Read a list of `count` labels; PeerError when the bytes are not exactly that."""
    try:
        return list(label_list(count).parse(data).labels)
    except ConstructError:
        raise PeerError(rules.ANSWER_LABELS, "unreadable label list") from None
