"""chsysstate: power of partitions and systems."""

from __future__ import annotations

import pytest

from tests.console.stand import Stand


@pytest.fixture
async def lpar1(stand: Stand) -> Stand:
    """A partition lpar1 (1), powered off."""
    await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
    return stand


def ipls(stand: Stand) -> int:
    """Return the number of IPLs of the partition."""
    return stand.machine().system.find("lpar1").ipl_count


async def state(stand: Stand) -> str:
    """Return the state of the partition."""
    return await stand.done("lssyscfg -r lpar -m S --filter lpar_names=lpar1 -F state")


async def test_a_partition_goes_on_and_off(lpar1: Stand) -> None:
    """R-36: chsysstate takes options in any order. Its refusals have the numbers that clients know."""
    assert await lpar1.done("chsysstate -o on -r lpar -n lpar1 -m S -f default_profile -b sms") == ""
    assert (await state(lpar1), ipls(lpar1)) == ("Running", 1)
    assert (await lpar1.refused("chsysstate -m S -r lpar -n lpar1 -o on")).startswith("HSCL3681 ")
    await lpar1.done("chsysstate -m S -r lpar -n lpar1 -o shutdown --immed --restart")
    await lpar1.done("chsysstate -m S -r lpar --id 1 -o dumprestart")
    assert (await state(lpar1), ipls(lpar1)) == ("Running", 3)
    output = await lpar1.refused("chsysstate -m S -r lpar -n lpar1 -o osshutdown --immed")
    assert output.startswith("HSCL0DB4 ")
    await lpar1.done("chsysstate -m S -r lpar -n lpar1 -o shutdown")
    assert await state(lpar1) == "Not Activated"
    for line in ("-o shutdown --immed", "-o shutdown --restart", "-o dumprestart"):
        assert (await lpar1.refused(f"chsysstate -m S -r lpar -n lpar1 {line}")).startswith("HSCL1558 ")


async def test_any_profile_activates_a_partition(lpar1) -> None:
    """Any profile name activates a partition, because scripts send profile names that they once stored."""
    await lpar1.done("chsysstate -o on -r lpar -n lpar1 -m S -f a_profile_of_before")
    assert await state(lpar1) == "Running"


@pytest.mark.parametrize(
    "line,number",
    [
        ("-r lpar -m S -o on", "SWPK0103"),
        ("-r lpar -m S -n lpar1 --id 1 -o on", "SWPK0103"),
        ("-r lpar -m S -n lpar1", "SWPK0103"),
        ("-r lpar -m S -n lpar1 -o off", "SWPK0104"),
        ("-r lpar -m S -n lpar1 -o jump", "SWPK0104"),
        ("-r sys -m S -o shutdown", "SWPK0104"),
        ("-r sys -m S -o on", "SWPK0109"),
        ("-r lpar -m S -n nope -o on", "HSCL8012"),
        ("-r lpar -m S --id 2 -o on", "HSCL8012"),
        ("-r lpar -m S -n lpar1 -o on -b net", "SWPK0104"),
    ],
)
async def test_refused_lines(lpar1: Stand, line: str, number: str) -> None:
    """Each wrong line is refused with its number."""
    assert (await lpar1.refused(f"chsysstate {line}")).startswith(f"{number} ")
    assert ipls(lpar1) == 0


async def test_a_system_goes_off(stand: Stand) -> None:
    """A line stops the server of a system cleanly; only `swpks serve` starts it again."""
    asked = stand.machine().stop_asked
    assert await stand.done("chsysstate -r sys -m S -o rebuild") == ""
    assert not asked.is_set()
    assert await stand.done("chsysstate -r sys -m S -o off --immed") == ""
    assert asked.is_set()
    output = await stand.refused("chsysstate -r sys -m S -o on")
    assert output.startswith(
        "SWPK0109 no line powers S on; start that system (`swpks serve --state DIR`), or "
    )
