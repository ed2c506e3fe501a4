"""R-30 to R-36 in literal lines of the real console, with real processes and effects for a guest.

The systems are at FW950 and at FW1110. Each test makes its own partitions.
"""

from __future__ import annotations

import pytest

from hcall_abi import levels
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.statuses import Status
from hcall_client.calls import (
    Authorization,
    confirm_object_flushed,
    get_config,
    raw_call,
    read_object,
    remove_object,
    signed_update,
    write_object,
)
from hcall_client.errors import HcallError, SessionEnded
from hcall_client.guests import authvar
from tests.hmc.estate import LEVELS, Estate, answers
from tests.secvar.keys import BEFORE, pk

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

OS, FIRMWARE = Authorization(3), Authorization(1)
LABEL = b"disk-key"
OFF = {Status.H_FUNCTION}
SIGNED = "keystore_signed_updates,keystore_signed_updates_without_verification,linux_dynamic_key_secure_boot"


def test_a_new_partition_has_no_keystore(estate: Estate) -> None:
    """R-30: In a new partition each call returns H_FUNCTION until the keystore is on."""
    estate.line(
        'mksyscfg -r lpar -m old -i "name=plain,profile_name=normal,lpar_env=aixlinux,min_mem=1024,'
        "desired_mem=4096,max_mem=8192,proc_mode=shared,min_proc_units=0.1,desired_proc_units=0.5,"
        'max_proc_units=2.0,sharing_mode=uncap,uncap_weight=128,boot_mode=norm"'
    )
    assert estate.shown("old", "plain", "name,state,keystore_kbytes") == "plain,Not Activated,0"
    estate.on("old", "plain")
    with estate.guest("old", "plain") as channel:
        assert answers(channel) == OFF
    estate.off("old", "plain")
    assert estate.line('chsyscfg -r lpar -m old -i "name=plain,keystore_kbytes=16"') == ""
    estate.on("old", "plain")
    assert estate.size("old", "plain") == 16
    estate.make("new", "sized", 32)
    estate.on("new", "sized")
    assert estate.size("new", "sized") == 32


@pytest.mark.parametrize("system,largest", [("old", 64), ("new", 128)])
def test_sizes_of_each_level(estate: Estate, system: str, largest: int) -> None:
    """R-31: A size is 4 to 64 KiB on FW950, and to 128 on Power11, in steps of 1. GET_CONFIG reports it.

    Other sizes are refused.
    """
    sizes = {"smallest": 4, "odd": 37, "largest": largest}
    records = estate.work / f"{system}.records"
    records.write_text("".join(f"name={name}, keystore_kbytes={sizes[name]}\n" for name in sizes))
    assert estate.line(f"mksyscfg -r lpar -m {system} -f {records.name}") == ""
    for name, kbytes in sizes.items():
        estate.on(system, name)
        assert estate.size(system, name) == kbytes
    output = estate.refused(
        "SWPK0306", f"mksyscfg -r lpar -m {system} -i name=x,keystore_kbytes={largest + 1}"
    )
    assert f"{largest} KiB" in output
    assert LEVELS[system] in output
    for number, wrong in (("SWPK0306", "3"), ("SWPK0312", "4.5"), ("SWPK0312", "-4"), ("SWPK0312", "")):
        estate.refused(number, f'mksyscfg -r lpar -m {system} -i "name=x,keystore_kbytes={wrong}"')
    estate.refused("HSCL8012", f"lssyscfg -r lpar -m {system} --filter lpar_names=x")


def test_it_grows_while_off_and_never_shrinks(estate: Estate) -> None:
    """R-32: After a growth and the next start, the guest has the new size and its objects.

    A refused change has no effect.
    """
    estate.make("old", "grown", 16)
    estate.on("old", "grown")
    with estate.guest("old", "grown") as channel:
        channel.call(write_object(OS, LABEL, b"kept"))
        estate.refused("SWPK0309", "chsyscfg -r lpar -m old -i name=grown,keystore_kbytes=17")
        assert channel.call(get_config()).total_size == 16 << 10
    estate.off("old", "grown")
    estate.refused("SWPK0308", "chsyscfg -r lpar -m old -i name=grown,keystore_kbytes=15")
    estate.line("chsyscfg -r lpar -m old -i name=grown,keystore_kbytes=17")
    estate.refused("SWPK0308", "chsyscfg -r lpar -m old -i name=grown,keystore_kbytes=16")
    assert estate.shown("old", "grown") == "17"
    estate.on("old", "grown")
    assert estate.size("old", "grown") == 17
    with estate.guest("old", "grown") as channel:
        assert channel.call(read_object(OS, LABEL)).data == b"kept"


@pytest.mark.parametrize("system", LEVELS)
def test_it_is_switched_off_only_while_empty(estate: Estate, system: str) -> None:
    """R-33: Size 0 is refused with HSCL0DC8 unless the keystore is empty.

    While the partition runs, the keystore can be switched off, but not on.
    """
    estate.make(system, "used", 8)
    estate.on(system, "used")
    zeroed = f'chsyscfg -r lpar -m {system} -i "name=used, keystore_kbytes=0"'
    with estate.guest(system, "used") as channel:
        channel.call(write_object(OS, LABEL, b"data"))
        assert estate.refused("HSCL0DC8", zeroed) == "HSCL0DC8 the keystore of used is in use"
        assert channel.call(read_object(OS, LABEL)).data == b"data"
        channel.call(remove_object(OS, LABEL))
        assert estate.line(zeroed) == ""
        assert answers(channel) == OFF
        estate.refused("SWPK0309", f"chsyscfg -r lpar -m {system} -i name=used,keystore_kbytes=8")
        assert answers(channel) == OFF
    estate.off(system, "used")
    estate.line(f"chsyscfg -r lpar -m {system} -i name=used,keystore_kbytes=8")
    estate.on(system, "used")
    with estate.guest(system, "used") as channel:
        assert channel.call(get_config()).used_space == 0


def test_all_keystores_stay_within_the_total(estate: Estate) -> None:
    """R-34: The total on FW950 is 1 MiB.

    A line shows the free part, which a guest can use to the last KiB.
    """
    columns = "lssyscfg -r sys -m old -F keystore_total_kbytes keystore_assigned_kbytes"
    total, assigned = map(int, estate.line(columns).split())
    assert total == 1024
    whole = (total - assigned) // 64 - 1
    # From 64 to 127 KiB are left, so each half is a valid size.
    left = total - assigned - whole * 64
    sizes = {f"full{number}": 64 for number in range(whole)} | {"rest": left // 2, "last": left - left // 2}
    records = estate.work / "full"
    records.write_text("".join(f"name={name},keystore_kbytes={sizes[name]}\n" for name in sizes))
    estate.line("mksyscfg -r lpar -m old -f full")
    assert estate.line(columns) == "1024 1024"
    output = estate.refused("SWPK0307", "mksyscfg -r lpar -m old -i name=more,keystore_kbytes=4")
    assert "1024 of 1024 KiB are taken" in output
    estate.line("mksyscfg -r lpar -m old -i name=more")
    estate.refused("SWPK0307", "chsyscfg -r lpar -m old -i name=more,keystore_kbytes=4")
    estate.on("old", "last")
    assert estate.size("old", "last") == sizes["last"]
    records.write_text("".join(f"name={name},keystore_kbytes=0\n" for name in sizes))
    estate.line("chsyscfg -r lpar -m old -f full")
    assert estate.line(columns) == f"1024 {assigned}"
    estate.line("chsyscfg -r lpar -m old -i name=more,keystore_kbytes=4")
    estate.line("rmsyscfg -r lpar -m old -n more")


@pytest.mark.parametrize("system", LEVELS)
def test_every_call_is_refused_while_it_is_off(estate: Estate, system: str) -> None:
    """R-35: While the keystore is off, a guest gets H_FUNCTION for every call, also in one session."""
    estate.make(system, "dark")
    estate.on(system, "dark")
    with estate.guest(system, "dark") as channel:
        assert answers(channel) == OFF
        with pytest.raises(HcallError, match="H_FUNCTION"):
            channel.call(write_object(OS, LABEL, b"data"))
    estate.off(system, "dark")
    estate.line(f"chsyscfg -r lpar -m {system} -i name=dark,keystore_kbytes=4")
    estate.on(system, "dark")
    with estate.guest(system, "dark") as channel:
        refused = {opcode for opcode in CALLS if channel.call(raw_call(opcode)).status in OFF}
        # Two calls are refused: the one that the level lacks, and SIGNED_UPDATE, whose attribute is off.
        assert refused == set(CALLS) - levels.LEVELS[LEVELS[system]].calls | {Opcode.SIGNED_UPDATE}
        channel.call(write_object(OS, LABEL, b"data"))


def test_attributes_have_their_effects(estate: Estate) -> None:
    """R-36: One record of attributes gives the guest SB_VERSION and SIGNED_UPDATE.

    After another record, neither exists.
    """
    estate.make("new", "secure", 64)
    estate.line(
        'chsyscfg -r lpar -m new -i "name=secure, keystore_signed_updates=1,'
        'keystore_signed_updates_without_verification=1,linux_dynamic_key_secure_boot=1,secure_boot=2"'
    )
    assert estate.shown("new", "secure", f"{SIGNED},secure_boot,curr_secure_boot") == "1,1,1,2,0"
    estate.on("new", "secure")
    assert estate.shown("new", "secure", "secure_boot:curr_secure_boot") == "2:2"
    with estate.guest("new", "secure") as channel:
        assert channel.call(read_object(FIRMWARE, b"SB_VERSION")).data == b"\x01"
        assert channel.call(raw_call(Opcode.SIGNED_UPDATE)).status not in OFF
    estate.refused("SWPK0313", "chsyscfg -r lpar -m new -i name=secure,linux_dynamic_key_secure_boot=0")
    estate.off("new", "secure")
    zeroed = (
        'chsyscfg -r lpar -m new -i "name=secure, keystore_kbytes={}, keystore_signed_updates=0, '
        "keystore_signed_updates_without_verification=0, linux_dynamic_key_secure_boot=0, "
        'secure_boot=0"'
    )
    assert estate.refused("SWPK0308", zeroed.format(4)) != ""
    assert estate.shown("new", "secure", f"{SIGNED},secure_boot,keystore_kbytes") == "1,1,1,2,64"
    estate.line(zeroed.format(64))
    estate.on("new", "secure")
    assert estate.shown("new", "secure", f"{SIGNED},secure_boot,curr_secure_boot") == "0,0,0,0,0"
    with estate.guest("new", "secure") as channel:
        with pytest.raises(HcallError, match="H_NOT_FOUND"):
            channel.call(read_object(FIRMWARE, b"SB_VERSION"))
        assert channel.call(raw_call(Opcode.SIGNED_UPDATE)).status == Status.H_FUNCTION


def test_the_latch_lets_one_update_through(estate: Estate) -> None:
    """R-36: The latch permits one unsigned PK. It can be armed again only while the partition is off.

    While the PK is stored, zeroing the attributes is refused with HSCL0DC8.
    """
    armed = 'chsyscfg -r lpar -m new -i "name=latch, keystore_signed_updates_without_verification=1"'
    estate.make("new", "latch", 64)
    estate.line("chsyscfg -r lpar -m new -i name=latch,keystore_signed_updates=1")
    estate.line(armed)
    estate.on("new", "latch")
    label, policy = authvar.variable_label("PK"), authvar.variable_policy("PK")
    unsigned = signed_update(OS, label, authvar.payload(BEFORE, b"-", pk().lists), policy)
    with estate.guest("new", "latch") as channel:
        channel.call(unsigned)
        assert channel.call(read_object(OS, label)).data[8:] == pk().lists
        while not channel.call(confirm_object_flushed(OS, label)).flushed:
            pass  # Each CONFIRM makes the flush begin sooner.
        assert estate.shown("new", "latch", SIGNED) == "1,0,0"
        with pytest.raises(HcallError, match="H_P6"):
            channel.call(unsigned)
        estate.refused("SWPK0313", armed)
    estate.off("new", "latch")
    zeroed = 'chsyscfg -r lpar -m new -i "name=latch, keystore_signed_updates=0, keystore_kbytes={}"'
    for kbytes in (0, 64):
        estate.refused("HSCL0DC8", zeroed.format(kbytes))
    estate.line(armed)
    assert estate.shown("new", "latch", f"{SIGNED},keystore_kbytes") == "1,1,0,64"


def test_power_by_lines(estate: Estate) -> None:
    """R-36: HSCL1558 refuses the shutdown of a stopped partition, HSCL3681 the start of a running one.

    A restart ends the guest's session and counts an IPL.
    """
    estate.make("old", "power", 4)
    estate.refused("HSCL1558", "chsysstate -m old -r lpar -n power -o shutdown --immed")
    estate.line("chsysstate -o on -r lpar -n power -m old -f default_profile -b norm")
    estate.refused("HSCL3681", "chsysstate -o on -r lpar -n power -m old")
    with estate.guest("old", "power") as channel:
        channel.call(write_object(OS, LABEL, b"data"))
        estate.refused("HSCL0DB4", "chsysstate -m old -r lpar -n power -o osshutdown --immed")
        estate.refused("SWPK0320", "rmsyscfg -r lpar -m old -n power")
        estate.line("chsysstate -m old -r lpar -n power -o shutdown --immed --restart")
        with pytest.raises(SessionEnded):
            channel.call(read_object(OS, LABEL))
    with estate.guest("old", "power") as channel:
        assert channel.call(read_object(OS, LABEL)).data == b"data"
    estate.off("old", "power")
    estate.refused("SWPK0321", "rmsyscfg -r lpar -m old -n power")
