"""Rules of the console's SSH door, broken by its operator."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.rules import door as rules
from hcall_abi.rules.rule import Rule
from swpks.hmc.sshd import account, door, layout, passwords
from tests.rules.breaking import Breaks, breaks, refused


def _no_store(folder: Path) -> Rule:
    return refused(layout.check_store, folder, 0, "root")


def _open_file(folder: Path) -> Rule:
    path = folder / "passwords"
    path.write_text("hscroot:abc123\n")
    path.chmod(0o644)
    return refused(passwords.read, path)


def _no_program(_: Path) -> Rule:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        return refused(layout.check_programs)


BREAKS: Breaks = {
    rules.DOOR_LISTEN.id: breaks(door.address, "0.0.0.0:22", insecure=False),
    rules.DOOR_USER.id: breaks(account.choose, "no-such-user"),
    rules.DOOR_PROGRAM.id: _no_program,
    rules.DOOR_PASSWORDS.id: _open_file,
    rules.DOOR_STORE.id: _no_store,
}
