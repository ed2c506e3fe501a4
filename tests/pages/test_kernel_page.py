"""docs/kernel.md in `make test`: keys are made as shown, and the keystore accepts two of the three updates.

`make soak` runs the whole page in the kernel that it builds (tests/soak/kernel_page.py).
"""

import re
import shutil
from pathlib import Path

import pytest

from tests.debian.reporting import needed
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import follow, run
from tests.soak.kernel_page import INSTALL, PAGE, boots, checked
from tests.spec.markdown import ROOT, session, whole

UPDATES = """
swpks hmc power lpar1 on >power.out
swpks lpar lpar1 update PK --auth root/PK.update && echo PK
swpks lpar lpar1 update db --auth root/db.update && echo db
swpks lpar lpar1 update KEK --auth root/KEK-wrong.update 2>refused || grep -o H_AUTHORITY refused
"""


@pytest.mark.process
def test_the_keys_of_the_page(tmp_path: Path, page_blocks: PageBlocks) -> None:
    """The page's commands make each file, and each update ends as the page says.

    The commands of the console before the first boot are those of the page too.
    """
    for command in ("openssl", "cert-to-efi-sig-list", "sign-efi-sig-list", "cpio"):
        needed(command, shutil.which(command))
    (tmp_path / "root").mkdir()
    keys, enrol = page_blocks.session(), session(PAGE, "Enrol them in the guest")
    boot = next(n for n, command in enumerate(enrol.commands) if command.startswith("swpks qemu "))
    assert boot >= 4
    steps = keys._replace(
        commands=keys.commands + enrol.commands[:boot],
        shown=keys.shown + enrol.shown[:boot],
        typed=keys.typed + enrol.typed[:boot],
    )
    ends = follow(tmp_path, steps, UPDATES, by_line=True)
    assert ends.split() == ["PK", "db", "H_AUTHORITY"]


def test_the_session_of_the_build_returns_to_its_folder() -> None:
    """The session of the build ends in its first folder. Later commands name `build/vmlinux` from there."""
    page = whole(PAGE)
    folder, built = ".", ""
    for command in page.commands:
        if command.startswith("cd "):
            folder = str(Path(folder, command[3:]))
        if " vmlinux" in command:
            built = str(Path(folder, "../build/vmlinux"))
        for kernel in re.findall(r"--kernel (\S*vmlinux)", command):
            assert Path(folder, kernel).resolve() == Path(built).resolve()
    assert boots(page) >= 3


def test_the_packages_of_the_page_are_those_that_the_soak_asks_for() -> None:
    """The page and tools/debian-packages name each package that the build needs."""
    (install,) = (command for command in whole(PAGE).commands if command.startswith(INSTALL))
    wanted = (ROOT / "tools" / "debian-packages").read_text("utf-8")
    for package in install.removeprefix(INSTALL).split():
        assert re.search(rf"need \S+ {re.escape(package)} |need \"[^\"]+\" {re.escape(package)} ", wanted), (
            package
        )


@pytest.mark.process
def test_a_package_that_is_not_installed_is_found(tmp_path: Path) -> None:
    """The soak does not install the packages. It reports one that is missing."""
    written, there, _ = run(tmp_path, [checked(f"{INSTALL}no-such-package"), checked(f"{INSTALL}dpkg")])
    assert "no-such-package" in written
    assert not there
