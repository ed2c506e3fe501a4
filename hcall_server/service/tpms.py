"""The TPMs of a state folder: one or two.

There is a second TPM if the settings name it, or if the state has its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcall_server.components.seam import Tpm
from hcall_server.components.tpm.kinds import TpmKind, check_files, open_tpm
from hcall_server.keystore.store import Entropy
from hcall_server.process.folder import trouble
from hcall_server.service.layout import TPMS


def open_tpms(state: Path, entropy: Entropy, words: Sequence[str] = ()) -> tuple[Tpm, ...]:
    """Return the TPMs; `words` are those of `--tpm`.  Without a word the remembered kind is used.

    Raises the errors of `TpmKind.parse` and `open_tpm`, and StorageError if the disk fails.
    """
    found = []
    for slot, name in enumerate(TPMS):
        if slot < max(1, len(words)) or _has(state, name):
            wanted = TpmKind.parse(words[slot]) if slot < len(words) else None
            found.append(open_tpm(state / name, name, wanted, entropy))
    return tuple(found)


def check_tpms(state: Path) -> None:
    """Raise the errors of `open_tpms` about links, kinds, modes and access; read no content."""
    for name in TPMS:
        check_files(state / name, name)


def _has(state: Path, name: str) -> bool:
    """Return whether the state has the folder of a TPM."""
    try:
        return (state / name).is_dir()
    except OSError as error:
        raise trouble(error, state) from None
