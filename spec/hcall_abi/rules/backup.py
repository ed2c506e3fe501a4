"""Rules of the trusted system key, and of the copies of partitions that the console stores."""

from __future__ import annotations

from hcall_abi.bounds import TRUSTED_KEY_SIZE
from hcall_abi.rules.rule import Fault, Rule

_OPERATOR = Fault.OPERATOR
_STORAGE = Fault.STORAGE
_KEY = "spec/sealed.md#trusted-system-key"
_KEYS = "spec/recovery.md#trusted-system-key"
_RESTORE = "spec/recovery.md#restore"
_COPY = "spec/sealed.md#order-of-checks-of-a-copy"
_RESTORED = "spec/sealed.md#restored-partitions"

# The trusted system key

TRUSTED_KEY_FILE = Rule(
    "trusted-key.file",
    f"the file of a trusted system key has exactly {TRUSTED_KEY_SIZE} bytes",
    _KEY,
    _OPERATOR,
)
TRUSTED_KEY_LAYOUT = Rule(
    "trusted-key.layout",
    "the record of the trusted system key has a known level, zero reserved bytes and no trailing bytes",
    _KEY,
    _STORAGE,
)

TRUSTED_KEY_SEALED = Rule(
    "trusted-key.sealed", "a sealed key that is returned is one that this system has sealed", _KEYS, _OPERATOR
)
TRUSTED_KEY_SET = Rule(
    "trusted-key.set",
    "copies are made and opened under a trusted system key, which the first enabled keystore brings",
    _KEYS,
    _OPERATOR,
)
TRUSTED_KEY_OPERATION = Rule(
    "trusted-key.operation",
    "change and restore take a key, and return takes the sealed blob of the console",
    _KEYS,
    _OPERATOR,
)
TRUSTED_KEY_OLD = Rule(
    "trusted-key.old", "the old key of a change is the present trusted system key", _KEYS, _OPERATOR
)
TRUSTED_KEY_IDLE = Rule(
    "trusted-key.idle",
    "a trusted system key is restored while no partition with a keystore runs",
    _KEYS,
    _OPERATOR,
)

# The record of the console

CONSOLE_LAYOUT = Rule(
    "console.layout",
    "the console record has a known level, zero reserved bytes, a name in UTF-8 and no trailing bytes",
    "spec/sealed.md#console-record",
    _STORAGE,
)

# Console copies

COPY_HEADER = Rule(
    "copy.header", "a console copy begins with its magic, and its fixed fields are right", _COPY, _OPERATOR
)
# The level is checked before the length, because a later level may have another length.
COPY_LEVEL = Rule(
    "copy.level", "the level of a console copy is one that this release knows", _COPY, _OPERATOR
)
COPY_LENGTH = Rule("copy.length", "a console copy has the length that its header states", _COPY, _OPERATOR)
COPY_KEY = Rule(
    "copy.key",
    "a console copy opens under the trusted system key that made it, and no other",
    _COPY,
    _OPERATOR,
)
# If the key id is right and the tag wrong, the copy is damaged. If the key id is wrong, the copy has another
# key. The remedies differ, so these are two rules.
COPY_AUTHENTIC = Rule(
    "copy.authentic", "a console copy authenticates under the key whose id is in its header", _COPY, _OPERATOR
)
COPY_CONTENTS = Rule(
    "copy.contents",
    "a console copy contains a partition record, with keystore size and restore count of its header",
    _COPY,
    _OPERATOR,
)
# A restore may bring back older contents, but the counters always grow. Otherwise an old copy could later be
# taken for a newer one.
COPY_COUNTERS = Rule(
    "copy.counters",
    "generation, IPL count and restore count of a restored partition are larger than any before",
    _RESTORED,
    _STORAGE,
)
BACKUP_FILE = Rule("backup.file", "the file of a key or a copy can be read and written", _RESTORE, _OPERATOR)
COPY_IDLE = Rule("copy.idle", "a store is restored while its partition is powered off", _RESTORE, _OPERATOR)
# This rule is checked only with `--not-older`. Without this option an operator may restore an older copy on
# purpose.
COPY_BEHIND = Rule(
    "copy.behind",
    "a copy that may not be older has the restore count and generation of the present store, or larger ones",
    _RESTORE,
    _OPERATOR,
)
BACKUP_STORED = Rule(
    "backup.stored",
    "a restore and a new trusted system key are durable when they are answered",
    _RESTORE,
    _STORAGE,
)
