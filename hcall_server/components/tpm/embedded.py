"""The embedded TPM: software inside the server, which needs nothing installed.

It binds a wrapped copy of the root key to one file, the seed, and to nothing else.  A process that can read
the folder has the key.  A real TPM has its seed in the chip.  So this one protects only a copy of NVRAM that
was taken without the folder of the TPM.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.private_file import PrivateFile
from hcall_server.components.seam import TpmRefusedError
from hcall_server.components.tpm.blobs import (
    SALT_SIZE,
    SEED_FILE_SIZE,
    SEED_SIZE,
    NotOursError,
    decoded_seed,
    encoded_seed,
    unwrapped,
    wrapped,
)

SEED_NAME = "seed"


def seed_file(folder: Path, name: str) -> PrivateFile:
    """Return the file of the seed of a TPM."""
    path, about = folder / SEED_NAME, {"private": rules.TPM_MODE, "whole": rules.TPM_SEED}
    return PrivateFile(path, name, SEED_FILE_SIZE, **about)


class EmbeddedTpm:
    """A TPM whose seed is the file `seed` (mode 0600) in a folder of its own (mode 0700).

    The first sealing makes the seed.  A damaged seed is never replaced here: the operator decides that.
    `entropy(n)` returns `n` random bytes.
    """

    kind = "embedded"

    def __init__(self, folder: Path, name: str, entropy: Callable[[int], bytes]) -> None:
        self.name = name
        self._entropy = entropy
        self._file = seed_file(folder, name)

    def __repr__(self) -> str:
        return f"EmbeddedTpm({str(self._file.path)!r})"

    def seal(self, secret: bytes) -> bytes:
        """Return `secret` as a blob; the seed is durable on return.  StorageError if the seed is damaged."""
        return wrapped(self._seed() or self._new_seed(), self._entropy(SALT_SIZE), secret)

    def unseal(self, blob: bytes) -> bytes:
        """Return the secret in a blob; TpmRefusedError if the seed is missing, or is another one."""
        seed = self._seed()
        # Do not make a seed here.  A new seed could not open the blob, and would hide that the old one is
        # lost.
        if seed is None:
            raise TpmRefusedError(f"{self.name}: {self._file.path} does not exist: this is a new TPM")
        try:
            return unwrapped(seed, blob)
        except NotOursError as error:
            raise TpmRefusedError(f"{self.name}: the wrapped root key {error}") from None

    def _seed(self) -> bytes | None:
        content = self._file.read()
        try:
            return None if content is None else decoded_seed(content)
        except NotOursError as error:
            raise self._damaged(str(error)) from None

    def _new_seed(self) -> bytes:
        seed = self._entropy(SEED_SIZE)
        if len(seed) != SEED_SIZE:
            raise ValueError("the entropy source gave too few bytes")
        # The seed is durable before the first blob exists.  If the seed were lost, no TPM could unwrap that
        # blob.
        self._file.write(encoded_seed(seed))
        return seed

    def _damaged(self, reason: str) -> StorageError:
        return self._file.damaged(f"{reason}; {replace_advice(self._file.path.parent, self.name)}")


def replace_advice(folder: Path, name: str) -> str:
    """Return the command that replaces a TPM, as advice; `folder` is the folder of the TPM in the state."""
    import shlex

    return f"to have a new TPM, run `swpks hmc replace {name} --state {shlex.quote(str(folder.parent))}`"
