"""Why a wrapped object was refused.  Guest faults, without a key, plaintext or ciphertext in them."""

from __future__ import annotations

from hcall_abi.errors import Fault, SwpksError


class WrappedObjectError(SwpksError):
    """A wrapped object can't be unwrapped."""

    fault = Fault.GUEST


class UnknownFormat(WrappedObjectError):
    """It does not begin as a wrapped object of a format level and algorithm that are known here."""

    def __init__(self) -> None:
        super().__init__(
            "not a wrapped object of a known format",
            rule="a wrapped object has its magic, format level 1 and algorithm 1",
            section="spec/wrapped.md#order-of-checks",
        )


class DamagedObject(WrappedObjectError):
    """It is not what WRAP made: `reason` says what was found."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"a damaged wrapped object: {reason}",
            rule="a wrapped object is as WRAP made it, to the bit",
            section="spec/wrapped.md#order-of-checks",
        )
