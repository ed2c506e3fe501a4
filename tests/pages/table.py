"""The table of the tests that run the blocks of the pages.

A new page needs a row here: `test_every_block.py` fails until each of its blocks is run, or has a reason. A
page of terminal sessions is a row of WHOLE, and needs no separate test: `test_whole_pages.py` runs it.
"""

from typing import NamedTuple

from tests.spec.markdown import Block


class Whole(NamedTuple):
    """A page whose sessions are run in one shell, in the order of the page.

    If the paragraph before a block of Python or C names a file, such as `program.py`, the folder has that
    file from the start.
    """

    page: str
    least: int
    """Minimum number of commands: a page that is read wrongly has none."""
    then: str = ""
    """A command of the shell after the page, while its servers still run."""
    last: str = ""
    """The output of `then`."""
    measured: bool = True
    """Whether coverage is measured; not for a page whose h-calls other tests make anyway."""


class Elsewhere(NamedTuple):
    """Blocks under a heading that another test runs. The heading `*` means any heading."""

    page: str
    heading: str
    kind: str
    """`python`, `c`, `indented`, or nothing for a session."""
    test: str
    """FILE::FUNCTION. The function takes the blocks by the fixture `page_blocks`."""
    has: str = ""
    """Text of the blocks of this row; others under the heading have rows of their own."""

    def names(self, block: Block) -> bool:
        """Return whether a block of the page belongs to this row."""
        return self.kind == block.kind and self.heading in (block.heading, "*") and self.has in block.code


class InSoak(NamedTuple):
    """Sessions under a heading that take too long for `make test`; a part of `make soak` runs them."""

    page: str
    heading: str
    part: str


class NotRun(NamedTuple):
    """Blocks under a heading that no test runs, with the reason. The heading `*` means any heading."""

    page: str
    heading: str
    kind: str
    reason: str


OP_TEST = r"""
lssyscfg -r lpar -m sys1 --filter "lpar_names=lpar1" | sed s/,/\
/g | grep "secure_boot\|keystore"
"""
"""The line that op-test really sends: `\\\n` in a text of Python is a backslash and a newline for the shell,
which removes both."""

WHOLE = (
    Whole("README.md", 35, "python program.py; python program.py", "b'secret'\nb'secret'"),
    Whole("docs/backup.md", 35, measured=False),
    Whole("docs/clients.md", 10, measured=False),
    Whole("docs/bench.md", 8, "test -s figures.json && grep -o '^<svg ' figures.svg", "<svg"),
    Whole("docs/conformance.md", 10, measured=False),
    Whole("docs/firmware.md", 35, measured=False),
    Whole("docs/console.md", 50, OP_TEST.strip(), "...keystore_kbytes=0..."),
    Whole("docs/migration.md", 40),
    Whole("docs/recipes.md", 50, measured=False),
    Whole("docs/signed-updates.md", 35, measured=False),
    Whole("docs/simulate.md", 5),
    Whole("spec/recovery.md", 17, measured=False),
)

_OWN = "From your own code"
_README = "tests/pages/test_readme.py"
_COMPATIBILITY = "docs/compatibility.md"
_UPGRADE = "tests/pages/test_compatibility_page.py::test_an_upgrade_and_a_step_back"
_CLUSTER = "tests/pages/test_cluster_page.py::test_a_take_over_step_by_step"
_KERNEL = "docs/kernel.md"
_LOADER = "docs/boot-loader.md"
_CHAIN = "tests/pages/test_boot_loader_page.py::test_a_good_boot_and_a_refusal"

ELSEWHERE = (
    Elsewhere("README.md", _OWN, "python", f"{_README}::test_the_test_of_a_partition", "test_my_boot_code"),
    Elsewhere("README.md", _OWN, "python", f"{_README}::test_the_test_of_a_console", "test_my_runbook"),
    Elsewhere("README.md", _OWN, "python", f"{_README}::test_the_test_of_a_move", "test_my_guest_moves"),
    Elsewhere("README.md", "Under a real kernel", "", f"{_README}::test_the_boot_is_that_of_the_recipe"),
    Elsewhere(
        "README.md", "The whole chain: firmware, GRUB and Linux", "",
        f"{_README}::test_the_chain_is_that_of_its_page",
    ),
    Elsewhere("README.md", "The wire in Wireshark", "", f"{_README}::test_a_capture_in_words"),
    Elsewhere("README.md", "Another server or client", "", f"{_README}::test_the_verdict_is_that_of_a_run"),
    Elsewhere(_COMPATIBILITY, "An upgrade", "", _UPGRADE),
    Elsewhere(_COMPATIBILITY, "A step back", "", _UPGRADE),
    Elsewhere("docs/cluster.md", "*", "", _CLUSTER),
    Elsewhere("docs/cluster.md", "*", "python", _CLUSTER),
    Elsewhere(
        _KERNEL, "Five minutes: a stock kernel", "",
        "tests/qemu/test_recipe.py::test_the_recipe_boots_and_prints_what_the_page_shows",
    ),
    Elsewhere(_LOADER, "A kernel and an initramfs", "", _CHAIN),
    Elsewhere(_LOADER, "Keys", "", _CHAIN),
    Elsewhere(_LOADER, "Disks", "", _CHAIN),
    Elsewhere(_LOADER, "A partition that enforces", "", _CHAIN),
    Elsewhere(_LOADER, "A good boot", "", _CHAIN),
    Elsewhere(_LOADER, "A wrong key", "", _CHAIN),
    Elsewhere(
        "docs/firmware.md", "Five minutes: a server and a program", "c",
        "tests/pages/test_firmware_page.py::test_the_excerpt_is_of_the_example",
    ),
    Elsewhere(_KERNEL, "Keys of your own", "", "tests/pages/test_kernel_page.py::test_the_keys_of_the_page"),
    Elsewhere(
        "docs/testing.md", "*", "python", "tests/pages/test_testing_page.py::test_every_program_is_collected"
    ),
    Elsewhere(
        "docs/testing.md", "*", "", "tests/pages/test_testing_page.py::test_the_project_of_the_page"
    ),
    Elsewhere(
        "docs/evidence.md", "*", "indented", "tests/soak/test_evidence.py::test_commands_of_the_page"
    ),
)  # fmt: skip

IN_SOAK = (
    InSoak(_KERNEL, "What you need", "kernel-page"),
    InSoak(_KERNEL, "A kernel with the secure-boot variables", "kernel-page"),
    InSoak(_KERNEL, "Enrol them in the guest", "kernel-page"),
    InSoak(_KERNEL, "At the end", "kernel-page"),
    InSoak(_LOADER, "What you need", "boot-loader-page"),
    InSoak(_LOADER, "No signature", "boot-loader-page"),
    InSoak(_LOADER, "Another key in db", "boot-loader-page"),
    InSoak(_LOADER, "Revoked kernels and keys", "boot-loader-page"),
    InSoak(_LOADER, "Static keys", "boot-loader-page"),
    InSoak(_LOADER, "A boot without an end", "boot-loader-page"),
    InSoak(_LOADER, "At the end", "boot-loader-page"),
)

NOT_RUN = (
    NotRun(
        "README.md", "Two commands", "",
        "`make test` is the run that reads this row, and tests/demo/test_demo.py runs `make demo`'s command",
    ),
    NotRun(
        "docs/driver.md", "How it gets there", "indented",
        "both commands run tests of tests/driver, and `make test` runs all of these",
    ),
    NotRun(
        "docs/evidence.md", "*", "",
        "no commands: lines that runs have printed; tests/soak/test_evidence.py compares their figures",
    ),
)  # fmt: skip
