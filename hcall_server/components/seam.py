"""The seams of the replaceable parts: the anchor card, and the TPMs that wrap the PKS root key (R-40).

The anchor card stores the system id, and the root key in clear.  A TPM stores no copy of the root key.  It
wraps a copy, and the NVRAM of the service processor stores the wrapped copy.

spec/components.md has the guarantees of each part, and the effect of its replacement.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.platform.identity import SystemIdentity

TPM_PATIENCE = 10.0
"""Seconds that a start waits for one operation of a TPM."""


class Card(NamedTuple):
    """The content of an anchor card.

    `reset_pending`: Clear All has made this key, and the old records are not wiped yet (spec/erase.md).
    """

    identity: SystemIdentity
    reset_pending: bool = False


class AnchorCardPart(Protocol):
    """The anchor card."""

    @property
    def name(self) -> str:
        """The name of the part in messages."""

    def read(self) -> Card | None:
        """Return the content, None if the card is new; StorageError if it is damaged."""

    def write(self, card: Card) -> None:
        """Replace the content; durable on return."""


class TpmRefusedError(StorageError):
    """The TPM answered, and does not unwrap this copy: another TPM made it, or it is damaged."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.TPM_UNWRAPS, message)


class TpmSilentError(StorageError):
    """The TPM did not answer, or answered that it cannot work now.  Nothing is known about the copy."""

    def __init__(self, message: str) -> None:
        super().__init__(rules.TPM_ANSWERS, message)


class Tpm(Protocol):
    """One TPM.  Both operations block for up to `TPM_PATIENCE`, and are called at start only.

    They raise TpmSilentError if the TPM does not work.  `unseal` raises TpmRefusedError for the blob of
    another TPM.  No error holds a secret.
    """

    @property
    def name(self) -> str:
        """The name of the part: ``tpm`` or ``tpm-2``."""

    @property
    def kind(self) -> str:
        """``embedded``, ``swtpm`` or ``tcti``."""

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` (at most 128 bytes) as a blob that only this TPM unseals."""

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret in a blob of this TPM."""


class Components(NamedTuple):
    """The replaceable parts of one managed system: its anchor card, and one or two TPMs."""

    anchor_card: AnchorCardPart
    tpms: tuple[Tpm, ...]
