"""Facts for the manual that neither the parser nor a page of spec/ has: files, environment, references."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

EDITION = "November 27, 2026"
"""The date in each page: that of the release, not of a build.  A release in CHANGELOG.md changes it."""

Rows = Mapping[str, str]
"""Names with their texts, in Markdown."""


_STATUS = MappingProxyType(
    {
        "0": "done",
        "2": "a wrong command line, or a file that cannot be used",
    }
)


class CommandFacts(NamedTuple):
    """The sections of a command's page that are written by hand; the texts are Markdown."""

    about: str = ""
    """Paragraphs behind the description of the parser."""
    environment: Rows = MappingProxyType({})
    files: Rows = MappingProxyType({})
    status: Rows = _STATUS
    """Exit statuses, if the description of the parser has none."""
    examples: tuple[tuple[str, str], ...] = ()
    """Sentences with a command line each."""
    see: tuple[str, ...] = ()
    """Further pages, as NAME(SECTION)."""
    pages: tuple[str, ...] = ()
    """Pages of the contract, for `swpks explain`."""


_STATE = "the state folder, if a command has no `--state`"

FACTS: Mapping[str, CommandFacts] = MappingProxyType(
    {
        "serve": CommandFacts(
            about="All durable data are in one state folder. Each partition that is powered on has a private"
            " socket there, and the console has another one. The options have priority over the file of"
            " `--config`. A signal, or `swpks hmc stop`, stops the server in good order.",
            environment={
                "SWPKS_STATE": _STATE,
                "LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID": "sockets that a service manager passes",
                "NOTIFY_SOCKET": "the socket of a service manager that waits for `READY=1`",
            },
            status={
                "0": "the server has stopped in good order, and everything is durable",
                "1": "an error of the server itself; the log has its trace",
                "2": "a wrong command line, configuration or state; nothing was changed",
                "3": "the storage fails, or a stop could not make everything durable",
            },
            examples=(
                (
                    "Serve a system with two partitions. Their keystores have 64 and 16 KiB:",
                    "swpks serve --state state --partition lpar1:64 --partition lpar2:16",
                ),
                (
                    "Serve the metrics for Prometheus too:",
                    "swpks serve --state state --metrics tcp:127.0.0.1:9100",
                ),
            ),
            see=("swpks.toml(5)", "swpks-lpar(1)", "swpks-hmc(1)", "systemd.socket(5)", "sd_notify(3)"),
            pages=("service", "control", "protocol", "threats"),
        ),
        "lpar": CommandFacts(
            environment={"SWPKS_STATE": _STATE},
            files={
                "DIR/run/NAME.sock": "the private socket of the partition NAME",
                "DIR/access-keys/NAME.key": "its access key, for OPEN over TCP",
            },
            see=("swpks-serve(1)", "swpks-hmc(1)", "swpks-frames(5)"),
            pages=("hcalls/index", "policies", "structures"),
        ),
        "asmi": CommandFacts(
            environment={"SWPKS_STATE": _STATE},
            files={
                "DIR/presence": "the word of a person who can write to the state folder",
                "DIR/asmi/request": "the word that was requested",
            },
            see=("swpks-serve(1)", "swpks-hmc(1)"),
            pages=("erase",),
        ),
        "hmc": CommandFacts(
            environment={
                "SWPKS_HMC": "the console's store, if a command has no `--store`",
                "SWPKS_STATE": _STATE,
            },
            files={
                "STORE/run/console.sock": "the socket of the console",
                "STORE/run/where.sock": "the socket that answers the place of a partition",
                "DIR/run/control.sock": "the control channel of one system",
            },
            see=("swpks-serve(1)", "swpks-lpar(1)"),
            pages=("console", "control", "recovery", "migration"),
        ),
        "qemu": CommandFacts(
            environment={"SWPKS_STATE": "the state folder, if the command has no `--state`"},
            files={"DIR.log": "the log of a server that the command has started"},
            see=("swpks-serve(1)", "swpks-lpar(1)", "qemu-system-ppc64(1)"),
            pages=("qemu", "linux"),
        ),
        "explain": CommandFacts(pages=("rules",)),
        "capabilities": CommandFacts(pages=("capabilities",)),
        "completion": CommandFacts(
            files={
                "share/bash-completion/completions/swpks": "the script for bash, below the installation",
                "share/zsh/site-functions/_swpks": "the script for zsh",
                "share/fish/vendor_completions.d/swpks.fish": "the script for fish",
            },
            see=("bash(1)", "zsh(1)", "fish(1)"),
        ),
        "c-header": CommandFacts(
            status=_STATUS,
            see=("swpks-frames(5)", "swpks-conformance(1)", "cc(1)"),
            pages=("protocol", "structures", "hcalls/index"),
        ),
        "dissector": CommandFacts(
            status=_STATUS, see=("swpks-frames(5)", "tshark(1)", "wireshark(1)"), pages=("protocol",)
        ),
        "conformance": CommandFacts(
            see=("swpks-frames(5)", "swpks-serve(1)"), pages=("conformance", "protocol")
        ),
        "simulate": CommandFacts(see=("swpks-hmc(1)",), pages=("migration",)),
        "bench": CommandFacts(see=("swpks-serve(1)",)),
        "demo": CommandFacts(
            about="The demo makes its own folder, and needs no server. With `cryptsetup` it encrypts a real"
            " LUKS2 container; without it, a file.",
            status={"0": "the demo has ended as it should", "1": "a step has failed"},
            see=("swpks-serve(1)", "cryptsetup(8)"),
        ),
    }
)
"""The facts of the commands that have some."""

EVERY_ERROR = (
    "An error is one line on standard error: the message, whose fault it is, the rule that was broken, and"
    " the page of the contract. `swpks explain RULE` prints both."
)
