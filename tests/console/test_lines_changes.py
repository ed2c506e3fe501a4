"""mksyscfg, chsyscfg, rmsyscfg: the rules of keystores, tested with literal lines."""

from __future__ import annotations

import pytest
import trio

from hcall_server.console.lines import ignored
from tests.console.stand import Stand, standing
from tests.guest import Guest

COLUMNS = (
    "keystore_kbytes,keystore_signed_updates,keystore_signed_updates_without_verification,"
    "linux_dynamic_key_secure_boot,secure_boot"
)


@pytest.fixture
async def lpar1(stand: Stand) -> Stand:
    """A partition lpar1 (1) with a keystore of 64 KiB, powered off."""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
    return stand


async def shown(stand: Stand, columns: str = "keystore_kbytes", name: str = "lpar1") -> str:
    """Return values of a partition."""
    return await stand.done(f"lssyscfg -r lpar -m S --filter lpar_names={name} -F {columns}")


async def test_a_new_partition_has_no_keystore(stand: Stand) -> None:
    """R-30: a keystore is off at creation unless a size is given, and can be enabled later."""
    await stand.done(
        'mksyscfg -r lpar -m S -i "name=lpar1,profile_name=normal,lpar_env=aixlinux,min_mem=1024,'
        "desired_mem=4096,max_mem=8192,proc_mode=shared,min_proc_units=0.1,desired_proc_units=0.5,"
        "max_proc_units=2.0,sharing_mode=uncap,uncap_weight=128,max_virtual_slots=20,"
        '""virtual_scsi_adapters=2/client//vios/5/1,3/client//vios/6/1"",boot_mode=norm"'.replace('""', '\\"')
    )
    assert await shown(stand, f"{COLUMNS},auto_start,lpar_id,state") == "0,0,0,0,0,0,1,Not Activated"
    assert await stand.done('chsyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"') == ""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar2,lpar_id=7,auto_start=1,keystore_kbytes=4"')
    assert await shown(stand, "keystore_kbytes,lpar_id,auto_start", "lpar2") == "4,7,1"


async def test_a_size_that_no_level_has_is_refused_with_those_of_this_one(lpar1: Stand) -> None:
    """R-31: the refusal names the sizes of the partition's level, not "0 to 65535"."""
    output = await lpar1.refused("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=70000")
    assert output.startswith("SWPK0312 keystore_kbytes is 0, or 4 to 128 KiB on FW1110, not '70000'; ")
    output = await lpar1.refused("chsyscfg -r lpar -m S -i name=lpar1,secure_boot=7,keystore_kbytes=4")
    assert output.startswith("SWPK0312 secure_boot is 0 to 2")


@pytest.mark.parametrize(
    "pair, output",
    [
        ("keystore_kb=4", "SWPK0106 chsyscfg: 'keystore_kb' is no attribute that it can set "
         "(did you mean keystore_kbytes?); spec/console.md#changes has "),
        ("x=4", "SWPK0106 chsyscfg: 'x' is no attribute that it can set; spec/console.md#changes has "),
        ("auto_start=5", "SWPK0107 auto_start is 0 or 1, not '5'; spec/console.md#changes has the values"),
    ],
)  # fmt: skip
async def test_a_wrong_pair_is_refused_with_the_page_about_changes(
    lpar1: Stand, pair: str, output: str
) -> None:
    """The refusal of a wrong pair names the page about changes: the page about lists has other attributes."""
    assert (await lpar1.refused(f"chsyscfg -r lpar -m S -i name=lpar1,{pair}")).startswith(output)


@pytest.mark.parametrize("kind, name", [("lpar", "name"), ("prof", "lpar_name")])
async def test_a_name_and_the_id_of_another_partition_are_refused(lpar1: Stand, kind: str, name: str) -> None:
    """A record with the name of one partition and the id of another is refused.

    Matching ones are accepted.
    """
    await lpar1.done("mksyscfg -r lpar -m S -i name=lpar2,lpar_id=2")
    for number in (1, 7):
        output = await lpar1.refused(f"chsyscfg -r {kind} -m S -i {name}=lpar2,lpar_id={number},auto_start=1")
        assert output == (
            f"SWPK0107 chsyscfg: lpar2 has the ID 2, and not lpar_id={number}; leave one of them out"
        )
    assert await lpar1.done("lssyscfg -r lpar -m S -F lpar_id,auto_start") == "1,0\n2,0"
    await lpar1.done(f"chsyscfg -r {kind} -m S -i {name}=lpar2,lpar_id=2,auto_start=1")
    assert await shown(lpar1, "auto_start", "lpar2") == "1"


@pytest.mark.parametrize("kbytes", ["3", "129", "70000", "-4", "4.5", "x", ""])
async def test_a_size_out_of_range_is_refused(lpar1: Stand, kbytes: str) -> None:
    """R-31: a size out of range is refused with a reason, also at creation."""
    for line in (
        f"chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes={kbytes}",
        f"mksyscfg -r lpar -m S -i name=lpar2,keystore_kbytes={kbytes}",
    ):
        assert (await lpar1.refused(line))[:8] in ("SWPK0306", "SWPK0308", "SWPK0312")
    assert await shown(lpar1) == "64"
    assert await lpar1.done("lssyscfg -r lpar -m S -F name") == "lpar1"


async def test_it_grows_while_off_and_never_shrinks(lpar1: Stand) -> None:
    """R-32: A keystore grows while its partition is off, and never shrinks. A refusal changes nothing."""
    assert await lpar1.done('chsyscfg -r lpar -m S -i "name=lpar1, keystore_kbytes=100"') == ""
    assert (await lpar1.refused("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=99")).startswith(
        "SWPK0308 "
    )
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on -f normal -b norm")
    output = await lpar1.refused("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=128")
    assert output.startswith("SWPK0309 ")
    assert output.endswith("; `chsysstate -r lpar -m S -n lpar1 -o shutdown --immed` powers it off")
    assert await shown(lpar1) == "100"


async def test_it_is_disabled_only_while_empty(lpar1: Stand) -> None:
    """R-33: While anything is stored, disabling the keystore is refused with HSCL0DC8.

    An empty keystore is disabled even while its partition runs.
    """
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on")
    lpar1.write("lpar1")
    off = "chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=0"
    assert (await lpar1.refused(off)).startswith("HSCL0DC8 ")
    assert Guest(lpar1.machine().system.find("lpar1")).remove(3, b"label").status == 0
    assert await lpar1.done(off) == ""
    again = await lpar1.refused("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=64")
    assert again.startswith("SWPK0309 ")
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o shutdown --immed")
    await lpar1.done("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=64")


async def test_all_keystores_stay_within_the_total(lpar1: Stand) -> None:
    """R-34: the record of the system shows the free memory."""
    lpar1.machine().system.total_kbytes = 100
    free = await lpar1.done("lssyscfg -r sys -m S -F keystore_total_kbytes,keystore_assigned_kbytes")
    assert free == "100,64"
    output = await lpar1.refused("mksyscfg -r lpar -m S -i name=lpar2,keystore_kbytes=37")
    assert output.startswith("SWPK0307 ")
    await lpar1.done("mksyscfg -r lpar -m S -i name=lpar2,keystore_kbytes=36")


async def test_a_disabled_keystore_has_no_calls(lpar1: Stand) -> None:
    """R-35: every call gives the guest H_FUNCTION."""
    await lpar1.done("chsyscfg -r lpar -m S -i name=lpar1,keystore_kbytes=0")
    await lpar1.done("chsysstate -r lpar -m S --id 1 -o on")
    assert Guest(lpar1.machine().system.find("lpar1")).write(3, b"label", b"data").status == -2


async def test_attributes_of_a_record_are_set_together_or_not(lpar1: Stand) -> None:
    """R-36: all attributes of a record are set, or none."""
    output = await lpar1.refused(
        'chsyscfg -r lpar -m S -i "name=lpar1,secure_boot=2,keystore_signed_updates=1,keystore_kbytes=9"'
    )
    assert output.startswith("SWPK0308 ")
    assert await shown(lpar1, COLUMNS) == "64,0,0,0,0"
    await lpar1.done(
        'chsyscfg -m S -i "name=lpar1,new_name=other,auto_start=1,secure_boot=2,keystore_signed_updates=1,'
        'keystore_signed_updates_without_verification=1,linux_dynamic_key_secure_boot=1" -r lpar'
    )
    assert await shown(lpar1, f"{COLUMNS},auto_start", "other") == "64,1,1,1,2,1"


@pytest.mark.parametrize(
    "record,number",
    [
        ("name=nope,keystore_kbytes=64", "HSCL8012"),
        ("lpar_id=9,keystore_kbytes=64", "HSCL8012"),
        ("lpar_id=x,keystore_kbytes=64", "SWPK0107"),
        ("lpar_id=70000,keystore_kbytes=64", "SWPK0107"),
        ("keystore_kbytes=64", "SWPK0105"),
        ("name=lpar1,keystore_kbytes", "SWPK0105"),
        ("name=lpar1,keystore_kbytes=64,keystore_kbytes=65", "SWPK0105"),
        ("name=lpar1,keystore_kbytes+=64", "SWPK0106"),
        ("name=lpar1,UUID=x", "SWPK0106"),
        ("name=lpar1,uuid=x", "SWPK0106"),
        ("name=lpar1,state=Running", "SWPK0106"),
        ("name=lpar1,curr_secure_boot=2", "SWPK0106"),
        ("name=lpar1,auto_start=2", "SWPK0107"),
        ("name=lpar1,secure_boot=3", "SWPK0312"),
        ("name=lpar1,new_name=", "SWPK0105"),
        ("name=lpar1,new_name=a b", "SWPK0301"),
        ("name=lpar1,linux_dynamic_key_secure_boot=1", "SWPK0315"),
        ("\n", "SWPK0105"),
    ],
)
async def test_wrong_records_are_refused(lpar1: Stand, record: str, number: str) -> None:
    """R-36: a wrong record is refused with a number, and has no effect."""
    assert (await lpar1.refused(f"chsyscfg -r lpar -m S -i '{record}'")).startswith(f"{number} ")
    assert await shown(lpar1, COLUMNS) == "64,0,0,0,0"


@pytest.mark.parametrize("record", ["lpar_id=3", "name=", "name=lpar1", "name=lpar2,lpar_id=1", "name=a/b"])
async def test_wrong_new_partitions_are_refused(lpar1: Stand, record: str) -> None:
    """R-30: a new partition needs a name, and name and id must be new."""
    await lpar1.refused(f"mksyscfg -r lpar -m S -i {record}")
    assert await lpar1.done("lssyscfg -r lpar -m S -F name") == "lpar1"


async def test_ignored_attributes_change_nothing(lpar1: Stand) -> None:
    """Attributes that an emulated system does not have are accepted and ignored, also lists."""
    await lpar1.done('chsyscfg -r lpar -m S -i "name=lpar1,work_group_id=none,power_ctrl_lpar_ids+=2"')
    every = ",".join(f"{name}=1" for name in sorted(ignored.OF_PROFILES))
    await lpar1.done(f'chsyscfg -r prof -m S -i "name=normal,lpar_name=lpar1,{every}" --force')
    assert await shown(lpar1, COLUMNS) == "64,0,0,0,0"


async def test_a_profile_has_the_attributes_of_its_partition(lpar1: Stand) -> None:
    """R-36: the profile accepts the attributes of its partition; op-test sets secure boot there."""
    await lpar1.done("chsyscfg -r prof -m S -i 'lpar_name=lpar1,name=default_profile,secure_boot=2' --force")
    assert await shown(lpar1, "secure_boot,curr_secure_boot") == "2,0"
    await lpar1.done("chsyscfg -r prof -m S -i 'lpar_id=1,name=default_profile,auto_start=1'")
    assert await shown(lpar1, "auto_start") == "1"
    assert (await lpar1.refused("chsyscfg -r prof -m S -i 'lpar_name=x,name=p'")).startswith("HSCL8012 ")
    await lpar1.done("mksyscfg -r prof -m S -o save -p lpar1 -n default_profile --force")
    for line in ("-o save -n P", "-o save -p lpar1", "-p lpar1 -n P", "-o save -p lpar1 --id 1 -n P"):
        assert (await lpar1.refused(f"mksyscfg -r prof -m S {line}")).startswith("SWPK0103 ")


async def test_several_records_say_how_far_they_came(lpar1: Stand) -> None:
    """R-36: Records after a refused record are not applied, and the refusal says so."""
    lpar1.caller.files["records"] = b"name=lpar2,keystore_kbytes=4\n\nname=lpar1\nname=lpar3\n"
    output = await lpar1.refused("mksyscfg -r lpar -m S -f records")
    first, second = output.split("\n")
    assert first == "1 of 3 records are done: lpar2."
    assert second.startswith("SWPK0302 ")
    assert await lpar1.done("lssyscfg -r lpar -m S -F name") == "lpar1\nlpar2"
    await lpar1.done("chsyscfg -r lpar -m S -i name=lpar1,secure_boot=1 name=lpar2,secure_boot=2")
    assert await lpar1.done("lssyscfg -r lpar -m S -F secure_boot") == "1\n2"
    assert (await lpar1.refused("mksyscfg -r lpar -m S -f nofile")).startswith("SWPK0203 ")
    assert (await lpar1.refused("mksyscfg -r lpar -m S")).startswith("SWPK0103 ")
    assert (await lpar1.refused("chsyscfg -r lpar -m S")).startswith("SWPK0103 ")
    for bad in (
        "name=lpar2,secure=2",
        "name=lpar2,auto_start=x",
        "lpar_id=0",
        "secure_boot=2",
        "name=lpar2,",
    ):
        await lpar1.refused(f"chsyscfg -r lpar -m S -i name=lpar1,secure_boot=0 {bad}")
    assert await lpar1.done("lssyscfg -r lpar -m S -F secure_boot") == "1\n2"


async def test_a_system_gets_another_name(stand: Stand) -> None:
    """The next line may use the new name of a system."""
    await stand.done('chsyscfg -r sys -m S -i "new_name=Server-9105-22A"')
    assert await stand.done("lssyscfg -r sys -m Server-9105-22A -F name") == "Server-9105-22A"
    assert (await stand.refused("chsyscfg -r sys -i new_name=a*b")).startswith("SWPK0210 ")
    assert (await stand.refused("chsyscfg -r sys -i power_off_policy=1")).startswith("SWPK0106 ")


async def test_a_name_of_another_system_is_refused() -> None:
    """The name of another system is refused without a change. A system may get its own name or a free one."""
    async with standing("S", "T") as two:
        output = await two.refused("chsyscfg -r sys -m T -i new_name=S")
        assert output.startswith("SWPK0242 'S' is the name of another system, 9105-22A*")
        assert "choose a name that no other system has" in output
        assert await two.done("lssyscfg -r sys -F name") == "S\nT"
        await two.done("chsyscfg -r sys -m T -i new_name=T")
        await two.done("chsyscfg -r sys -m S -i new_name=U")
        await two.done("chsyscfg -r sys -m T -i new_name=S")


async def test_a_partition_is_removed(lpar1: Stand) -> None:
    """A partition is removed only while it is off and its keystore is empty."""
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on")
    lpar1.write("lpar1")
    remove = "rmsyscfg -r lpar -m S -n lpar1 --vioscfg --vdisks"
    output = await lpar1.refused(remove)
    assert output.startswith("SWPK0320 ")
    advised = "chsysstate -r lpar -m S -n lpar1 -o shutdown --immed"  # the test runs it below
    assert f"; `{advised}` " in output
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o shutdown --immed")
    assert (await lpar1.refused(remove)).startswith("SWPK0321 ")
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o on")
    assert Guest(lpar1.machine().system.find("lpar1")).remove(3, b"label").status == 0
    await lpar1.done("chsysstate -r lpar -m S -n lpar1 -o shutdown --immed")
    assert await lpar1.done(remove) == ""
    assert (await lpar1.refused(remove)).startswith("HSCL8012 ")
    await lpar1.done("mksyscfg -r lpar -m S -i name=lpar1,lpar_id=5")
    await lpar1.done("rmsyscfg -r lpar -m S --id 5")
    assert (await lpar1.refused("rmsyscfg -r lpar -m S")).startswith("SWPK0103 ")


async def test_other_tasks_run_between_the_records_of_a_line(lpar1: Stand) -> None:
    """A line of many records, here almost all wrong, lets other tasks of the console run."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        lpar1.caller.files["records"] = b"name=lpar1\n" * 999 + b"nothing=1\n"
        await lpar1.refused("chsyscfg -r lpar -m S -f records")
        nursery.cancel_scope.cancel()
    assert beats > 1000
    lpar1.caller.files["records"] += b"name=lpar1\n"
    assert "1000 records" in await lpar1.refused("chsyscfg -r lpar -m S -f records")


async def test_a_filter_of_many_names_takes_no_longer_than_its_text(lpar1: Stand) -> None:
    """A filter of many names costs one look-up for each name, not one search of all partitions for each."""
    names = ",".join(["lpar1"] * 9000)
    output = await lpar1.done(f"lssyscfg -r lpar -m S --filter '\"lpar_names={names}\"' -F name")
    assert output == "lpar1"
    assert "HSCL8012" in await lpar1.refused(f"lssyscfg -r lpar --filter '\"lpar_names={names},x\"'")
