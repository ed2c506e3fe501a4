"""A system with all its secrets, the files of its operator, and the commands of a secure erase."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.control_views import PartitionView
from hcall_client.console import (
    ConsoleRefused,
    ConsoleRequest,
    create_partition,
    power_off,
    power_on,
    set_attributes,
    show_partition,
)
from hcall_server.platform.profile import LATCH
from swpks.testing import ServerProcess
from tests.parts.search import Search
from tests.parts.systems import System

CANARY = bytes.fromhex("c0ffee11223344556677889900aabbccddeeff0102030405060708090a0b0c0d0e0f101112131415")
PRESENCE = 4
"""Exit status of an erase that has printed a word."""


class Life:
    """A filled system, and its operator's folder with the trusted system key, the sealed key and copies."""

    def __init__(self, folder: Path, wishes: tuple[str, ...] = ("alpha:64",)) -> None:
        self.operator = folder / "operator"
        self.operator.mkdir()
        self.system = System(folder / "state", wishes=wishes, data=CANARY)
        self.state = self.system.state
        self.key = self.operator / "tsk"
        self.key.write_bytes(os.urandom(32))
        self.sealed = self.operator / "tsk.sealed"
        self.secrets: dict[str, bytes] = {}
        self.system_id = ""
        self.before: PartitionView

    def copy(self, name: str = "alpha") -> Path:
        return self.operator / f"{name}.copy"

    def fill(self) -> None:
        """Use a running system: write an object, set the latch and the operator's key, copy each store."""
        server = self.system.server
        self.system.ask(power_off("alpha"))
        self.system.ask(set_attributes("alpha", {"keystore_signed_updates": 1, LATCH: 1}))
        self.system.ask(power_on("alpha"))
        self.system.write_object()
        server.hmc("chtskey", "-o", "change", "--newkey", str(self.key))
        server.hmc("lstskey", "--sealed", str(self.sealed))
        for name in server.ready["partitions"]:
            server.hmc("copy", name, str(self.copy(name)))
        self.before = self.system.ask(show_partition("alpha"))
        assert self.before.keystore_signed_updates_without_verification == 1
        self.system_id = self.system.view().system_id
        self.secrets = {
            "root key": self.system.root_key(),
            "trusted system key": self.key.read_bytes(),
            "access key": server.access_key("alpha"),
            "object": CANARY,
        }

    @property
    def search(self) -> Search:
        return Search(self.secrets)

    # Commands of the powered-off system

    def asmi(self, action: str) -> str:
        """Erase the powered-off system, with the proof of presence; return the command's text."""
        return erase(self.system.server, action)

    def replace(self, part: str) -> None:
        done = self.system.server.run("hmc", "replace", part)
        assert done.returncode == 0, done.stderr

    def hmc_refused(self, rule: str, *words: str) -> str:
        """Run `swpks hmc` with these words; the system must refuse it by this rule. Return the error."""
        done = self.system.server.run("hmc", *words)
        reported = done.stderr.decode()
        assert (done.returncode, done.stdout) == (1, b""), (done.stdout, reported)
        assert f"; rule {rule}: " in reported
        return reported

    def refused(self, rule: str, request: ConsoleRequest[Any]) -> str:
        """Send a request, which the system must refuse by this rule; return the message.

        It is faster than `hmc_refused`, because no process is started.
        """
        with pytest.raises(ConsoleRefused) as caught:
            self.system.ask(request)
        assert caught.value.rule.id == rule
        return caught.value.message

    def make_partition(self) -> None:
        """Create a partition with a keystore. The system makes a trusted system key for it."""
        self.system.ask(create_partition("gamma", 4))


def erase(server: ServerProcess, action: str) -> str:
    """Erase the powered-off system, with the proof of presence; return the command's text."""
    words = ["asmi", "--state", str(server.state), "--json", action]
    asked = server.run(*words)
    assert asked.returncode == PRESENCE, asked.stderr
    request = json.loads(asked.stdout)
    Path(request["presence"]).write_text(request["word"])
    done = server.run(*words)
    assert (done.returncode, done.stderr) == (0, b"")
    reported = json.loads(done.stdout)
    assert (reported["action"], reported["erased"]) == (action, True)
    return str(reported["text"])
