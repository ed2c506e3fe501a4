"""The file of a profile backup, and the plan of a restore at each level. Pure functions (R-46)."""

from __future__ import annotations

import os
from xml.etree import ElementTree

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.profile_files import ProfileFiles
from hcall_server.console.profile_format import (
    ProfileBackup,
    SavedKey,
    SavedPartition,
    decode_profiles,
    encode_profiles,
    profiles_as_xml,
    saved_partition,
    saved_system,
)
from hcall_server.console.profile_plan import RestoreLevel, RestorePlan, StorePlaces, plan_restore
from tests.console.facts import KEY_ID, SYSTEM_ID, UUIDS, B, blob, partition, system


def saved(
    name: str, generation: int = 1, restores: int = 0, *, copy: bool = True, kbytes: int = 64
) -> SavedPartition:
    """Return a partition of a backup."""
    facts = saved_partition(partition(name, generation=generation, restores=restores))
    if copy:
        facts.copy = blob(UUIDS[name], generation, restores, kbytes=kbytes)
        facts.key_id, facts.time = KEY_ID, 1000
    return facts


def backup(*partitions: SavedPartition) -> ProfileBackup:
    return ProfileBackup(1000, saved_system(system()), list(partitions), [SavedKey(KEY_ID, b"sealed")])


def planned(level: RestoreLevel, of: ProfileBackup | None, *present, elsewhere=None) -> RestorePlan:
    return plan_restore(level, of, system(*present), StorePlaces([SYSTEM_ID], elsewhere or {}))


def steps(plan: RestorePlan) -> list[str]:
    return [f"{step.kind} {step.name}" for step in plan.steps]


BOTH = backup(saved("a", 5), saved("b", 5))


def test_level_1_makes_the_system_as_in_the_backup() -> None:
    plan = planned(1, BOTH, partition("a", generation=5), partition("c"))
    assert steps(plan) == ["delete c", "restore a", "restore b"]
    assert plan.forced == plan.running == []
    plan.demand(force=False)


def test_level_2_lets_the_backup_win_and_the_others_stay() -> None:
    assert steps(planned(2, BOTH, partition("a", generation=5), partition("c"))) == ["restore a", "restore b"]


def test_level_3_brings_back_what_is_missing_alone() -> None:
    plan = planned(3, BOTH, partition("a", generation=9, power="running"), partition("c"))
    assert steps(plan) == ["restore b"]
    plan.demand(force=False)


def test_level_4_deletes_all_partitions() -> None:
    plan = planned(4, None, partition("a"), partition("b", objects=2))
    assert steps(plan) == ["delete a", "delete b"]
    assert plan.forced == ["b would be deleted, with 2 objects"]


@pytest.mark.parametrize("level", [1, 2])
def test_going_behind_the_present_is_said_and_needs_force(level: RestoreLevel) -> None:
    """R-46: The plan lists all losses before any step, and a restore with losses needs force."""
    plan = planned(level, BOTH, partition("a", generation=6), partition("b", generation=2, restores=1))
    back = "back to 1970-01-01 00:16:40 UTC, generation 5"
    assert plan.forced == [
        f"a: {back}; now restores 0, generation 6: later updates are lost",
        f"b: {back}; now restores 1, generation 2: later updates are lost",
    ]
    assert refusal(plan) is rules.HMC_PROFILE_FORCED
    plan.demand(force=True)


def refusal(plan: RestorePlan, *, force: bool = False) -> Rule:
    with pytest.raises(OperatorError) as caught:
        plan.demand(force=force)
    return caught.value.rule


@pytest.mark.parametrize("level", [1, 4])
def test_a_deleted_partition_with_objects_needs_force(level: RestoreLevel) -> None:
    plan = planned(level, backup(), partition("a", objects=1))
    assert refusal(plan) is rules.HMC_PROFILE_FORCED
    store = partition("a", keystore=None)
    assert refusal(planned(level, backup(), store)) is rules.HMC_PROFILE_FORCED
    off = partition("a", keystore=None, keystore_kbytes=0)
    planned(level, backup(), off).demand(force=False)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_a_running_partition_refuses_the_whole_restore_by_name(level: RestoreLevel) -> None:
    """If a partition runs, the whole restore is refused with its name, also with force."""
    plan = planned(level, BOTH, partition("a", power="running", generation=5), partition("b", generation=5))
    assert plan.running == ["a"]
    assert refusal(plan, force=True) is rules.HMC_PROFILE_IDLE


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_partition_of_another_system_is_skipped_by_name(level: RestoreLevel) -> None:
    plan = planned(level, BOTH, elsewhere={B: "other"})
    assert steps(plan) == ["restore a"]
    assert plan.lines[0] == "b: skipped: the system other has this partition"


def test_a_partition_that_is_skipped_is_not_deleted() -> None:
    """The restore skips a partition of the backup that is at another system now.

    A full restore (RestoreLevel 1) deletes the partitions that the backup does not have. The skipped
    partition is in the backup, so its remains on this system are not deleted.
    """
    plan = planned(1, BOTH, partition("b", objects=3), elsewhere={B: "other"})
    assert steps(plan) == ["restore a"]
    assert plan.result == "has the partitions of the backup, and no others; skipped: b"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_backup_of_another_system_brings_no_partition_to_this_one(level: RestoreLevel) -> None:
    """R-46: A restore skips a partition that neither this system nor its predecessor had.

    Another may serve it.
    """
    here = [partition("a", generation=5)]
    plan = plan_restore(level, BOTH, system(*here, system_id="6" * 32), StorePlaces(["6" * 32], {}))
    assert steps(plan) == ([] if level == 3 else ["restore a"])
    assert plan.lines[0] == "b: skipped: it is one of the system lab (9105-22A*0123ABC)"
    assert plan.skipped == ["b"]
    successor = StorePlaces(["6" * 32, SYSTEM_ID], {})
    plan = plan_restore(level, BOTH, system(*here, system_id="6" * 32), successor)
    assert "restore b" in steps(plan)


def test_stores_that_do_not_fit_are_refused_before() -> None:
    """R-46: All stores must fit at the end.

    Stores that shrink are restored first, so no step exceeds the space.
    """
    of = backup(saved("a", 5, kbytes=512), saved("b", 5, kbytes=64))
    grown = [partition("a", generation=5), partition("b", generation=5, keystore_kbytes=512)]
    plan = plan_restore(1, of, system(*grown, total_kbytes=576), StorePlaces([SYSTEM_ID], {}))
    assert steps(plan) == ["restore b", "restore a"]
    plan.demand(force=False)
    plan = plan_restore(1, of, system(*grown, total_kbytes=575), StorePlaces([SYSTEM_ID], {}))
    assert refusal(plan, force=True) is console.SIZE_TOTAL
    plan = plan_restore(4, None, system(*grown, total_kbytes=575), StorePlaces([SYSTEM_ID], {}))
    plan.demand(force=False)


def test_a_keystore_that_was_off_and_has_objects_now_stays() -> None:
    """R-46: a keystore that was off at the backup stays if it has objects now.

    The system would refuse to switch it off, during the restore.
    """
    plain = backup(saved("a", copy=False))
    plain.partitions[0].attributes["keystore_kbytes"] = 0
    plan = planned(2, plain, partition("a", objects=1))
    assert steps(plan) == []
    assert plan.skipped == ["a"]


def test_names_go_back_where_they_are_free() -> None:
    """Names of the backup are set again, but two partitions that have exchanged their names keep them."""
    renamed = partition("a", generation=5, name="x")
    assert steps(planned(2, BOTH, renamed)) == ["rename x", "restore x", "restore b"]
    exchanged = [partition("a", generation=5, name="b"), partition("b", generation=5, name="a")]
    plan = planned(2, BOTH, *exchanged)
    assert steps(plan) == ["restore b", "restore a"]
    assert "b: keeps its name: another partition is called a" in plan.lines


def test_a_missing_partition_whose_name_is_taken_is_skipped() -> None:
    """If another partition has the name of a missing one, level 2 skips the missing one.

    Level 1 first deletes the other partition.
    """
    other = partition("c", name="a")
    assert steps(planned(2, backup(saved("a")), other)) == []
    assert steps(planned(1, backup(saved("a")), other)) == ["delete a", "restore a"]


def test_a_partition_without_a_copy_is_made_anew_or_changed() -> None:
    """A partition without a copy, whose keystore was off, is created again or changed."""
    plain = backup(saved("a", copy=False), saved("b", copy=False))
    assert steps(planned(2, plain, partition("a"))) == ["create b", "change a"]


def test_profiles_are_restored_while_the_system_is_operating() -> None:
    with pytest.raises(OperatorError) as caught:
        plan_restore(1, BOTH, system(state="Recovery"), StorePlaces([SYSTEM_ID], {}))
    assert caught.value.rule is rules.HMC_PROFILE_STATE


# The file


def test_what_is_written_is_read() -> None:
    assert decode_profiles(encode_profiles(BOTH)) == BOTH


def read_refused(content: bytes) -> Rule:
    with pytest.raises(OperatorError) as caught:
        decode_profiles(content)
    return caught.value.rule


def test_foreign_damaged_and_newer_files_are_refused() -> None:
    """Each changed or cut byte is noticed, and foreign, damaged and newer files are refused by name."""
    content = encode_profiles(backup(saved("a")))
    for foreign in (b"", b"PK\x03\x04", b"swpks profile backup\n", b"swpks profile backup x y\n{}"):
        assert read_refused(foreign) is rules.HMC_PROFILE_FILE
    assert read_refused(content.replace(b"backup 1", b"backup 2", 1)) is rules.HMC_PROFILE_LEVEL
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1
        assert read_refused(bytes(changed)) in (rules.HMC_PROFILE_FILE, rules.HMC_PROFILE_LEVEL)
        assert read_refused(content[:at]) is rules.HMC_PROFILE_FILE


@pytest.mark.parametrize(
    "facts",
    [{"generation": 9}, {"restores": 1}, {"uuid": B}, {"time": 2000}, {"key_id": "k2"}, {"copy": b"none"}],
    ids=str,
)
def test_facts_that_are_not_those_of_the_copy_are_refused(facts: dict[str, object]) -> None:
    """R-46: facts in the file must equal those in the copy; else an edited file could hide a loss."""
    of = backup(saved("a", 5))
    for name, value in facts.items():
        setattr(of.partitions[0], name, value)
    assert read_refused(encode_profiles(of)) is rules.HMC_PROFILE_FILE


def test_a_copy_of_another_system_or_twice_is_refused() -> None:
    of = backup(saved("a", 5))
    of.system.system_id = "6" * 32
    assert read_refused(encode_profiles(of)) is rules.HMC_PROFILE_FILE
    assert read_refused(encode_profiles(backup(saved("a", 5), saved("a", 6)))) is rules.HMC_PROFILE_FILE


def test_a_step_knows_the_loss_that_was_announced() -> None:
    plan = planned(1, BOTH, partition("a", generation=6), partition("b", generation=5), partition("c"))
    assert [(step.name, step.loss, step.before) for step in plan.steps] == [
        ("c", False, (0, 1)),
        ("a", True, (0, 6)),
        ("b", False, (0, 5)),
    ]
    (step,) = planned(4, None, partition("a", objects=1)).steps
    assert step.loss


def test_the_xml_has_facts_and_no_copies() -> None:
    """The XML has attributes with the console's numbers, and no copies."""
    content = profiles_as_xml(BOTH)
    root = ElementTree.fromstring(content)
    names = [each.get("name") for each in root.iter("partition")]
    assert names == ["a", "b"]
    assert root.find("partitions/partition/attributes").get("keystore_kbytes") == "64"  # type: ignore[union-attr]
    assert b"SPKB" not in content
    assert b"sealed" not in content
    assert "SPKB" not in repr(BOTH)


# Files with bare names


@pytest.mark.parametrize("kept", ["disk", "memory"])
def test_a_bare_name_is_a_file_of_the_system(kept: str, tmp_path) -> None:
    files = ProfileFiles(tmp_path / "profiles" if kept == "disk" else None)
    files.write("0123ABC", "first", b"1", replace=False)
    assert file_refused(files, "write", "first", b"2", replace=False) is rules.HMC_PROFILE_NAME
    files.write("0123ABC", "first", b"2", replace=True)
    assert files.read("0123ABC", "first") == b"2"
    assert files.names("0123ABC") == ["first"]
    for name in ("", "..", "../first", "/etc/passwd", "none"):
        assert file_refused(files, "read", name) is rules.HMC_PROFILE_NAME
    files.remove("0123ABC", "first")
    assert files.names("0123ABC") == files.names("../0123ABC") == []
    with pytest.raises(OperatorError):
        files.write("../outside", "first", b"", replace=True)


def file_refused(files: ProfileFiles, function: str, *arguments, **options) -> Rule:
    with pytest.raises(OperatorError) as caught:
        getattr(files, function)("0123ABC", *arguments, **options)
    return caught.value.rule


@pytest.mark.parametrize("linked", ["profiles", "serial", "file"])
def test_a_link_is_not_followed(linked, tmp_path) -> None:
    """A link is not followed, because its target may belong to another user."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "old").write_bytes(b"other")
    folder = tmp_path / "profiles"
    if linked == "profiles":
        folder.symlink_to(elsewhere.parent)
        (tmp_path / "S").symlink_to(elsewhere)
    elif linked == "serial":
        folder.mkdir()
        (folder / "S").symlink_to(elsewhere)
    else:
        (folder / "S").mkdir(parents=True)
        (folder / "S" / "old").symlink_to(elsewhere / "old")
    files = ProfileFiles(folder)
    with pytest.raises(OperatorError, match="symbolic link"):
        files.read("S", "old")
    if linked != "file":
        with pytest.raises(OperatorError, match="symbolic link"):
            files.write("S", "new", b"x", replace=True)
        with pytest.raises(OperatorError, match="symbolic link"):
            files.remove("S", "old")
    assert [each.name for each in elsewhere.iterdir()] == ["old"]


def test_a_pipe_in_the_folder_does_not_stop_the_console(tmp_path) -> None:
    """A named pipe is refused, because an open of it would wait for its writer."""
    (tmp_path / "S").mkdir()
    os.mkfifo(tmp_path / "S" / "pipe")
    with pytest.raises(OperatorError, match="is no file"):
        ProfileFiles(tmp_path).read("S", "pipe")
