"""All pages of the manual by their places."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from swpks.cli.manual.commands import command_page, options_of
from swpks.cli.manual.formats import Pages, configuration, frames
from swpks.cli.manual.markdown import section_of, shown
from swpks.cli.manual.mdoc import head
from swpks.cli.manual.overview import command_list, overview
from swpks.cli.manual.prose import EDITION
from swpks.cli.manual.references import see_also
from swpks.cli.words import Command

_SERVER = ("Sockets", "Ready", "Streams", "Scarcity", "Log of the calls", "Stopping", "Dumps and debuggers")
"""The sections of spec/service.md that swpks-serve(1) has."""


def book(root: Command, pages: Pages, usage: Callable[[str], str], version: str) -> dict[str, str]:
    """Return every page by its place below the prefix of an installation, ``share/man/man1/swpks.1``.

    `usage` returns the usage of a line of the management console.
    """
    found = {"swpks.1": _whole(root, version)}
    for each in root.commands:
        more = _of_server(pages) if each.path[-1] == "serve" else ()
        found[f"{'-'.join(each.path)}.1"] = command_page(each, version, usage, more)
    found["swpks.toml.5"] = configuration(pages, version)
    found["swpks-frames.5"] = frames(pages, version)
    found["swpks.7"] = overview(root, pages, version)
    return {f"share/man/man{name[-1]}/{name}": text for name, text in found.items()}


def _of_server(pages: Pages) -> tuple[tuple[str, str], ...]:
    """Return further sections of swpks-serve(1): the state and the behaviour of the server."""
    page = pages("spec/service.md")
    found = [("State", section_of(page, "State")), *((each, section_of(page, each)) for each in _SERVER)]
    return tuple((heading.upper(), "\n".join(shown(text, rank=2))) for heading, text in found)


def _whole(root: Command, version: str) -> str:
    """Return swpks(1): the list of all commands."""
    parts = chain(
        head("swpks", 1, "the PowerVM Platform KeyStore in software", EDITION, version),
        [".Sh SYNOPSIS", ".Nm", ".Ar COMMAND ...", ".Nm", r".Fl \&\-version"],
        [".Sh DESCRIPTION", "The first word names the command, and its page has the rest."],
        ["An overview is in", ".Xr swpks 7 ."],
        options_of(root),
        [".Sh COMMANDS"],
        command_list(root),
        see_also(("swpks(7)", *(f"swpks-{each.path[-1]}(1)" for each in root.commands)), ()),
    )
    return "\n".join(parts) + "\n"
