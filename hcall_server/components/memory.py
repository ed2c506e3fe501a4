"""Components in memory, for tests and simulations."""

from __future__ import annotations

import itertools

from hcall_server.components.seam import Card, TpmRefusedError, TpmSilentError
from hcall_server.components.tpm.blobs import SALT_SIZE, SEED_SIZE, NotOursError, unwrapped, wrapped


class MemoryCard:
    """An anchor card without a file.  It outlives the system that uses it, as the real card does."""

    name = "anchor card"

    def __init__(self, held: Card | None = None) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"MemoryCard({self.held!r})"

    def read(self) -> Card | None:
        """Return the content of the card, None if it is new."""
        return self.held

    def write(self, card: Card) -> None:
        """Replace the content of the card."""
        self.held = card


class MemoryTpm:
    """A TPM without a file or entropy: its seed is a number, its salts are counted.

    It outlives the system that uses it.  While `silent` is set, it raises TpmSilentError.  Objects with the
    same `seed` are the same TPM; without a `seed`, each object is another TPM.
    """

    kind = "embedded"
    # Seeds are counted, not random: a simulation takes no random bytes from the host.
    _seeds = itertools.count(1)

    def __init__(self, name: str = "tpm", seed: int | None = None) -> None:
        self.name = name
        self.seed = next(self._seeds) if seed is None else seed
        self.silent = False
        self._salts = itertools.count(1)

    def __repr__(self) -> str:
        return f"MemoryTpm({self.name!r})"

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` as a blob that only a TPM of this seed unseals."""
        self._check_silent()
        return wrapped(self._seed_bytes(), next(self._salts).to_bytes(SALT_SIZE, "big"), secret)

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret in a blob of this seed."""
        self._check_silent()
        try:
            return unwrapped(self._seed_bytes(), blob)
        except NotOursError as error:
            raise TpmRefusedError(f"{self.name}: the copy {error}") from None

    def _check_silent(self) -> None:
        if self.silent:
            raise TpmSilentError(f"{self.name} is silent, as a test has set")

    def _seed_bytes(self) -> bytes:
        return self.seed.to_bytes(SEED_SIZE, "big")
