"""The forms of lines, through the folder of links and through `swpks hmc`, with real processes.

The system `old` has the partitions aix01 (1), which runs, and aix02 (7), which does not; `new` has aix02 (1).
"""

from __future__ import annotations

import pytest

from hcall_abi.control_views import SystemView
from hcall_client.console import show_system
from swpks.cli.hmc_line import carried_out
from swpks.hmc import names
from tests.hmc.estate import LEVELS, Estate

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture(scope="module")
def pair(estate: Estate) -> Estate:
    """The partitions of this module; no test changes them."""
    (estate.work / "two").write_text("name=aix01, keystore_kbytes=16\n\nname=aix02,lpar_id=7,auto_start=1\n")
    estate.line("mksyscfg -r lpar -m old -f two")
    estate.make("new", "aix02", 128)
    estate.on("old", "aix01")
    return estate


def view(estate: Estate, system: str) -> SystemView:
    """Return the view of the system."""
    return estate.systems[system].console.call(show_system())


@pytest.mark.parametrize(
    "options,reported",
    [
        ("-F name,lpar_id,state", "aix01,1,Running\naix02,7,Not Activated"),
        ("-F name:lpar_env:state", "aix01:aixlinux:Running\naix02:aixlinux:Not Activated"),
        ("-F name lpar_env state", 'aix01 aixlinux Running\naix02 aixlinux "Not Activated"'),
        ("-F name state --header -m old", 'name state\naix01 Running\naix02 "Not Activated"'),
        ("-F lpar_id,name --header", "lpar_id,name\n1,aix01\n7,aix02"),
        ("--filter lpar_ids=7 -F name", "aix02"),
        ('--filter "lpar_names=aix02" -F name,auto_start', "aix02,1"),
        (r'--filter "\"lpar_names=aix01,aix02\"" -F name', "aix01\naix02"),
        (r"""--filter '"lpar_names=aix01,aix02",lpar_ids=7' -F name""", "aix02"),
        ("--filter work_groups=7 -F name --header", "No results were found."),
    ],
)
def test_lists(pair: Estate, options: str, reported: str) -> None:
    """R-36: lssyscfg accepts -F with any delimiter, several words, --header, and quotes in --filter."""
    where = "" if "-m " in options else "-m old "
    assert pair.line(f"lssyscfg -r lpar {where}{options}") == reported


def test_a_system_is_named_in_both_forms(pair: Estate) -> None:
    """R-36: -m accepts a name or type-model*serial.

    Without -m, a line is refused if there are two systems.
    """
    for system, found in (("old", "aix01,16\naix02,0"), ("new", "aix02,128")):
        serial = view(pair, system).type_model_serial
        for name in (system, f"'{serial}'", f'"{serial}"'):
            assert pair.line(f"lssyscfg -r lpar -m {name} -F name,keystore_kbytes") == found
        assert pair.line(f"lssyscfg -r sys -m '{serial}' -F name:type_model:firmware_level") == (
            f"{system}:{serial.partition('*')[0]}:{LEVELS[system]}"
        )
    assert set(pair.line("lssyscfg -r sys -F name").split()) == set(LEVELS)
    pair.refused("SWPK0202", "lssyscfg -r lpar")
    pair.refused("SWPK0201", "lssyscfg -r lpar -m nobody")
    pair.refused("SWPK0201", "lssyscfg -r lpar -m '9105-22A*0000000'")


def test_numbers_and_exit_status_for_scripts(pair: Estate) -> None:
    """R-36: `set -e`, `||` and pipes work: the status is 0 or 1, and a refusal is in the output."""
    gone = "HSCL8012 The partition named gone was not found."
    for line in (
        "lssyscfg -r lpar -m old --filter lpar_names=gone -F state",
        "chsyscfg -r lpar -m old -i 'name=gone, keystore_kbytes=4'",
        "chsysstate -r lpar -m old -n gone -o on",
        "rmsyscfg -r lpar -m old -n gone",
    ):
        assert pair.refused("HSCL8012", line) == gone
    assert pair.run("set -e; rmsyscfg -r lpar -m old -n gone; echo more") == (1, f"{gone}\n")
    assert pair.line("chsysstate -r lpar -m old -n aix01 -o on || echo again").endswith("\nagain")
    assert pair.line("lssyscfg -r lpar -m new -F name | tr a-z A-Z") == "AIX02"
    assert (
        pair.line("""bash -c 'lssyscfg -r lpar -m new --filter "\\"lpar_names=aix02\\"" -F name'""")
        == "aix02"
    )


def test_records_of_a_file(pair: Estate) -> None:
    """R-36: All records of a file are parsed before the first is applied.

    A refused record ends the line, which names it.
    """
    before = pair.line("lssyscfg -r lpar -m new")
    (pair.work / "bad").write_text("name=aix03\nname=aix04,UUID=x\n")
    pair.refused("SWPK0106", "mksyscfg -r lpar -m new -f bad")
    assert pair.line("lssyscfg -r lpar -m new") == before
    (pair.work / "half").write_text("name=aix03\r\nname=aix02\nname=aix04\n")
    status, reported = pair.run("mksyscfg -r lpar -m new -f half")
    first, second = reported.splitlines()
    assert status == 1
    assert first == "1 of 3 records are done: aix03."
    assert second.startswith("SWPK0302 ")
    assert pair.line("rmsyscfg -r lpar -m new -n aix03; lssyscfg -r lpar -m new") == before
    pair.refused("SWPK0203", "mksyscfg -r lpar -m new -f nofile")


def test_the_command_and_the_links_say_the_same(pair: Estate) -> None:
    """R-36: `swpks hmc LINE` and the link print the same for a list, an empty list and a refusal."""
    for line in (
        "lssyscfg -r lpar -m old -F name lpar_env state",
        "lssyscfg -r lpar -m old --filter work_groups=7",
        "lssyscfg -r lpar -m old --filter lpar_names=gone",
    ):
        assert pair.hmc(*line.split()) == pair.run(line)


ANSWERS = {
    "lssyscfg": ("-r sysprof -m old", 0, "No results were found."),
    "chsyscfg": ("-r prof -m old -i 'name=default_profile,lpar_name=aix02,min_mem=1' --force", 0, ""),
    "mksyscfg": ("-r prof -m old -o save -p aix02 -n default_profile --force", 0, ""),
    "rmsyscfg": ("-r lpar -m old --id 1", 1, "SWPK0320 "),
    "chsysstate": ("-r sys -m old -o on", 1, "SWPK0109 "),
    "bkprofdata": ("-m old -f monday", 0, ""),
    "rstprofdata": ("-m old -l 3 -f ./nofile", 1, "SWPK0203 "),
    "rmprofdata": ("-m old -f tuesday", 1, "SWPK0223 "),
    "mkprofdata": ("-r sys -o createxml -m old -x ./data.xml", 0, ""),
    "chtskey": ("-m old -o change --newkey ./two", 1, "SWPK0203 "),
    "lstskey": ("-m old -F key_length,key_status", 0, "32,1"),
    "lsrefcode": ("-r lpar -m old --filter lpar_names=aix01 -F refcode", 0, "Linux ppc64le"),
    "lshmc": ("-V", 0, '"version= Version: 10\n Release: 3'),
    "lshwres": ("-r mem -m old --level lpar -F lpar_name,run_mem", 0, "aix01,4096\naix02,0"),
    "lslic": ("-m old -t sys -F activated_level", 0, "FW950"),
    "lspartition": ("-dlpar", 0, "<#0> Partition:<"),
    "mkvterm": ("-m old -p aix01", 1, "SWPK0108 "),
    "rmvterm": ("-m old -p aix01", 0, ""),
    "migrlpar": ("-o v -m old -t new -p aix01", 0, ""),
    "lslparmigr": ("-r lpar -m old -F name,migration_state", 0, "aix01,Not Moving\naix02,Not Moving"),
    "rrstartlpar": ("-o validate -m old -t new -p aix01", 1, "SWPK0728 "),
}
"""Options for each command of the console, its exit status, and the beginning of its answer."""


def test_every_command_has_a_link_and_a_row(pair: Estate) -> None:
    """Each command has a row in the table below, a link, and a word of `swpks hmc`."""
    links = {path.name for path in pair.links.iterdir() if path.is_symlink()}
    assert set(ANSWERS) == links == set(names.LINES)


@pytest.mark.parametrize("command", ANSWERS)
def test_every_command_answers(pair: Estate, command: str) -> None:
    """R-36: every command gives the answer of spec/console.md for a running system."""
    options, status, reported = ANSWERS[command]
    found = pair.run(f"{command} {options}")
    assert found[0] == status, found
    assert found[1].startswith(reported) if reported else found[1] == "", found


@pytest.mark.parametrize("name", [each for each in names.LINES if each not in names.ALSO_VERBS])
def test_the_usage_of_a_line_needs_no_console(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`swpks hmc LINE --help` prints the usage with status 0, also without a store."""
    assert carried_out([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {name}")
