"""Rules about the parts that store or wrap the root key: their files, their kinds, their answers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.rules.rule import Rule
from hcall_server.components.seam import Tpm
from hcall_server.components.tpm.kinds import TpmKind, open_tpm
from tests.rules.breaking import Break, Breaks, breaks, refused


def opened(folder: Path, word: str | None = None) -> Tpm:
    """Return the TPM in a folder, opened as a start does it."""
    return open_tpm(folder / "tpm", "tpm", TpmKind.parse(word) if word else None, os.urandom)


def used(word: str, damage: Callable[[Path], object], then: str | None = None) -> Break:
    """Return a function that breaks a rule: after a TPM has sealed, `damage` changes its folder."""

    def broken(folder: Path) -> Rule:
        tpm = opened(folder, word)
        blob = tpm.seal(b"secret") if word == "embedded" else b""
        damage(folder / "tpm")
        return refused(lambda: opened(folder, then).unseal(blob))

    return broken


def _seed(content: bytes) -> Callable[[Path], object]:
    return lambda tpm: (tpm / "seed").write_bytes(content)


def _without_the_extra(folder: Path) -> Rule:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tpm2_pytss", None)
        return refused(opened, folder, "tcti:device:/dev/tpmrm0")


BREAKS: Breaks = {
    "tpm.unwraps": used("embedded", lambda tpm: (tpm / "seed").unlink()),
    "tpm.answers": lambda folder: refused(opened(folder, f"swtpm:{folder}/nothing").seal, b"secret"),
    "tpm.seed": used("embedded", _seed(b"no seed")),
    "tpm.external": used("swtpm:/a", lambda tpm: (tpm / "external").write_bytes(b"no line")),
    "tpm.mode": used("swtpm:/a", lambda tpm: (tpm / "external").chmod(0o644)),
    "tpm.form": breaks(TpmKind.parse, "discrete"),
    "tpm.kind": used("swtpm:/a", lambda tpm: None, then="embedded"),
    "tpm.extra": _without_the_extra,
}
