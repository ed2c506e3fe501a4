"""Sealing: encrypts the records that are stored in NVRAM, and decrypts them (spec/sealed.md).

`Sealer` makes and opens sealed blobs.  `seal_partition` and `seal_system` put the partition record and the
system record into them.  `CommitAuthority` makes and checks the list of the records of one commit.
`level_1` reads the records of older releases.  Pure, except for the entropy that the caller passes.

Every start of the server needs these names.  Few starts need the other modules, so this package does not
import them.  `trusted_key`, `console_record`, `copies` and `restoring` serve the console and its copies.
`custody_record` is about partitions that have left, and `traveller` about partitions in a live migration.
`wrapped_key` has the wrapped copies of the root key.
"""

from hcall_server.sealing.commits import NO_COMMIT, CommitAuthority, CommitRecord
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
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer
from hcall_server.sealing.system import (
    Listed,
    SystemRecord,
    decode_system,
    encode_system,
    open_system,
    seal_system,
)

__all__ = [
    "NO_COMMIT",
    "SYSTEM_OWNER",
    "CommitAuthority",
    "CommitRecord",
    "Listed",
    "NotAuthenticError",
    "NotSealedError",
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
    "WrongKindError",
    "decode_image",
    "decode_partition",
    "decode_system",
    "encode_image",
    "encode_partition",
    "encode_system",
    "open_partition",
    "open_system",
    "seal_partition",
    "seal_system",
]
