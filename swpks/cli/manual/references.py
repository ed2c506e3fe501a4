"""The sections of a page that refer to others: environment, files, exit status, and SEE ALSO."""

from __future__ import annotations

import re
from collections.abc import Iterator

from swpks.cli.manual.inline import inline
from swpks.cli.manual.mdoc import argument, escaped, filled, tagged
from swpks.cli.manual.prose import Rows


def rows(section: str, macro: str, found: Rows) -> Iterator[str]:
    """Yield a section with a list of names; nothing for no names.  `macro` is that of a name, or ""."""
    if found:
        yield f".Sh {section}"
        yield from tagged((_names(macro, name), filled(inline(text))) for name, text in found.items())


def _names(macro: str, name: str) -> str:
    return macro + " , ".join(argument(each) for each in name.split(", "))


def see_also(pages: tuple[str, ...], contract: tuple[str, ...]) -> Iterator[str]:
    """Yield SEE ALSO: manual pages by section and name, then pages of the contract."""
    named = [found.groups() for each in pages if (found := re.fullmatch(r"(.+)\((\d)\)", each))]
    listed = sorted(named, key=lambda each: (each[1], each[0]))
    yield ".Sh SEE ALSO"
    for n, (name, number) in enumerate(listed):
        yield f".Xr {name} {number}{' ,' if n + 1 < len(listed) else ''}"
    if contract:
        yield ".Pp"
        yield "The contract:"
        last = len(contract)
        for n, page in enumerate(contract, 1):
            yield f".Ql {escaped(f'swpks explain {page}')}{' ,' if n < last else ' .'}"
