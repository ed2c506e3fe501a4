"""Sealing: encrypts the records that are stored in NVRAM, and decrypts them (spec/sealed.md).

`Sealer` makes and opens sealed blobs.  `seal_partition` and `seal_system` put the partition record and the
system record into them.  `CommitAuthority` makes and checks the list of the records of one commit.
`seal_copy` makes a partition's copy for the console, and `restored` makes a record of one that was opened.
`encode_wrapped` makes the record of the root key's wrapped copy.  `level_1` reads the records of
older releases.  Pure, except for the entropy that the caller passes.
"""

from hcall_server.sealing.commits import NO_COMMIT, CommitAuthority, CommitRecord
from hcall_server.sealing.copies import CopyHeader, OpenedCopy, open_copy, read_copy, seal_copy
from hcall_server.sealing.copy_errors import (
    CopyError,
    CopyLengthError,
    CopyLevelError,
    CopyNotAuthenticError,
    CopyUnreadableError,
    NotCopyError,
    OtherKeyError,
)
from hcall_server.sealing.envelope import Unsealed
from hcall_server.sealing.errors import (
    NotAuthenticError,
    NotSealedError,
    PlaintextError,
    SealedLengthError,
    SealingError,
    SwappedError,
    UndecodableError,
    UnknownLevelError,
    WrongKindError,
)
from hcall_server.sealing.images import decode_image, encode_image
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.partitions import (
    PartitionRecord,
    decode_partition,
    encode_partition,
    open_partition,
    seal_partition,
)
from hcall_server.sealing.restoring import restored
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer
from hcall_server.sealing.system import (
    Listed,
    SystemRecord,
    decode_system,
    encode_system,
    open_system,
    seal_system,
)
from hcall_server.sealing.trusted_key import open_trusted_key, seal_trusted_key
from hcall_server.sealing.wrapped_key import (
    WrappedKey,
    WrapperKind,
    decode_wrapped,
    encode_wrapped,
    pack_identity,
    unpack_identity,
)

__all__ = [
    "NO_COMMIT",
    "SYSTEM_OWNER",
    "CommitAuthority",
    "CommitRecord",
    "CopyError",
    "CopyHeader",
    "CopyLengthError",
    "CopyLevelError",
    "CopyNotAuthenticError",
    "CopyUnreadableError",
    "Listed",
    "NotAuthenticError",
    "NotCopyError",
    "NotSealedError",
    "OpenedCopy",
    "OtherKeyError",
    "PartitionRecord",
    "PlaintextError",
    "SealedKind",
    "SealedLengthError",
    "Sealer",
    "SealingError",
    "SwappedError",
    "SystemRecord",
    "UndecodableError",
    "UnknownLevelError",
    "Unsealed",
    "WrappedKey",
    "WrapperKind",
    "WrongKindError",
    "decode_image",
    "decode_partition",
    "decode_system",
    "decode_wrapped",
    "encode_image",
    "encode_partition",
    "encode_system",
    "encode_wrapped",
    "open_copy",
    "open_partition",
    "open_system",
    "open_trusted_key",
    "pack_identity",
    "read_copy",
    "restored",
    "seal_copy",
    "seal_partition",
    "seal_system",
    "seal_trusted_key",
    "unpack_identity",
]
