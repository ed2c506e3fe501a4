"""R-04: the password passes from kernel to kernel by real device trees, because kexec is no IPL."""

import errno

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from tests.driver import fdt
from tests.driver.driver import Driver

NO_NODE = -1
NO_SPACE = -3


def hand_over(old: Driver, new: Driver) -> None:
    """Perform kexec_file: the old kernel writes the password into the new tree; the new one reads it."""
    tree = fdt.make()
    assert old.populate(tree) == 0
    new.early_init(tree)
    assert fdt.password(tree) is None
    assert new.checked_fdts == 1


def test_the_next_kernel_has_the_password(newer, boot, load):
    """Three kernels in one IPL all read and write; only the first one calls GEN_PASSWORD."""
    old = boot(newer)
    assert old.write(b"key", b"secret") == 0
    for _ in range(2):
        new = load(newer)
        hand_over(old, new)
        assert new.init() == 0
        assert new.opcodes() == [Opcode.GET_CONFIG]
        assert new.config("passwordlen") == 64
        assert new.read(b"key", 64).data == b"secret"
        assert new.remove(b"key") == 0
        assert new.write(b"key", b"secret") == 0
        old = new


def test_the_tree_holds_the_password_and_nothing_of_it_stays(newer, boot, load):
    """The tree has the password as a property. Early boot removes every byte of it from the tree."""
    tree = fdt.make()
    assert boot(newer).populate(tree) == 0
    password = fdt.password(tree)
    assert password
    assert len(password) == 64
    load(newer).early_init(tree)
    assert password not in tree.raw
    assert not any(password[n : n + 8] in tree.raw for n in range(57))


def test_without_the_password_the_next_kernel_is_locked_out(newer, boot, load):
    """After a kexec without the password, GEN_PASSWORD returns H_IN_USE.

    Only world-readable objects can be read.
    """
    assert boot(newer).write(b"key", b"secret") == 0
    for tree in (fdt.make(), fdt.make(chosen=False)):
        new = load(newer)
        new.early_init(tree)
        assert new.checked_fdts == 0
        assert new.init() == 0
        assert new.calls[-1].status == Status.H_IN_USE
        assert new.read(b"key", 64).error == -errno.EPERM


def test_an_ipl_between_the_two_makes_the_password_wrong(newer, boot, load, machine):
    """A password from an earlier IPL is refused, and the driver does not request a new one."""
    old = boot(newer)
    assert old.write(b"key", b"secret") == 0
    new = load(newer)
    hand_over(old, new)
    machine.ipl()
    assert new.init() == 0
    assert new.read(b"key", 64).error == -errno.EPERM
    assert new.write(b"other", b"secret") == -errno.EPERM
    fresh = boot(newer)
    assert fresh.read(b"key", 64).data == b"secret"


def test_trees_that_cannot_take_it(newer, boot):
    """If the tree has no /chosen node or no room, the driver returns the error of libfdt."""
    driver = boot(newer)
    assert driver.populate(fdt.make(chosen=False)) == NO_NODE
    assert driver.log[-1][1].startswith("plpks: Can't find chosen node: FDT_ERR_NOTFOUND")
    assert driver.populate(fdt.make(password=bytes(fdt.SIZE - 200))) == 0
    full = fdt.make()
    assert fdt.shrink(full)
    assert driver.populate(full) == NO_SPACE


def test_no_memory_for_the_password_in_early_boot(newer, boot, load):
    """If there is no memory for the password, early boot goes on without it.

    Early boot still removes the password from the tree.
    """
    tree = fdt.make()
    assert boot(newer).populate(tree) == 0
    new = load(newer)
    new.shim.allocations_left = 0
    new.early_init(tree)
    assert fdt.password(tree) is None
    new.shim.allocations_left = -1
    assert new.init() == 0
    assert new.config("passwordlen") == 0
