"""R-73: keys of self-encrypting drives, written and read by Linux's plpks_sed_ops.c with its driver."""

import errno
import re
import subprocess
from pathlib import Path

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, HcallError, read_object, remove_object, write_object
from hcall_client.guests.labels import os_label
from tests.driver.hypervisor import Script
from tests.spec.markdown import ROOT, session

PIN = b"opal-boot-pin"
LABEL = os_label("sed-opal", b"/default/pri\0", 4)
"""The label of the boot PIN. Its name is the length of another string, so it ends with a zero."""
KEY = bytes(range(32))
HEAD = bytes.fromhex("0000000000000000 0000000900010001 0000080200000001")
OS, BOOT_LOADER = Authorization(3), Authorization(2)
WRITTEN = [
    Opcode.REMOVE_OBJECT, Opcode.CONFIRM_OBJECT_FLUSHED, Opcode.WRITE_OBJECT, Opcode.CONFIRM_OBJECT_FLUSHED,
]  # fmt: skip


def stored(machine, label: bytes = LABEL) -> tuple[bytes, int]:
    """Return the data and policy of the object, read without a password as firmware does."""
    read = machine.do(read_object(OS, label, 4000))
    return read.data, read.policy


def test_the_boot_pin_is_kept(newer, boot, machine):
    """The boot PIN is written and read by the kernel's functions, in the form that firmware expects."""
    driver = boot(newer)
    assert driver.sed_read(PIN) == (-errno.ENOENT, b"")
    assert driver.sed_write(PIN, KEY) == 0
    assert driver.sed_read(PIN) == (0, KEY)
    data, policy = stored(machine)
    assert data[:60] == HEAD + (32).to_bytes(4, "big") + KEY
    assert (len(data), policy) == (64, Policy.WORLDREADABLE)


def test_a_new_pin_takes_the_place_of_the_old_one(newer, boot):
    """A write never overwrites.

    So the kernel removes the old PIN first, and waits until each change is durable.
    """
    driver = boot(newer)
    assert driver.sed_write(PIN, KEY) == 0
    driver.opcodes()
    assert driver.sed_write(PIN, b"another") == 0
    assert driver.opcodes() == WRITTEN
    assert driver.sed_read(PIN) == (0, b"another")


def test_other_keys_have_their_own_names(newer, boot, machine):
    """Only the boot PIN has a label that differs from its name."""
    driver = boot(newer)
    assert driver.sed_write(PIN, KEY) == driver.sed_write(b"other-drive", b"secret") == 0
    assert driver.sed_read(b"other-drive") == (0, b"secret")
    assert driver.sed_read(PIN) == (0, KEY)
    assert stored(machine, os_label("sed-opal", b"other-drive", 4))[0][28:34] == b"secret"


@pytest.mark.parametrize("size", [0, 1, 31, 32, 36])
def test_keys_of_each_length(newer, boot, size):
    """A quirk: a key of 33 to 36 bytes extends into the padding of the object, and is read back whole."""
    driver = boot(newer)
    assert driver.sed_write(PIN, bytes(range(1, size + 1))) == 0
    assert driver.sed_read(PIN) == (0, bytes(range(1, size + 1)))


def test_an_ipl_keeps_the_pin(newer, boot, machine):
    """R-04, R-21: the password is new after an IPL, and the key is still there."""
    assert boot(newer).sed_write(PIN, KEY) == 0
    machine.ipl()
    assert boot(newer).sed_read(PIN) == (0, KEY)


def test_nobody_else_changes_it(newer, boot, machine):
    """Other consumers can read the world-readable PIN, but can neither remove nor replace it."""
    assert boot(newer).sed_write(PIN, KEY) == 0
    calls = {
        remove_object(OS, LABEL): Status.H_AUTHORITY,
        write_object(OS, LABEL, b"data"): Status.H_AUTHORITY,
        remove_object(BOOT_LOADER, LABEL): Status.H_NOT_FOUND,
        read_object(BOOT_LOADER, LABEL, 64): Status.H_NOT_FOUND,
    }
    for request, status in calls.items():
        with pytest.raises(HcallError) as refused:
            machine.do(request)
        assert refused.value.status == status
    assert stored(machine)[0][28:60] == KEY


@pytest.mark.parametrize("status,error", [
    (Status.H_NO_MEM, errno.ENOMEM), (Status.H_AUTHORITY, errno.EPERM), (Status.H_BUSY, errno.EBUSY),
])  # fmt: skip
def test_a_refusal_reaches_the_caller(newer, boot, hypervisor, status, error):
    """`sed_write_key` returns the error of its WRITE. It ignores an error of the REMOVE before it."""
    driver = boot(newer)
    hypervisor.next(Opcode.REMOVE_OBJECT, Script(Status.H_AUTHORITY))
    hypervisor.next(Opcode.WRITE_OBJECT, Script(status))
    assert driver.sed_write(PIN, KEY) == -error
    assert driver.sed_read(PIN) == (-errno.ENOENT, b"")


def test_a_machine_without_a_keystore(newer, load):
    """Without a keystore, neither function makes an h-call."""
    driver = load(newer, features=1)
    driver.init()
    driver.opcodes()
    assert driver.sed_write(PIN, KEY) == -errno.EOPNOTSUPP
    assert driver.sed_read(PIN) == (-errno.EOPNOTSUPP, b"")
    assert driver.opcodes() == []


def test_the_object_of_the_recipe(newer, boot, machine, tmp_path: Path):
    """Linux finds its PIN in the object that the shell commands in docs/recipes.md make."""
    commands = session(ROOT / "docs" / "recipes.md", "A self-encrypting drive").commands
    made = commands[: next(n for n, command in enumerate(commands) if command.startswith("swpks"))]
    subprocess.run(["bash", "-euc", "\n".join(made)], cwd=tmp_path, check=True)
    (name,) = re.findall(r"--os-label sed-opal:hex:(\w+) --os-flag common", "\n".join(made))
    label = os_label("sed-opal", bytes.fromhex(name), 4)
    data = (tmp_path / "pin.object").read_bytes()
    machine.do(write_object(OS, label, data, Policy.WORLDREADABLE))
    assert boot(newer).sed_read(PIN) == (0, (tmp_path / "pin.key").read_bytes())
