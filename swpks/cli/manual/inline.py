"""Running text of Markdown as escaped text for mdoc: code, stress and links."""

from __future__ import annotations

import re

from swpks.cli.manual.mdoc import escaped

_PAGE = re.compile(r"([\w/-]+)\.md")
_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>.+?)\*\*|(?<![\w*])\*(?P<stress>[^*\s][^*]*)\*"
    r"|\[(?P<link>[^\]]*)\]\([^)]*\)|(?P<anchor><a id=\"[^\"]*\"></a>)"
)


def inline(text: str) -> str:
    """Return running text of Markdown as escaped text; code is bold, and a link is its text."""
    parts, at = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escaped(text[at : match.start()]))
        parts.append(_span(match))
        at = match.end()
    return "".join(parts) + escaped(text[at:])


def _span(match: re.Match[str]) -> str:
    if match["code"]:
        return rf"\fB{escaped(match['code'])}\fR"
    if match["strong"]:
        # Fonts do not nest: code inside of strong text ends it.  The pages have strong names and sentences.
        return rf"\fB{escaped(plain(match['strong']))}\fR"
    if match["stress"]:
        return rf"\fI{escaped(plain(match['stress']))}\fR"
    page = _PAGE.fullmatch(match["link"] or "")
    # The reader of a manual has no file of this name, and a command that prints it.
    return rf"\fB{escaped(f'swpks explain {page[1]}')}\fR" if page else inline(match["link"] or "")


def plain(text: str) -> str:
    """Return running text without marks."""
    return _INLINE.sub(lambda match: next(filter(None, match.groups()), "").partition("<a ")[0], text)
