"""lssyscfg: records, columns and filters, as scripts parse them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hcall_abi.console import ATTRIBUTES
from hcall_abi.control_views import Trouble
from hcall_abi.requests import show_partition
from hcall_server.console.grammar import parse_record
from hcall_server.console.lines.lists import state_of
from tests.console.stand import Stand, standing

ORDER = (
    "name,lpar_id,lpar_env,state,resource_config,os_version,logical_serial_num,default_profile,curr_profile,"
    "work_group_id,shared_proc_pool_util_auth,allow_perf_collection,power_ctrl_lpar_ids,boot_mode,lpar_keylock,"
    "auto_start,redundant_err_path_reporting,rmc_state,rmc_ipaddr,time_ref,lpar_avail_priority,"
    "desired_lpar_proc_compat_mode,curr_lpar_proc_compat_mode,suspend_capable,remote_restart_capable,"
    "simplified_remote_restart_capable,remote_restart_status,sync_curr_profile,affinity_group_id,vtpm_enabled,"
    "secure_boot,curr_secure_boot,keystore_kbytes,keystore_signed_updates,"
    "keystore_signed_updates_without_verification,linux_dynamic_key_secure_boot,uuid"
)


@pytest.fixture
async def full(stand: Stand) -> Stand:
    """Partitions lpar1 (3), off, and lpar2 (2), running."""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,lpar_id=3,keystore_kbytes=64,secure_boot=2"')
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar2,lpar_id=2"')
    await stand.done("chsysstate -r lpar -m S -n lpar2 -o on")
    return stand


async def test_a_record_has_the_order_of_the_real_console(full: Stand) -> None:
    """R-36: A record is one line, with the attributes in the order of the real console.

    The attributes of PKS come last, before the UUID.
    """
    line = await full.done('lssyscfg -r lpar -m S --filter "lpar_names=lpar1"')
    found = {each.name: each.value for each in parse_record(line)}
    assert ",".join(found) == ORDER
    assert set(ATTRIBUTES) <= set(found)
    assert line.startswith("name=lpar1,lpar_id=3,lpar_env=aixlinux,state=Not Activated,resource_config=0,")
    uuid = full.machine().system.find("lpar1").profile.uuid
    assert line.endswith(
        "curr_secure_boot=0,keystore_kbytes=64,keystore_signed_updates=0,"
        "keystore_signed_updates_without_verification=0,linux_dynamic_key_secure_boot=0,"
        f"uuid={uuid}"
    )
    assert ",curr_profile=,work_group_id=none," in line
    assert ",rmc_state=inactive,rmc_ipaddr=,time_ref=0," in line


@pytest.mark.parametrize(
    "line,reported",
    [
        ("-F name,lpar_env,state", "lpar2,aixlinux,Running\nlpar1,aixlinux,Not Activated"),
        ("-F name lpar_env state", 'lpar2 aixlinux Running\nlpar1 aixlinux "Not Activated"'),
        ("-F lpar_id:name", "2:lpar2\n3:lpar1"),
        ("-F name state --header", 'name state\nlpar2 Running\nlpar1 "Not Activated"'),
        ('--filter "lpar_names=lpar1" -F state', "Not Activated"),
        ('--filter ""lpar_ids=3"" -F state', "Not Activated"),
        ('--filter "\\"lpar_names=lpar1,lpar2\\"" -F name', "lpar2\nlpar1"),
        ('--filter "\\"lpar_names=lpar1,lpar2\\",lpar_ids=2" -F name', "lpar2"),
        ('--filter "lpar_names=lpar1,lpar_ids=2" -F name --header', "No results were found."),
        ('--filter "work_groups=none,lpar_ids=2" -F name', "lpar2"),
        ('--filter "work_groups=7"', "No results were found."),
    ],
)
async def test_partitions_are_listed(full: Stand, line: str, reported: str) -> None:
    """R-36: columns, headers and filters work as op-test, openQA and ansible use them."""
    assert await full.done(f"lssyscfg -r lpar -m S {line}") == reported
    assert await full.done(f"lssyscfg {line} -m S -r lpar") == reported


async def test_all_columns(full: Stand) -> None:
    """R-36: -F alone prints the values of all attributes."""
    reported = await full.done("lssyscfg -r lpar -F --header --filter lpar_ids=3")
    header, values = reported.split("\n")
    assert header == ORDER
    assert values.startswith("lpar1,3,aixlinux,Not Activated,0,")


@pytest.mark.parametrize(
    "line,reported",
    [
        ("--filter lpar_names=nope", "HSCL8012 The partition named nope was not found."),
        ("--filter lpar_ids=9 -F state", "HSCL8012 The partition with ID 9 was not found."),
        (
            "-F UUID",
            "SWPK0106 -F: there is no attribute 'UUID' (did you mean uuid?); the attributes are name, ",
        ),
        (
            "--filter names=x",
            "SWPK0106 --filter: no 'names' to filter by (did you mean lpar_names?); there is ",
        ),
        (
            "--filter lpar_names=a,b",
            "SWPK0105 --filter: the record 'lpar_names=a,b' cannot be read: 'b' is no",
        ),
        ("--header", "SWPK0103 lssyscfg: --header goes with -F.\nUsage: lssyscfg -r {lpar | prof | sys"),
        ("-x", "SWPK0102 lssyscfg: '-x' is not one of its options.\nUsage: lssyscfg -r {lpar | prof | sys"),
    ],
)
async def test_refused_lists(full: Stand, line: str, reported: str) -> None:
    """R-36: a refusal has a number, is printed on standard output, and has exit status 1."""
    assert (await full.refused(f"lssyscfg -r lpar -m S {line}")).startswith(reported)


async def test_an_empty_system(stand: Stand) -> None:
    """An empty list is no error."""
    assert await stand.done("lssyscfg -r lpar -m S -F name --header") == "No results were found."
    assert await stand.done("lssyscfg -r sysprof -m S") == "No results were found."


async def test_profiles(full: Stand) -> None:
    """Each partition has one profile."""
    reported = await full.done("lssyscfg -r prof -m S -F lpar_name,name,secure_boot")
    assert reported == "lpar2,default_profile,0\nlpar1,default_profile,2"
    assert await full.done('lssyscfg -r prof -m S --filter "profile_names=x"') == "No results were found."
    line = await full.done("lssyscfg -r prof -m S --filter lpar_names=lpar1,profile_names=default_profile")
    assert line.startswith("name=default_profile,lpar_name=lpar1,lpar_id=3,lpar_env=aixlinux,")


async def test_systems(full: Stand) -> None:
    """R-34: the record of a system has the memory of all keystores, and the assigned part."""
    serial = full.console.find("S").type_model_serial
    line = await full.done("lssyscfg -r sys -m S")
    assert line == (
        f"name=S,type_model=9105-22A,serial_num={serial.partition('*')[2]},ipaddr=,state=Operating,"
        'detailed_state=None,"capabilities=lpar_proc_compat_mode_capable,partition_keystore_capable",'
        "firmware_level=FW1110,keystore_total_kbytes=16384,keystore_assigned_kbytes=64,trouble="
    )
    assert await full.done(f"lssyscfg -r sys -m {serial} -F name:state") == "S:Operating"
    assert await full.done("lssyscfg -r sys -F state") == "Operating"
    assert await full.refused("lssyscfg -r sys --filter lpar_names=lpar1") != ""


async def test_two_systems_and_one_that_is_away() -> None:
    """With two systems, a line about partitions needs -m; a system without a connection is still listed."""
    async with standing("A", "B") as stand:
        stand.links["B"].away = True
        assert await stand.done("lssyscfg -r sys -F name,state") == "A,Operating\nB,No Connection"
        reported = await stand.done("lssyscfg -r sys -m B -F name,state,keystore_total_kbytes")
        assert reported == "B,No Connection,16384"
        stand.console.find("B").note_away("gone")
        assert await stand.done("lssyscfg -r sys -F name,state") == "A,Operating\nB,No Connection"
        assert (await stand.refused("lssyscfg -r lpar -m B")).startswith("SWPK0204 ")
        assert (await stand.refused("lssyscfg -r lpar")).startswith("SWPK0202 ")
        assert (await stand.refused("lssyscfg -r lpar -m C")).startswith("SWPK0201 ")


async def test_a_refused_store_is_an_error(full: Stand) -> None:
    """A partition with a refused store is listed in a state of error."""
    view = await full.console.find("S").call(show_partition("lpar1"))
    trouble = Trouble(detail="", rule_id="", rule="", section="")
    assert (state_of(view), state_of(replace(view, refused=trouble))) == ("Not Activated", "Error")


async def test_a_system_in_recovery(stand: Stand) -> None:
    """R-48: a system in Recovery has the console's word for that state, and no partitions yet."""
    stand.machine().system.begin_recovery()
    assert await stand.done("lssyscfg -r sys -m S -F state") == "Recovery"
    reported = await stand.refused("lssyscfg -r lpar -m S --filter lpar_names=lpar1")
    assert reported.endswith("was not found. The managed system S is in the state Recovery.")
