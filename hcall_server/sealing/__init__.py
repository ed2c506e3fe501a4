"""Sealing: how everything that rests in NVRAM is encrypted, and how it comes back (spec/sealed.md).

`Sealer` makes and opens sealed blobs; `seal_image` and its fellows put the partition image, the
partition profile and the system record into them.  Pure but for the entropy that is handed in.
"""

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
from hcall_server.sealing.formats import SealedKind
from hcall_server.sealing.images import decode_image, encode_image, open_image, seal_image
from hcall_server.sealing.profiles import (
    SystemRecord,
    decode_profile,
    decode_system,
    encode_profile,
    encode_system,
    open_profile,
    open_system,
    seal_profile,
    seal_system,
)
from hcall_server.sealing.sealer import Sealer, Unsealed

__all__ = [
    "NotAuthenticError",
    "NotSealedError",
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
    "decode_profile",
    "decode_system",
    "encode_image",
    "encode_profile",
    "encode_system",
    "open_image",
    "open_profile",
    "open_system",
    "seal_image",
    "seal_profile",
    "seal_system",
]
