"""Access keys: each is in its partition's record, and in a file for clients of TCP."""

import errno
import json
import os
from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.frames import Open, ProofKind
from hcall_abi.proof import client_proof
from hcall_abi.rules import protocol
from hcall_server import files
from hcall_server.data_channel.opening import ListenerFacts, admit
from hcall_server.machine.machine import Machine
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.settings import PartitionSettings, Settings
from tests.faults.damage import names, put, records
from tests.service.folder import assembled

WISHES = Settings(partition=(PartitionSettings.of("a", 8),))


def test_a_key_file_is_a_copy_for_clients(tmp_path: Path) -> None:
    """A start writes a key file that is missing or different. It refuses anything but a private file."""
    keys, path = AccessKeys(tmp_path), tmp_path / "a.key"
    key, other = bytes(range(32)), bytes(32)
    assert keys.known("a") is None
    keys.publish("a", key)
    before = path.stat().st_ino
    keys.publish("a", key)
    assert (path.stat().st_ino, path.read_text(), keys.known("a")) == (before, key.hex() + "\n", key)
    assert key.hex() not in repr(keys)
    keys.publish("a", other)
    assert keys.known("a") == other
    path.write_bytes(b"damaged")
    keys.publish("a", key)
    assert keys.known("a") == key


@pytest.mark.parametrize("behind", [b"", b"\n", b"\r\n"], ids=["none", "Unix", "Windows"])
def test_a_key_may_have_any_end_of_line(tmp_path: Path, behind: bytes) -> None:
    """R-21: an editor may have changed line ends or the case of digits; the key is the same."""
    path = tmp_path / "a.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(range(32)).hex().upper().encode() + behind)
    assert AccessKeys(tmp_path).known("a") == bytes(range(32))


NO_KEYS = {
    "empty": b"",
    "no digits": b"zz" * 32,
    "too short": b"00" * 31,
    "too long": b"00" * 33,
    "no text": b"\xff" * 64,
    "text behind": b"00" * 32 + b"\n# of a\n",
    "text far behind": b"00" * 32 + b" " * 40 + b"x",
    "a line behind": b"00" * 32 + b"\n\n",
    "a space before": b" " + b"00" * 32 + b"\n",
    "spaces between": b"00 " * 32,
}


@pytest.mark.parametrize("content", NO_KEYS.values(), ids=NO_KEYS)
def test_a_file_with_anything_but_a_key_holds_none(tmp_path: Path, content: bytes) -> None:
    """R-02: the whole file counts, so no part of another file is accepted as a key."""
    path = tmp_path / "a.key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(OperatorError, match="holds no access key") as caught:
        AccessKeys(tmp_path).known("a")
    assert caught.value.rule.id == "access-key.content"


@pytest.mark.parametrize("what", ["folder", "link", "fifo", "open to others"])
def test_what_is_no_private_file_is_never_taken_for_a_key(tmp_path: Path, what: str) -> None:
    """The start refuses and names a key file that is no private file, and leaves it unchanged.

    It does not wait for the writer of a fifo.
    """
    keys, path = AccessKeys(tmp_path), tmp_path / "a.key"
    if what == "folder":
        path.mkdir(mode=0o700)
    elif what == "link":
        path.symlink_to(tmp_path / "nothing")
    elif what == "fifo":
        os.mkfifo(path, 0o600)
    else:
        path.touch(mode=0o640)
    for request in (lambda: keys.known("a"), lambda: keys.publish("a", bytes(32))):
        with pytest.raises(OperatorError, match=r"a\.key"):
            request()


def test_a_key_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """If a key file can't be written, the error names its partition, and the old file stays."""
    keys = AccessKeys(tmp_path)
    keys.publish("a", bytes(32))
    (tmp_path / "a.key.new").mkdir()
    with pytest.raises(StorageError, match="the access key of a can't be written"):
        keys.publish("a", bytes(range(32)))
    assert keys.known("a") == bytes(32)


def test_an_open_touches_no_key_file(tmp_path: Path) -> None:
    """R-01: OPEN uses the key in the record, not the key file.

    A file that is damaged later stops no connection. The next start repairs it.
    """
    path = tmp_path / "state" / "access-keys" / "a.key"
    with assembled(tmp_path / "state", WISHES) as machine:
        key = machine.system.find("a").access_key
        assert trio.run(machine.encryptor.flush)
        assert path.read_text() == key.hex() + "\n"
        path.unlink()
    with assembled(tmp_path / "state") as machine:
        assert machine.system.find("a").access_key == key
        assert path.read_text() == key.hex() + "\n"


def test_a_key_file_whose_folder_cannot_be_synced_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the folder of a renamed key file can't be synced, the old key is written again.

    A new partition then leaves no key file.
    """
    keys = AccessKeys(tmp_path)
    keys.publish("a", bytes(32))
    calls: list[Path] = []

    def failing_once(folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")

    for name, before in (("a", bytes(32)), ("new", None)):
        calls.clear()
        monkeypatch.setattr(files, "sync_folder", failing_once)
        with pytest.raises(SwpksError):
            keys.publish(name, bytes(range(32)))
        assert keys.known(name) == before


async def test_a_rotated_key_replaces_the_old_one(tmp_path: Path) -> None:
    """The record and the file have the new key, also after a restart.

    If the file can't be written, no key is rotated.
    """
    folder = tmp_path / "state" / "access-keys"
    with assembled(tmp_path / "state", WISHES) as machine:
        first = machine.system.find("a").access_key
        (folder / "a.key.new").mkdir()
        with pytest.raises(StorageError, match="the access key of a can't be written"):
            machine.changes.rotate_key("a")
        assert machine.system.find("a").access_key == first
        (folder / "a.key.new").rmdir()
        second = machine.changes.rotate_key("a").access_key
        assert second != first
        assert await machine.encryptor.flush()
    with assembled(tmp_path / "state") as machine:
        assert machine.system.find("a").access_key == second
        assert (folder / "a.key").read_text() == second.hex() + "\n"


def tried(machine: Machine, key: bytes) -> object:
    """Return the answer to an OPEN over TCP whose proof for partition 1 is made with this key."""
    nonce = bytes(32)
    frame = Open(7, 1, ProofKind.HMAC_SHA256, nonce, client_proof(key, nonce, nonce, 1), "guest")
    return admit(
        frame,
        ListenerFacts(None, demand_proof=True),
        machine.system,
        nonce,
        lambda number: True,
        lambda partition: False,
    )


async def test_an_old_record_does_not_bring_back_a_replaced_key(tmp_path: Path) -> None:
    """R-22: A record from before a key rotation is refused. Its key opens no session and is in no file."""
    state = tmp_path / "state"
    with assembled(state, WISHES) as machine:
        first = machine.system.find("a").access_key
        assert await machine.encryptor.flush()
    name = names(state)["a"]
    before = records(state)[name]
    with assembled(state) as machine:
        second = (await machine.changes.durable_rotate_key("a")).access_key
    put(state, {name: before})
    with assembled(state) as machine:
        (refused,) = machine.system.partitions.values()
        assert refused.refused is not None
        assert refused.refused.rule.id == "records.committed"
        assert AccessKeys(state / "access-keys").known("a") == second
        assert {tried(machine, key) for key in (first, second, b"")} == {protocol.OPEN_PROOF}


def test_a_key_file_is_taken_over_once_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-21: At level 2 only the record has the key.

    A start restores a key file that was replaced, and logs it.
    """
    state = tmp_path / "state"
    with assembled(state, WISHES) as machine:
        key = machine.system.find("a").access_key
        assert trio.run(machine.encryptor.flush)
    path = state / "access-keys" / "a.key"
    path.write_text(bytes(range(32)).hex() + "\n")
    with assembled(state) as machine:
        assert machine.system.find("a").access_key == key
        assert path.read_text() == key.hex() + "\n"
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["partition"]) == ("access_key.replaced", "a")
