"""The whole manual, from the parser and the pages of spec/; tools/build_hook.py installs it."""

from __future__ import annotations

from hcall_server import __version__
from swpks.cli import pages
from swpks.cli.main import whole_parser
from swpks.cli.manual.book import book
from swpks.cli.words import tree
from swpks.hmc.usage import usage_of


def manual() -> dict[str, str]:
    """Return every page by its place below the prefix of an installation, ``share/man/man1/swpks.1``."""
    return book(tree(whole_parser()), pages.page, usage_of, __version__)
