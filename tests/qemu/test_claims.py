"""Only one machine may run on a partition: claim files, the processes that hold them, and old claim files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swpks.qemu import claims
from swpks.qemu.claims import Claims
from swpks.qemu.errors import PartitionUnusable


def test_a_claim_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    socket = tmp_path / "lpar.1.sock"
    first, second = Claims(), Claims()
    first.take(socket)
    first.take(socket)
    says = f"a machine runs on lpar.1: swpks qemu, process {os.getpid()}; "
    with pytest.raises(PartitionUnusable, match=says):
        second.take(socket)
    second.take(tmp_path / "lpar2.sock")
    first.release()
    second.take(socket)
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_claim_without_a_lock_is_taken_over(tmp_path: Path) -> None:
    left = tmp_path / "lpar1.sock.qemu"
    left.write_text("123456789\n")
    mine = Claims()
    mine.take(tmp_path / "lpar1.sock")
    assert left.read_text() == f"{os.getpid()}\n"
    # The claim file has the mode that its first owner set.
    assert left.stat().st_mode & 0o077 == 0o044
    mine.release()


def test_a_claim_that_was_removed_in_between_is_no_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a claim file is removed before its lock is taken, the claim is made again."""
    real, path = claims._is_at, tmp_path / "lpar1.sock.qemu"
    seen: list[bool] = []

    def removed_at_first(descriptor: int, place: Path) -> bool:
        if not seen:
            place.unlink()
        seen.append(real(descriptor, place))
        return seen[-1]

    monkeypatch.setattr(claims, "_is_at", removed_at_first)
    mine = Claims()
    mine.take(tmp_path / "lpar1.sock")
    assert (seen, path.exists()) == ([False, True], True)
    with pytest.raises(PartitionUnusable, match="a machine runs"):
        Claims().take(tmp_path / "lpar1.sock")
    mine.release()


@pytest.mark.parametrize("name", ["missing/lpar1.sock", "linked.sock"])
def test_a_claim_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    (tmp_path / "linked.sock.qemu").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PartitionUnusable, match=r"\.qemu can't be locked: "):
        Claims().take(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
