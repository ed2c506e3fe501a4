"""Rules of named snapshots of a system (spec/snapshots.md)."""

from __future__ import annotations

from hcall_abi.bounds import (
    LARGEST_SNAPSHOT,
    LONGEST_PASSPHRASE,
    LONGEST_SNAPSHOT_NAME,
    MOST_SNAPSHOTS,
    SHORTEST_PASSPHRASE,
)
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_STORAGE = Fault.STORAGE
_NAMES = "spec/snapshots.md#names"
_FILES = "spec/snapshots.md#files-outside-of-the-state"
_LOAD = "spec/snapshots.md#load"
_PORTABLE = "spec/snapshots.md#portable"
_CHECKS = "spec/snapshots.md#order-of-checks"

SNAPSHOT_NAME = Rule(
    "snapshot.name",
    f"a snapshot's name has 1 to {LONGEST_SNAPSHOT_NAME} ASCII letters, digits, `.`, `-` or `_`; "
    "the first is a letter or a digit",
    _NAMES,
    _OPERATOR,
)
SNAPSHOT_NEW = Rule(
    "snapshot.new",
    "a new snapshot takes a free name; --force replaces the snapshot that has the name",
    _NAMES,
    _OPERATOR,
)
SNAPSHOT_EXISTS = Rule("snapshot.exists", "the snapshot with this name exists", _NAMES, _OPERATOR)
SNAPSHOT_COUNT = Rule("snapshot.count", f"a system has at most {MOST_SNAPSHOTS} snapshots", _NAMES, _OPERATOR)
SNAPSHOT_SIZE = Rule(
    "snapshot.size", f"a snapshot has at most {LARGEST_SNAPSHOT >> 20} MiB", _NAMES, _OPERATOR
)
SNAPSHOT_STORED = Rule(
    "snapshot.stored", "the folder `snapshots` of the state takes and gives the files", _NAMES, _STORAGE
)
SNAPSHOT_FILE = Rule("snapshot.file", "a snapshot is a plain file, and no link", _NAMES, _OPERATOR)
SNAPSHOT_PLACE = Rule(
    "snapshot.place",
    "a snapshot in a file outside of the state is passed with --state, by the user who owns the state",
    _FILES,
    _OPERATOR,
)
SNAPSHOT_PASSPHRASE = Rule(
    "snapshot.passphrase",
    f"a portable snapshot has a passphrase of {SHORTEST_PASSPHRASE} to {LONGEST_PASSPHRASE} characters, "
    "an own one has none",
    _PORTABLE,
    _OPERATOR,
)
SNAPSHOT_SECRET = Rule(
    "snapshot.secret",
    "the file of a passphrase is one line of text that only its owner can read",
    _PORTABLE,
    _OPERATOR,
)
SNAPSHOT_IDLE = Rule(
    "snapshot.idle", "a snapshot is loaded while each of its partitions is powered off", _LOAD, _OPERATOR
)
SNAPSHOT_KEEP_UUID = Rule(
    "snapshot.keep-uuid",
    "--keep-uuid goes with a portable snapshot that this system has made",
    _LOAD,
    _OPERATOR,
)
SNAPSHOT_HEADER = Rule(
    "snapshot.header",
    "a snapshot begins with SPKN, has a known kind, zero reserved fields, and texts in UTF-8",
    _CHECKS,
    _OPERATOR,
)
SNAPSHOT_LEVEL = Rule("snapshot.level", "the level of a snapshot is known", _CHECKS, _OPERATOR)
SNAPSHOT_LENGTH = Rule(
    "snapshot.length", "a snapshot has exactly the length that its header states", _CHECKS, _OPERATOR
)
SNAPSHOT_PARAMETERS = Rule(
    "snapshot.parameters", "a portable snapshot has scrypt with n = 2^15, r = 8 and p = 1", _CHECKS, _OPERATOR
)
SNAPSHOT_SYSTEM = Rule(
    "snapshot.system",
    "an own snapshot is opened by the system that made it, with the root key of that time",
    _CHECKS,
    _OPERATOR,
)
SNAPSHOT_AUTHENTIC = Rule(
    "snapshot.authentic",
    "the tag of a snapshot is right: it is not damaged, and its passphrase is the given one",
    _CHECKS,
    _OPERATOR,
)
SNAPSHOT_CONTENTS = Rule(
    "snapshot.contents",
    "the plaintext of a snapshot has a known level, exactly its layout, and no partition twice",
    _CHECKS,
    _OPERATOR,
)
