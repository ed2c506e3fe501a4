"""The search for secrets finds each secret that a test plants, and nothing else."""

from __future__ import annotations

import base64
import random
from pathlib import Path

from tests.parts.search import WINDOW, Search

SECRET = random.Random(1).randbytes(32)


def test_a_planted_window_is_found_in_each_form() -> None:
    """R-42, R-62: every window is found raw, in hex, and in base64 at any offset."""
    search = Search({"secret": SECRET})
    for at in range(len(SECRET) - WINDOW + 1):
        window = SECRET[at : at + WINDOW]
        for form in (window, window.hex().encode(), window.hex().upper().encode()):
            assert search.within(b"before" + form + b"behind") == {"secret"}
    for before in range(6):
        whole = bytes(before) + SECRET + b"x"
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert search.within(encode(whole)) == {"secret"}
            part = bytes(before) + SECRET[3 : 3 + WINDOW + 3] + b"x"
            assert search.within(encode(part)) == {"secret"}


def test_less_than_a_window_is_not_found() -> None:
    """R-42: seven bytes of a secret are not found, and other bytes are not."""
    search = Search({"secret": SECRET})
    assert search.within(SECRET[: WINDOW - 1]) == set()
    assert search.within(random.Random(2).randbytes(100_000)) == set()


def test_files_are_found_by_content_and_by_name(tmp_path: Path) -> None:
    """R-42, R-62: files are found below a folder at any depth."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(5000) + SECRET[5:20])
    (tmp_path / "a" / SECRET.hex()).touch()
    (tmp_path / "clean").write_bytes(bytes(5000))
    assert Search({"secret": SECRET}).below(tmp_path) == {
        "a/b/file": {"secret"},
        f"a/{SECRET.hex()}": {"secret"},
    }
