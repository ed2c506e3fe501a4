"""docs/boot-loader.md from its first command to its last: ten boots from disks, three of them good."""

from __future__ import annotations

from tests.soak.kernel_page import walk_of
from tests.spec.markdown import ROOT

PAGE = ROOT / "docs" / "boot-loader.md"
SECONDS = 1800
"""Longest time of the page: a boot takes 12 s on an idle machine, and a multiple on a busy one."""


def walk() -> dict[str, int]:
    """Run the page in one shell, and compare all outputs; return the figures."""
    return walk_of(PAGE, SECONDS)
