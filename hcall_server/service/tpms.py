"""The TPMs of a state folder: one or two.

There is a second TPM if the settings name it, or if the state has its folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hcall_server.components.seam import Tpm
from hcall_server.components.tpm.kinds import TpmKind, open_tpm
from hcall_server.keystore.store import Entropy
from hcall_server.service.layout import TPMS


def open_tpms(state: Path, entropy: Entropy, words: Sequence[str] = ()) -> tuple[Tpm, ...]:
    """Return the TPMs; `words` are those of `--tpm`.  Without a word the remembered kind is used.

    Raises the errors of `TpmKind.parse` and `open_tpm`.
    """
    found = []
    for slot, name in enumerate(TPMS):
        if slot < max(1, len(words)) or (state / name).is_dir():
            wanted = TpmKind.parse(words[slot]) if slot < len(words) else None
            found.append(open_tpm(state / name, name, wanted, entropy))
    return tuple(found)
