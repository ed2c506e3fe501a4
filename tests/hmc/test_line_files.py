"""Files of the small client: it opens only those that the user has named, and only as the option says."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest

from hcall_server.console.lines.run import COMMANDS
from swpks.hmc import line_client
from tests.hmc.fake import Message, run


def test_a_file_that_is_named_travels(fake, tmp_path) -> None:
    """The client reads a named file with the user's rights and sends its content."""
    file = tmp_path / "key"
    file.write_bytes(b"\0secret")
    words = ["chtskey", "--newkey", str(file)]
    assert run(fake, words, {"read": str(file), "limit": 32}, {"exit": 0}) == 0
    assert base64.b64decode(fake.heard[1]["content"]) == b"\0secret"


@pytest.mark.parametrize("path", ["/etc/passwd", "other", "", "chtskey", "--newkey", "./key", "k", None, 7])
def test_no_other_file_is_opened(fake, tmp_path, monkeypatch, path) -> None:
    """A file that the line does not name is neither read nor written, whatever the console requests."""
    monkeypatch.chdir(tmp_path)
    for name in ("other", "chtskey", "--newkey", "key", "k"):
        (tmp_path / name).write_bytes(b"secret")
    opened: list[object] = []
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given))
    words = ["chtskey", "--newkey", "key"]
    content = base64.b64encode(b"evil").decode()
    asked = {"write": path, "content": content, "replace": True}
    assert run(fake, words, {"read": path, "limit": 32}, asked, {"exit": 0}) == 0
    assert [set(reply) for reply in fake.heard[1:]] == [{"error"}, {"error"}]
    assert opened == []


def test_a_file_that_is_too_large_does_not_travel(fake, tmp_path) -> None:
    """A file above the console's limit, or above 16 MiB, is not sent."""
    file = tmp_path / "file"
    file.write_bytes(bytes(line_client.LARGEST_FILE + 1))
    words = ["chtskey", "--newkey", str(file)]
    limits = (3, 1 << 40, None, -1)
    assert run(fake, words, *({"read": str(file), "limit": limit} for limit in limits), {"exit": 0}) == 0
    assert all("it has more than" in reply["error"] for reply in fake.heard[1:])


def wanted(path: Path, *, replace: bool = True, content: str = "YmFja3Vw") -> Message:
    """Return the message that lets a command write a file."""
    return {"write": str(path), "content": content, "replace": replace}


def test_a_written_file_is_private_and_whole(fake, tmp_path) -> None:
    """A new file has mode 0600. An existing file stays, unless the console says `replace`."""
    new = tmp_path / "new"
    messages = [wanted(new, content="="), wanted(new, replace=False), wanted(new, replace=False)]
    assert run(fake, ["bkprofdata", "--force", "-f", str(new)], *messages, {"exit": 0}) == 0
    first, second, third = fake.heard[1:]
    assert ("error" in first, second, "exists" in third["error"]) == (True, {"written": True}, True)
    assert (new.read_bytes(), stat.S_IMODE(new.stat().st_mode)) == (b"backup", 0o600)


def test_a_file_is_replaced_where_the_user_has_forced_it(fake, tmp_path) -> None:
    """With --force a file is replaced, and has mode 0600 afterwards. A folder is not replaced."""
    old = tmp_path / "old"
    old.write_bytes(b"older and longer")
    old.chmod(0o644)
    words = ["mkprofdata", "-x", str(old), "--force", "-x", str(tmp_path)]
    assert run(fake, words, wanted(old), wanted(tmp_path), {"exit": 0}) == 0
    assert fake.heard[1] == {"written": True}
    assert "directory" in fake.heard[2]["error"]
    assert (old.read_bytes(), stat.S_IMODE(old.stat().st_mode)) == (b"backup", 0o600)


@pytest.mark.parametrize(
    "line",
    [
        "chtskey -o change --newkey FILE --force",
        "chtskey -o change --oldkey FILE --force",
        "chsyscfg -r lpar -f FILE --force",
        "mksyscfg -r lpar -f FILE --force",
        "rstprofdata -l 1 -f FILE --force",
        "rmprofdata -f FILE --force",
        "mkprofdata -r sys -b FILE --force",
        "bkprofdata -f FILE",
        "mkprofdata -r sys -x FILE",
        "bkprofdata -m FILE --force",
        "lshmc -f FILE --force",
    ],
)
def test_a_malicious_console_replaces_no_file(fake, tmp_path, line) -> None:
    """Only an option for a written file, with --force, lets the console replace an existing file."""
    file = tmp_path / "file"
    file.write_bytes(b"precious")
    words = [str(file) if word == "FILE" else word for word in line.split()]
    assert run(fake, words, wanted(file), {"exit": 0}) == 0
    assert "error" in fake.heard[1]
    assert file.read_bytes() == b"precious"


@pytest.mark.parametrize("path", ["change", "-o", "chtskey", "newkey"])
def test_a_malicious_console_makes_no_file(fake, tmp_path, monkeypatch, path) -> None:
    """The console can let the client write a file only if an option of the line names that file."""
    monkeypatch.chdir(tmp_path)
    words = ["chtskey", "-o", "change", "--newkey", "newkey"]
    assert run(fake, words, wanted(Path(path), replace=False), {"exit": 0}) == 0
    assert "to be written" in fake.heard[1]["error"]
    assert not (tmp_path / path).exists()


def test_a_file_that_is_written_is_not_read(fake, tmp_path) -> None:
    """The console can't read the file that bkprofdata will replace."""
    file = tmp_path / "file"
    file.write_bytes(b"secret")
    words = ["bkprofdata", "-f", str(file), "--force"]
    assert run(fake, words, {"read": str(file), "limit": 99}, {"exit": 0}) == 0
    assert "to be read" in fake.heard[1]["error"]


def test_the_tables_are_those_of_the_commands() -> None:
    """The client's tables have each option of the console's commands whose value is a file."""
    files = {
        (name, option.flag)
        for name, command in COMMANDS.items()
        for option in command.syntax.options
        if option.shown in ("FILE", "XMLFILE") and name != "rmprofdata"
    }
    tables = (line_client.READ, line_client.WRITTEN)
    assert {(name, flag) for table in tables for name, flags in table.items() for flag in flags} == files


def test_half_a_file_does_not_stay(fake, tmp_path, monkeypatch) -> None:
    """A file whose write fails is removed, because it would look like a whole backup."""

    def full(_descriptor: int, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(line_client, "_fill", full)
    file = tmp_path / "backup"
    asked = {"write": str(file), "content": "eA==", "replace": False}
    assert run(fake, ["bkprofdata", "-f", str(file)], asked, {"exit": 1}) == 1
    assert "No space left" in fake.heard[1]["error"]
    assert not file.exists()


def test_a_replaced_file_is_the_old_one_or_the_new_one(fake, tmp_path, monkeypatch) -> None:
    """R-46: A failed write leaves the old backup whole and no other file. A link stays a link."""
    file, link = tmp_path / "backup", tmp_path / "link"
    file.write_bytes(b"the last backup, which is longer")
    link.symlink_to(file)
    asked = {"write": str(link), "content": "eA==", "replace": True}
    with monkeypatch.context() as patch:
        patch.setattr(line_client, "_write", _full)
        assert run(fake, ["bkprofdata", "-f", str(link), "--force"], asked, {"exit": 1}) == 1
    assert "No space left" in fake.heard[1]["error"]
    assert file.read_bytes() == b"the last backup, which is longer"
    assert sorted(tmp_path.glob("*")) == sorted(tmp_path.glob("[!.]*"))
    line_client.NamedFiles(["bkprofdata", "-f", str(link), "--force"]).write(str(link), b"x", replace=True)
    assert (file.read_bytes(), link.is_symlink()) == (b"x", True)
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".swpks-")]


def _full(_descriptor: int, _data: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_is_tested_before(fake, tmp_path) -> None:
    """R-46: The client tests a file for writing without a change, before the console makes copies."""
    old, new, lost = tmp_path / "old", tmp_path / "new", tmp_path / "no" / "new"
    old.write_bytes(b"old")
    paths = [str(each) for each in (old, new, lost, tmp_path)]
    messages = [
        {"test": str(old), "replace": False},
        {"test": str(old), "replace": True},
        {"test": str(new), "replace": False},
        {"test": str(lost), "replace": False},
        {"test": str(tmp_path), "replace": True},
        {"test": "/dev/null", "replace": True},
        {"test": str(tmp_path / "other"), "replace": False},
    ]
    words = [word for path in (*paths, "/dev/null") for word in ("-f", path)]
    assert run(fake, ["bkprofdata", *words, "--force"], *messages, {"exit": 0}) == 0
    assert [set(reply) for reply in fake.heard[1:]] == [
        {"error"}, {"writable"}, {"writable"}, {"error"}, {"error"}, {"writable"}, {"error"},
    ]  # fmt: skip
    assert {each.name for each in tmp_path.iterdir()} == {"old", "store"}
