"""The errors of wrapped objects.  They are guest faults, and hold no key, plaintext or ciphertext."""

from __future__ import annotations

from hcall_abi.errors import SwpksError
from hcall_abi.rules import hcalls as rules


class WrappedObjectError(SwpksError):
    """A wrapped object can't be unwrapped."""


class UnknownFormat(WrappedObjectError):
    """This release does not know the beginning, the format level or the algorithm of the object."""

    def __init__(self) -> None:
        super().__init__(rules.WRAPPED_FORMAT, "not a wrapped object of a known format")


class DamagedObject(WrappedObjectError):
    """WRAP did not make these bytes; `reason` is the finding."""

    def __init__(self, reason: str) -> None:
        super().__init__(rules.WRAPPED_INTACT, f"a damaged wrapped object: {reason}")
