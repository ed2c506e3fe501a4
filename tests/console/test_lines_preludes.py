"""Short answers to the questions that clients ask before their first real command."""

from __future__ import annotations

import pytest

from hcall_server.console.lines.run import COMMANDS
from tests.console.stand import Stand, standing


@pytest.fixture
async def lpar1(stand: Stand) -> Stand:
    """A partition lpar1 (1), powered off, and lpar2 (2), running."""
    await stand.done("mksyscfg -r lpar -m S -i name=lpar1 name=lpar2")
    await stand.done("chsysstate -r lpar -m S -n lpar2 -o on")
    return stand


async def test_reference_codes(lpar1: Stand) -> None:
    """lsrefcode ends with an empty line or one with Linux, because op-test reads the last line."""
    lsrefcode = "lsrefcode -m S -r lpar --filter lpar_names={} -F refcode"
    assert (await lpar1.run(lsrefcode.format("lpar1"))) == (0, "")
    assert lpar1.caller.lines == [""]
    assert "Linux" in await lpar1.done(lsrefcode.format("lpar2"))
    record = await lpar1.done("lsrefcode -m S -r lpar -n 1 --filter lpar_ids=2")
    assert record == "lpar_name=lpar2,lpar_id=2,time_stamp=,refcode=Linux ppc64le,word2=00000000"
    assert await lpar1.done("lsrefcode -m S -r sys -F refcode") == ""


async def test_the_console_tells_what_it_is(lpar1: Stand) -> None:
    """lshmc prints the lines of the real console, but the build level in them is the emulator's own."""
    version = await lpar1.done("lshmc -V")
    assert version.startswith('"version= Version: 10\n Release: 3\n')
    assert "HMC Build level swpks " in version
    assert version.endswith('\n","base_version=V10R3\n"')
    assert "*RM V10R3" in await lpar1.done("lshmc -v")
    assert await lpar1.done("lshmc -n -F hostname,ipaddr") == "console,127.0.0.1"
    assert (await lpar1.refused("lshmc")).startswith("SWPK0103 ")


async def test_firmware_and_connections(lpar1: Stand) -> None:
    """lslic answers openQA, and the list of RMC connections is empty."""
    serial = lpar1.console.find("S").type_model_serial
    assert await lpar1.done("lslic -m S -t sys -F activated_level:mtms") == f"FW1110:{serial}"
    assert (await lpar1.done("lspartition -dlpar")).split("\n")[0] == f"<#0> Partition:<1*{serial}, , >"
    lpar1.links["S"].away = True
    assert await lpar1.done("lspartition -dlpar") == "No results were found."


async def test_terminals(lpar1: Stand) -> None:
    """No terminal is open, and none can be opened."""
    assert await lpar1.run("rmvterm -m S -p lpar1") == (0, "")
    assert await lpar1.run("rmvterm -m S --id 2") == (0, "")
    assert (await lpar1.refused("rmvterm -m S -p x")).startswith("HSCL8012 ")
    assert (await lpar1.refused("mkvterm -m S -p lpar1")).startswith("SWPK0108 ")


@pytest.mark.parametrize(
    "line,output",
    [
        ("-r mem --level lpar --filter lpar_names=lpar2 -F curr_mem,run_mem", "4096,4096"),
        ("-r proc --level lpar -F lpar_name,run_procs", "lpar1,0\nlpar2,1"),
        ("-r proc --level sys -F installed_sys_proc_units", "64.0"),
        ("-r mem --level sys -F mem_region_size", "256"),
        ("-r io --rsubtype slot", "No results were found."),
        ("-r virtualio --rsubtype scsi --level lpar", "No results were found."),
    ],
)
async def test_resources(lpar1: Stand, line: str, output: str) -> None:
    """Resources of the system are constants."""
    assert await lpar1.done(f"lshwres -m S {line}") == output


async def test_what_does_not_exist_says_so(stand: Stand) -> None:
    """An unknown command is refused with the list of the known ones."""
    assert (await stand.refused("lsfoo")).startswith("SWPK0101 there is no command 'lsfoo'; there are ")
    assert (await stand.refused("''")).startswith("SWPK0101 ")
    assert set(COMMANDS) >= {
        "lssyscfg",
        "chsyscfg",
        "mksyscfg",
        "rmsyscfg",
        "chsysstate",
        "chtskey",
        "lstskey",
    }


async def test_without_a_system() -> None:
    """A console without systems lists nothing, and refuses -m."""
    async with standing() as stand:
        assert await stand.done("lssyscfg -r sys") == "No results were found."
        assert await stand.done("lspartition -dlpar") == "No results were found."
        assert (await stand.refused("lssyscfg -r lpar")).startswith("SWPK0202 ")
