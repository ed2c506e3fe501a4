"""docs/boot-loader.md in `make test`: from an empty folder to a good boot and a refused one.

`make soak` runs the whole page (tests/soak/boot_loader_page.py).
"""

import re
import shutil

import pytest

from tests.debian.reporting import needed, reported
from tests.pages.ends import repository, with_end
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import follow
from tests.qemu.guest import PATIENCE, backports_kernel, busybox, need_qemu
from tests.soak.boot_loader_page import PAGE
from tests.soak.kernel_page import boots
from tests.spec.markdown import Session, session, whole
from tools.grub_disk import grub_modules


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_good_boot_and_a_refusal(
    page_blocks: PageBlocks, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-77: the recipe with Debian's packages: GRUB boots one kernel, and refuses the other for its key."""
    for command in ("openssl", "cert-to-efi-sig-list", "sign-efi-sig-list", "cpio"):
        needed(command, shutil.which(command))
    with reported():
        busybox()
        grub_modules()
        need_qemu(backports_kernel())
    parts = session(PAGE, "What you need"), page_blocks.session(), session(PAGE, "At the end")
    steps = Session(*([each for part in parts for each in getattr(part, field)] for field in Session._fields))
    assert boots(steps) == 2
    work = tmp_path_factory.mktemp("b")  # the path of a socket has to be short
    monkeypatch.setenv("TMPDIR", str(work))
    follow(repository(work / "r"), with_end(steps, "", ""), seconds=PATIENCE)


def test_each_refusal_has_its_own_reason() -> None:
    """A kernel that is "not started" proves nothing alone: each refusal of the page has GRUB's message."""
    page = whole(PAGE)
    refusals = [shown for shown in page.shown if "exit status 6" in shown]
    reason = re.compile(r"^  \| (error: (?!secure boot variable).*)$", re.MULTILINE)
    reasons = [found for found in map(reason.findall, refusals) if found]
    assert [len(each) for each in reasons] == [1] * 6
    assert sum("it took longer than" in shown for shown in refusals) == 1
    assert len(refusals) == 7
    assert boots(page) == 10
