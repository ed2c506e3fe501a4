"""Files of snapshots: names, modes, links, a full disk; and the answers of the verbs."""

import errno
import os
from pathlib import Path
from uuid import UUID

import pytest

from hcall_abi import bounds
from hcall_abi.errors import OperatorError, ScarcityError, StorageError, SwpksError
from hcall_abi.rules import snapshot as rules
from hcall_abi.snapshot_bodies import NamedSnapshot, SnapshotComparison, SnapshotLoading, SnapshotSaving
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.sealing.snapshots import SnapshotContents
from hcall_server.service.snapshot_places import destroy_snapshots, kept_snapshots, snapshots_of
from hcall_server.snapshots import shelf_files
from hcall_server.snapshots.diff import differences
from hcall_server.snapshots.shelf_files import SnapshotFiles
from tests.sealing.samples import OFF, RECORD
from tests.snapshots.world import WORDS, World, filled, write

BLOB = b"a snapshot"


@pytest.fixture
def files(tmp_path: Path) -> SnapshotFiles:
    """Return the files of an empty folder."""
    return SnapshotFiles(tmp_path / "snapshots")


def test_a_snapshot_is_private_and_has_one_kind(files: SnapshotFiles) -> None:
    """R-83: files have mode 0600; a save of the other kind takes the place of the first one."""
    assert files.entries() == []
    assert files.write("base", BLOB, portable=False) == "base.snapshot"
    path = files.folder / "base.snapshot"
    assert path.stat().st_mode & 0o777 == 0o600
    assert files.folder.stat().st_mode & 0o777 == 0o700
    with pytest.raises(OperatorError) as caught:
        files.demand_new("base")
    assert caught.value.rule is rules.SNAPSHOT_NEW
    assert files.write("base", BLOB + b"2", portable=True) == "base.portable"
    assert [each.name for each in files.entries()] == ["base"]
    assert files.read("base") == BLOB + b"2"
    (files.folder / "base.portable.new").touch()
    files.remove("base")
    assert list(files.folder.iterdir()) == []


def test_unknown_names_have_a_hint(files: SnapshotFiles) -> None:
    """R-83: a snapshot that does not exist is refused with a near name, or with the known ones."""
    for known, near, far in (
        ((), "none was saved", "none was saved"),
        (("base",), "did you mean", "are base"),
    ):
        for name in known:
            files.write(name, BLOB, portable=False)
        for wrong, hint in (("basse", near), ("xyz", far)):
            with pytest.raises(OperatorError) as caught:
                files.read(wrong)
            assert caught.value.rule is rules.SNAPSHOT_EXISTS
            assert hint in caught.value.message


def test_links_and_other_files_are_refused(files: SnapshotFiles, tmp_path: Path) -> None:
    """R-83: a link in the folder, a pipe, and a folder that others may enter are refused."""
    files.write("base", BLOB, portable=False)
    (files.folder / "link.snapshot").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(files.folder / "pipe.snapshot")
    for name in ("link", "pipe"):
        with pytest.raises(OperatorError) as caught:
            files.read(name)
        assert caught.value.rule is rules.SNAPSHOT_FILE
    assert [bool(each.problem) for each in files.entries()] == [False, True, True]
    with pytest.raises(SwpksError):
        files.write("link", BLOB, portable=False)
    assert not (tmp_path / "elsewhere").exists()
    files.folder.chmod(0o755)
    with pytest.raises(OperatorError):
        files.entries()
    linked = SnapshotFiles(tmp_path / "linked")
    linked.folder.symlink_to(files.folder)
    with pytest.raises(OperatorError):
        linked.entries()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_a_failing_disk_leaves_the_old_snapshot(
    files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """R-83: if a save fails, the error has a rule, and the old snapshot is still there."""
    files.write("base", BLOB, portable=False)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number), "there")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((StorageError, ScarcityError)):
        files.write("base", b"new", portable=False)
    monkeypatch.undo()
    assert files.read("base") == BLOB
    assert [each.name for each in files.folder.iterdir()] == ["base.snapshot"]


def test_bounds(files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-83: number and size of snapshots are bounded."""
    monkeypatch.setattr(shelf_files, "MOST_SNAPSHOTS", 1)
    files.write("base", BLOB, portable=False)
    files.write("base", BLOB, portable=False)
    with pytest.raises(OperatorError) as caught:
        files.write("more", BLOB, portable=False)
    assert caught.value.rule is rules.SNAPSHOT_COUNT
    monkeypatch.setattr(shelf_files, "LARGEST_SNAPSHOT", 4)
    with pytest.raises(OperatorError) as caught:
        files.read("base")
    assert caught.value.rule is rules.SNAPSHOT_SIZE
    assert bounds.LARGEST_SNAPSHOT > bounds.MOST_SNAPSHOTS


def test_an_erase_destroys_all_of_them(files: SnapshotFiles, tmp_path: Path) -> None:
    """R-61, R-62: both erases name and destroy the snapshots, also portable ones."""
    assert list(kept_snapshots(tmp_path)) == []
    destroy_snapshots(tmp_path)
    files.write("base", BLOB, portable=True)
    assert "portable" in next(kept_snapshots(tmp_path))
    destroy_snapshots(tmp_path)
    assert not files.folder.exists()


def test_changed_and_removed_objects() -> None:
    """R-83: a diff shows changed, removed and added objects by label and size, and partitions by UUID."""
    old = StoreImage.of(1, (StoredObject(3, b"a", 0, b"1"), StoredObject(3, b"b", 0, b"22")))
    new = StoreImage.of(2, (StoredObject(3, b"a", 0, b"333"), StoredObject(1, b"b", 0, b"")))
    before = SnapshotContents(
        "s",
        1,
        (RECORD._replace(image=old), OFF._replace(profile=OFF.profile._replace(uuid=UUID(int=9), name="z"))),
    )
    after = SnapshotContents("s", 2, (RECORD._replace(image=new),))
    found = differences(before, after)
    objects = found.partitions[0].objects
    assert [(each.consumer, each.change, each.before, each.after) for each in objects] == [
        (1, "added", None, 0), (3, "changed", 1, 3), (3, "removed", 2, None)
    ]  # fmt: skip
    assert [each.change for each in found.partitions] == ["changed", "removed"]
    assert [(each.name, each.before, each.after) for each in found.values] == [("total_kbytes", 1, 2)]


async def test_the_answers_have_no_data(tmp_path: Path) -> None:
    """R-83: list, show and diff have labels and sizes, and neither data, keys nor the passphrase."""
    world = World(tmp_path)
    machine = world.start()
    filled(machine)
    seam = snapshots_of(machine, tmp_path)()
    saved = await seam.saved(SnapshotSaving(name="base"))
    portable = await seam.saved(SnapshotSaving(name="p", passphrase=WORDS))
    assert (saved.file, portable.facts.kind) == ("base.snapshot", "portable")
    (tmp_path / "snapshots" / "torn.snapshot").write_bytes(b"SPKN")
    listed = await seam.listed()
    assert [(each.name, each.kind) for each in listed.snapshots] == [
        ("base", "own"), ("p", "portable"), ("torn", "unknown")
    ]  # fmt: skip
    shown = await seam.shown(NamedSnapshot(name="base"))
    assert [each.objects[0].label for each in shown.partitions] == [b"old".hex()] * 2
    assert not (await seam.shown(NamedSnapshot(name="p"))).opened
    assert (await seam.shown(NamedSnapshot(name="p", passphrase=WORDS))).partitions == shown.partitions
    machine.power_on("a")
    write(machine, "a", b"new")
    machine.power_off("a")
    machine.set_attributes("b", {"secure_boot": 2})
    await machine.changes.set_name("named")
    machine.changes.create("c", 4)
    diff = await seam.compared(SnapshotComparison(name="base"))
    assert [(each.name, each.change) for each in diff.partitions] == [
        ("a", "changed"), ("b", "changed"), ("c", "added")
    ]  # fmt: skip
    assert [(each.change, each.before, each.after) for each in diff.partitions[0].objects] == [
        ("added", None, 11)
    ]  # fmt: skip
    assert [each.name for each in diff.values] == ["name"]
    same = await seam.compared(SnapshotComparison(name="base", other="p", passphrase=WORDS))
    assert (same.partitions, same.same) == ([], ["a", "b"])
    loaded = await seam.loaded(SnapshotLoading(name="base"))
    assert loaded.untouched == ["c"]
    assert [each.name for each in (await seam.removed(NamedSnapshot(name="p"))).snapshots] == ["base", "torn"]
    texts = repr([saved, portable, listed, shown, diff, same, loaded, seam])
    assert "CANARY" not in texts
    assert "horse" not in repr(SnapshotSaving(name="p", passphrase=WORDS))
