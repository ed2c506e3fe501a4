"""bkprofdata, rstprofdata, rmprofdata, mkprofdata."""

from __future__ import annotations

import pytest

from hcall_server.console.profile_format import decode_profiles
from tests.console.stand import Stand


@pytest.fixture
async def lpar1(stand: Stand) -> Stand:
    """A partition lpar1 (1) with one object, powered off."""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
    await write(stand, b"first")
    return stand


async def write(stand: Stand, label: bytes) -> None:
    """Write an object during a run of the partition."""
    await stand.done("chsysstate -r lpar -m S -n lpar1 -o on")
    stand.write("lpar1", label)
    await stand.done("chsysstate -r lpar -m S -n lpar1 -o shutdown --immed")


def labels(stand: Stand) -> set[bytes]:
    """Return the labels in the keystore."""
    keystore = stand.machine().system.find("lpar1").keystore
    assert keystore is not None
    return {each.label for each in keystore.contents.snapshot().objects}


async def test_a_restore_goes_back_and_says_what_is_lost(lpar1: Stand) -> None:
    """R-46: a restore announces the loss of later updates, and needs --forcekeystore for it."""
    assert await lpar1.done("bkprofdata -m S -f monday") == ""
    await write(lpar1, b"second")
    output = await lpar1.refused("rstprofdata -m S -l 1 -f monday")
    assert "later updates are lost" in output.split("\n")[0]
    assert output.split("\n")[-1].startswith("SWPK0226 ")
    assert labels(lpar1) == {b"first", b"second"}
    output = await lpar1.done("rstprofdata -m S -l 1 -f monday --forcekeystore")
    assert "later updates are lost" in output.split("\n")[0]
    assert labels(lpar1) == {b"first"}


async def test_levels_of_a_restore(lpar1: Stand) -> None:
    """R-46: level 3 brings back missing partitions; level 4 deletes all."""
    await lpar1.done("bkprofdata -m S -f monday")
    assert (await lpar1.refused("rstprofdata -m S -l 4")).split("\n")[-1].startswith("SWPK0226 ")
    await lpar1.done("rstprofdata -m S -l 4 --forcekeystore")
    assert await lpar1.done("lssyscfg -r lpar -m S -F name") == "No results were found."
    await lpar1.done("rstprofdata -m S -l 3 -f monday")
    assert labels(lpar1) == {b"first"}
    await write(lpar1, b"second")
    await lpar1.done("rstprofdata -m S -l 3 -f monday")
    await lpar1.done("rstprofdata -m S -l 2 -f monday --forcekeystore")
    assert labels(lpar1) == {b"first"}


async def test_a_bare_name_is_a_file_of_the_console(lpar1: Stand) -> None:
    """A name without a slash is a file of the console, and replacing such a file needs --force.

    A path is the caller's file.
    """
    await lpar1.done("bkprofdata -m S -f monday")
    assert lpar1.caller.files == {}
    assert (await lpar1.refused("bkprofdata -m S -f monday")).startswith("SWPK0223 ")
    await lpar1.done("bkprofdata -m S -f monday --force")
    assert await lpar1.done("rmprofdata -m S -f monday") == ""
    assert (await lpar1.refused("rmprofdata -m S -f monday")).startswith("SWPK0223 ")
    for name in ("..", ".hidden", "'a b'", "''"):
        assert (await lpar1.refused(f"bkprofdata -m S -f {name}")).startswith("SWPK0223 ")
    assert (await lpar1.refused("rmprofdata -m S -f ./monday")).startswith("SWPK0223 ")
    await lpar1.done("bkprofdata -m S -f ./monday")
    assert decode_profiles(lpar1.caller.files["./monday"]).system.name == "S"
    assert (await lpar1.refused("bkprofdata -m S -f ./monday")).startswith("SWPK0203 ")
    await lpar1.done("rstprofdata -m S -l 3 -f ./monday")


async def test_a_backup_that_can_not_be_written_makes_no_copies(lpar1: Stand) -> None:
    """R-46: name and file are tested before any copies are made."""
    lpar1.caller.files["./monday"] = b"older"
    await lpar1.done("bkprofdata -m S -f monday")
    before = list(lpar1.links["S"].asked)
    for line in ("bkprofdata -m S -f ./monday", "bkprofdata -m S -f monday", "bkprofdata -m S -f .."):
        assert (await lpar1.refused(line))[:8] in ("SWPK0203", "SWPK0223")
    assert "showCopy" not in lpar1.links["S"].asked[len(before) :]


async def test_a_restore_without_steps_is_no_job(lpar1: Stand) -> None:
    """R-46: a restore without steps starts no job, and says so."""
    await lpar1.done("bkprofdata -m S -f monday")
    assert await lpar1.done("rstprofdata -m S -l 3 -f monday") == "nothing is to do"
    assert lpar1.console.jobs.all == []


async def test_the_last_line_is_true_for_each_level(lpar1: Stand) -> None:
    """R-46: At each level, the last line of a restore says what the system has now."""
    await lpar1.done("bkprofdata -m S -f monday")
    for level, end in (
        ("1 -f monday", "S has the partitions of the backup, and no others"),
        ("2 -f monday", "S has the partitions of the backup; its others stayed"),
        ("4", "S has no partitions"),
        (
            "3 -f monday",
            "S has the missing partitions of the backup again; its others stayed",
        ),
    ):
        output = await lpar1.done(f"rstprofdata -m S -l {level} --forcekeystore")
        assert output.split("\n")[-1] == end


async def test_a_backup_as_xml(lpar1: Stand) -> None:
    """A backup file, or the present system, is written as XML with facts, without copies and keys."""
    await lpar1.done("bkprofdata -m S -f monday")
    for source in ("-b monday", "-m S"):
        await lpar1.done(f"mkprofdata -r sys -o createxml {source} -x ./data.xml --force")
        xml = lpar1.caller.files["./data.xml"].decode()
        assert xml.startswith("<?xml ")
        assert 'keystore_kbytes="64"' in xml
        assert "SPKB" not in xml


async def test_xml_in_the_folder_of_the_console(lpar1: Stand) -> None:
    """The line names the folder of an XML file; the list of profile backups leaves it out."""
    await lpar1.done("bkprofdata -m S -f monday")
    output = await lpar1.done("mkprofdata -r sys -o createxml -m S -x out.xml")
    # This console's store is in memory, so the line has no folder to name.
    assert output == "out.xml is written"
    output = await lpar1.refused("rmprofdata -m S -f nothing")
    assert output.endswith("; there are: monday")
    await lpar1.done("rmprofdata -m S -f out.xml")


@pytest.mark.parametrize("line", ["bkprofdata -m S -f ./b", "mkprofdata -r sys -o createxml -m S -x ./b"])
async def test_an_existing_file_needs_force(lpar1: Stand, line: str) -> None:
    """If the file exists, the refusal names --force, so the user knows a remedy besides another path."""
    await lpar1.done(line)
    assert await lpar1.refused(line) == "SWPK0203 ./b: File exists; use --force to replace it"
    await lpar1.done(f"{line} --force")


@pytest.mark.parametrize(
    "line,number",
    [
        ("rstprofdata -m S -l 1", "SWPK0103"),
        ("rstprofdata -m S -l 4 -f monday", "SWPK0103"),
        ("rstprofdata -m S -l 5 -f monday", "SWPK0104"),
        ("rstprofdata -m S -l 1 -f monday", "SWPK0223"),
        ("rstprofdata -m S -l 1 -f ./bad", "SWPK0221"),
        ("rstprofdata -m S -l 1 -f ./nofile", "SWPK0203"),
        ("bkprofdata -m S", "SWPK0103"),
    ],
)
async def test_refused_lines(stand: Stand, line: str, number: str) -> None:
    """Each wrong line is refused with its number."""
    stand.caller.files["./bad"] = b"no backup"
    assert (await stand.refused(line)).startswith(f"{number} ")


async def test_a_running_partition_is_not_restored(lpar1: Stand) -> None:
    """R-46: a running partition is not restored; it has to be powered off first."""
    await lpar1.done("bkprofdata -m S -f monday")
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on")
    output = await lpar1.refused("rstprofdata -m S -l 2 -f monday")
    assert output.split("\n")[-1].startswith("SWPK0225 ")
