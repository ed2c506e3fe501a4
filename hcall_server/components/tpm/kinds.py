"""The kind of a TPM: `--tpm embedded`, `--tpm swtpm:PATH` or `--tpm tcti:STRING`, remembered in its folder.

A start without the option uses the remembered kind.  The embedded TPM would be a dangerous default there.
It would not unwrap the copy.  Then the start would wrap the root key again, for a TPM that is only a file.
So the kind is stored before the first use.  Another kind is refused until the operator replaces the TPM.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hcall_abi.errors import OperatorError
from hcall_abi.near import near_question
from hcall_abi.rules import storage as rules
from hcall_server.components.private_file import PrivateFile
from hcall_server.components.seam import Tpm
from hcall_server.components.tpm.embedded import SEED_NAME, EmbeddedTpm, replace_advice, seed_file

EXTERNAL_NAME = "external"
LINE_MOST = 4096
"""Bytes of the longest name of a TPM; a path has at most as many (PATH_MAX)."""
SOCKET_PATH_MOST = 107
"""Bytes of the longest path of a Unix socket (unix(7))."""
_OWN_KINDS = ("swtpm", "tcti")


class TpmKind(NamedTuple):
    """A kind of TPM, and its place.

    The place is the path of a socket, or a TCTI.  The embedded kind has none.
    """

    kind: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" if self.place else self.kind

    @classmethod
    def parse(cls, word: str) -> TpmKind:
        """Return the kind in a word of `--tpm`, with absolute paths; OperatorError for any other word."""
        kind, colon, place = word.partition(":")
        if word == EMBEDDED.kind:
            return EMBEDDED
        if kind not in _OWN_KINDS or not place or not word.isprintable():
            shown = f"{word!r} names no TPM" if colon or not word else f"there is no kind of TPM {word!r}"
            shown += near_question(kind, KINDS) if kind not in KINDS else ""
            raise OperatorError(rules.TPM_FORM, shown)
        found = cls(kind, _absolute_socket(place) if kind == "swtpm" else _absolute_tcti(place))
        if len(os.fsencode(str(found))) >= LINE_MOST:
            raise OperatorError(rules.TPM_FORM, f"the name of the TPM is longer than {LINE_MOST - 1} bytes")
        return found


EMBEDDED = TpmKind("embedded")
KINDS = (EMBEDDED.kind, *_OWN_KINDS)
"""The first word of each `--tpm`."""


def open_tpm(folder: Path, name: str, wanted: TpmKind | None, entropy: Callable[[int], bytes]) -> Tpm:
    """Return the TPM of a folder.

    `wanted` is the value of `--tpm`.  If it is None, the TPM has the kind that the folder remembers.

    Another place of the same kind is accepted and remembered.  Nothing is sent to the TPM yet.  Raises
    OperatorError for another kind than the remembered one, StorageError if `external` is damaged.
    """
    remembered = remembered_kind(folder, name)
    found = wanted or remembered or EMBEDDED
    if remembered and remembered.kind != found.kind:
        raise OperatorError(
            rules.TPM_KIND,
            f"{name}: {found} is asked for, and {folder} remembers {remembered}; "
            + replace_advice(folder, name),
        )
    tpm = _opened(found, folder, name, entropy)
    # The embedded kind needs no file `external`: its seed file shows the kind.
    if found not in (EMBEDDED, remembered):
        _external(folder, name).write(os.fsencode(f"{found}\n"))
    return tpm


def check_files(folder: Path, name: str) -> None:
    """Raise the errors of `open_tpm` and of the TPM about links, kinds, modes and access; read no content."""
    for file in (_external(folder, name), seed_file(folder, name)):
        file.check()


def remembered_kind(folder: Path, name: str) -> TpmKind | None:
    """Return the kind that the folder of a TPM remembers; None if it is new."""
    external = _external(folder, name)
    content = external.read()
    seeded = os.path.lexists(folder / SEED_NAME)
    if content is None:
        return EMBEDDED if seeded else None
    if seeded:
        raise OperatorError(
            rules.TPM_KIND,
            f"{name}: {folder} has both {EXTERNAL_NAME} and {SEED_NAME}: remove the one that is not in use",
        )
    try:
        return _line(content)
    except (OperatorError, ValueError):
        raise external.damaged(
            f"is damaged: {len(content)} bytes that name no TPM; write the line `swtpm:PATH` or "
            f"`tcti:STRING` into it, or {replace_advice(folder, name).removeprefix('to have a new TPM, ')}"
        ) from None


def _line(content: bytes) -> TpmKind:
    word = os.fsdecode(content)
    found = TpmKind.parse(word.removesuffix("\n"))
    # Only the exact line that `open_tpm` writes is accepted.  Any other line was edited, and may name a TPM
    # that the operator did not mean.
    if found == EMBEDDED or f"{found}\n" != word:
        raise ValueError("not a line that was written here")
    return found


def _external(folder: Path, name: str) -> PrivateFile:
    path, about = folder / EXTERNAL_NAME, {"private": rules.TPM_MODE, "whole": rules.TPM_EXTERNAL}
    return PrivateFile(path, name, LINE_MOST, **about)


def _opened(found: TpmKind, folder: Path, name: str, entropy: Callable[[int], bytes]) -> Tpm:
    """Make the TPM object.  Only the module of its kind is loaded."""
    if found.kind == "swtpm":
        from hcall_server.components.tpm.swtpm import SwtpmTpm

        return SwtpmTpm(found.place, name)
    if found.kind == "tcti":
        from hcall_server.components.tpm.tss import TssTpm

        return TssTpm(found.place, name)
    return EmbeddedTpm(folder, name, entropy)


def _absolute_socket(path: str) -> str:
    """Return an absolute path; OperatorError if it is too long for a socket."""
    found = os.path.abspath(path)  # noqa: PTH100 Path.resolve would follow links
    size = len(os.fsencode(found))
    if size > SOCKET_PATH_MOST:
        raise OperatorError(
            rules.TPM_FORM,
            f"{found} has {size} bytes: the path of a socket has at most {SOCKET_PATH_MOST}; shorten it",
        )
    return found


def _absolute_tcti(tcti: str) -> str:
    """Return a TCTI with the path of swtpm's socket made absolute."""
    absolute = lambda found: found[1] + os.path.abspath(found[2])  # noqa: E731, PTH100
    return re.sub(r"((?:^|[:,])path=)([^,]+)", absolute, tcti)
