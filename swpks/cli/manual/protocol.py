"""The page of the protocol for a reader of the manual, who has C and no files of the repository."""

# spec/protocol.md is a page of the web: it has links, and names the modules of this project.  In a terminal a
# link has no target, so a reference names its section here.  Sentences for developers of swpks become
# sentences for developers of clients.  A sentence of the page that changes would keep its old words
# silently, so a replacement without its sentence is an error: the tests and the build find it.

from __future__ import annotations

import re

_REFERENCE = re.compile(r"\b(see|under) \[[^\]]*\]\(#([\w-]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

_SENTENCES = {
    (
        "This page is version 1 of the protocol. The same bytes as Construct definitions are in"
        " `hcall_abi.frames`, the state table is `hcall_abi.exchange`, and its engine is `hcall_abi.session`."
        " Every frame of this page, right and wrong, is in [vectors/frames](vectors/frames)."
    ): (
        "This page is version 1 of the protocol. In C, the header `swpks/pks.h` has each frame as a"
        " structure, with functions that convert it, and `swpks/pks_client.h` is a client."
        " Their folder is printed by `swpks c-header --include`, and the text of this page by"
        " `swpks explain protocol`."
    ),
    "type | 1 to 6, see below |": "type | 1 to 6; the next table has the types |",
    "status | signed, see below |": "status | signed; the next table has the values |",
    "reason | see below; an unknown one": "reason | the next table has the values; an unknown one",
    "`hcall_client` repeats its attempts": "The client in Python, `hcall_client`, repeats its attempts",
    (
        "The frames are those of [session.json](vectors/frames/session.json), where every field is explained."
    ): "The frames have the fields of the sections of this page.",
    (
        "The access key and both nonces are those of [keys.json](vectors/frames/keys.json); each field of the"
        " frames is explained in [session-2.json](vectors/frames/session-2.json)."
    ): "The access key belongs to this example.",
}
"""Sentences of the page, and those of the manual."""


def for_manual(page: str) -> str:
    """Return the page of the protocol with the sentences of the manual, and with sections for links."""
    for sentence, other in _SENTENCES.items():
        pattern = r"\s".join(map(re.escape, sentence.split()))
        start, *rest = re.split(pattern, page)
        if len(rest) != 1:
            raise LookupError(f"spec/protocol.md has {len(rest)} times, and not once: {sentence!r}")
        page = start + other + rest[0]
    headings = {each.lower().replace(" ", "-"): each.upper() for each in _HEADING.findall(page)}
    words = {"see": "see section", "under": "of section"}
    return _REFERENCE.sub(lambda match: f"{words[match[1]]} {headings[match[2]]}", page)
