"""Section 7: what swpks is, its words, its commands, and the pages of its contract."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from swpks.cli.manual.formats import Pages
from swpks.cli.manual.inline import inline, plain
from swpks.cli.manual.markdown import cells_of, section_of, shown
from swpks.cli.manual.mdoc import argument, filled, head, tagged
from swpks.cli.manual.prose import EDITION, EVERY_ERROR
from swpks.cli.manual.references import rows, see_also
from swpks.cli.words import Command

_ABOUT = """
swpks emulates the platform keystore (PKS) of IBM Power, as `swtpm` emulates a TPM. It is for developers
of firmware, boot loaders and kernels. Their real code runs on it, without a Power server, an LPAR or a
management console.

A *managed system* is one process, `swpks serve`, on one state folder. It has *partitions*. Each partition
has a *keystore* of its own, which its software reaches by *h-calls*: `H_PKS_WRITE_OBJECT` and 13 more.
They come as frames over a socket, `DIR/run/NAME.sock`.

A keystore has three *consumers*: firmware (1), boot loader (2) and operating system (3). Each object
belongs to one of them. A consumer locks its objects by a password, which the next *IPL* (a boot) unsets.
A *policy* of an object limits its use.

A change is in memory first. It is *durable* once `CONFIRM_OBJECT_FLUSHED` answers 1. The stores are
encrypted at rest, under keys that come from a root key on the system's *anchor card* and its *TPMs*.

The *management console*, `swpks hmc serve`, powers partitions on and off, takes copies of their
stores, restores lost ones, and moves partitions between systems. It also runs the command lines of existing
scripts for the real console.
"""

_START = """
Start a system with one partition. Write an object as its operating system, wait until it is durable, and
read it:

```
$ export SWPKS_STATE=$PWD/state
$ swpks serve --state state --partition lpar1:64 2>serve.log &
$ echo important | swpks lpar lpar1 write my-object --wait
$ swpks lpar lpar1 read my-object
important
$ swpks hmc status
$ kill $!
```
"""

_ENVIRONMENT = {
    "SWPKS_STATE": "the state folder of a system, for commands without `--state`",
    "SWPKS_HMC": "the store of a console, for commands without `--store`",
}

_LIMITS = "swpks is for development and tests. `swpks explain threats` has the limits of its protection."


def overview(root: Command, pages: Pages, version: str) -> str:
    """Return swpks(7)."""
    own = ("swpks.toml(5)", "swpks-frames(5)", *(f"swpks-{each.path[-1]}(1)" for each in root.commands))
    parts = chain(
        head("swpks", 7, "the PowerVM Platform KeyStore in software", EDITION, version),
        [".Sh DESCRIPTION"],
        shown(_ABOUT),
        [".Sh COMMANDS"],
        command_list(root),
        [".Sh THE CONTRACT"],
        ["The external interface is described in pages that are part of the package:"],
        _contract(pages),
        rows("ENVIRONMENT", "Ev ", _ENVIRONMENT),
        [".Sh EXAMPLES"],
        shown(_START),
        [".Sh DIAGNOSTICS"],
        filled(inline(EVERY_ERROR)),
        see_also(("swpks(1)", *own, "swtpm(8)"), ()),
        [".Sh CAVEATS"],
        filled(inline(_LIMITS)),
    )
    return "\n".join(parts) + "\n"


def command_list(root: Command) -> Iterator[str]:
    """Yield a list of all commands with their summaries."""
    yield from tagged((f"Cm {argument(' '.join(each.path))}", _summary(each)) for each in root.commands)


def _summary(command: Command) -> Iterator[str]:
    yield from filled(inline(f"{command.about[0].upper()}{command.about[1:]}."))
    yield "See"
    yield f".Xr {'-'.join(command.path)} 1 ."


def _contract(pages: Pages) -> Iterator[str]:
    """Yield the table of pages, each with the command that prints it."""
    listed = cells_of(section_of(pages("spec/README.md"), "Reading order"))
    yield from tagged((_explained(page), filled(inline(readers))) for page, readers in listed)


def _explained(page: str) -> str:
    name = plain(page).removesuffix(".md")
    return f"Cm {argument(f'swpks explain {name}')}"
