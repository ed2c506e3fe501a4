"""The tests that can kill a mutant: measured once on the unchanged code, with coverage."""

# Which tests can kill a mutant
#
# Most tests never run the changed line. So coverage measures once, on the unchanged code, which test runs
# which line. The measurement takes longer than the tests themselves, so its result is stored. The name of the
# file is a digest of all files that the result depends on. The tests of a line are the bits of one number.
#
# Code outside of functions runs when a module is loaded, before any test.  Coverage assigns it to no test.  A
# change there can break any test of the rooms that load the module, so `every` has more tests than `usual`.
#
# A few tests run for seconds and reach many lines.  `BUDGET` bounds the tests for one mutant, the quickest
# ones first.

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import coverage

from tools.mutants.forking import in_child
from tools.mutants.loading import PACKAGES
from tools.mutants.rooms import ROOMS, ROOT
from tools.mutants.sample import Mutant
from tools.mutants.trial import Watch, run_tests

KEPT = ROOT / ".mutants"
"""The folder of measurements, for the next run."""
BUDGET = 20.0
"""Seconds of the tests for one mutant, as measured with coverage; as many for tests of other rooms."""


class Task(NamedTuple):
    """A mutant and the tests that can kill it, with the usual seconds of each test.

    `usual` has the tests that run the changed line.  `every` also has tests that may depend on code that runs
    when a module is loaded.
    """

    mutant: Mutant
    usual: dict[str, float]
    every: dict[str, float]


class Reach(NamedTuple):
    """The tests of a folder, and the lines that they run.

    `seconds` has the time of each test.  `lines` has a number for each line of each file: its bits are the
    tests that run the line.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, int]]


def baseline(folder: str) -> Reach:
    """Return the lines of the unchanged code that a folder's tests run; all tests have to pass.

    The result is stored in a file, and used until the code, the folder or a helper of the tests changes.
    """
    kept = KEPT / f"{folder}-{_state_of(folder)}.json"
    if not kept.exists():
        KEPT.mkdir(exist_ok=True)
        kept.write_text(_measured(folder), "utf-8")
    _, seconds, lines = json.loads(kept.read_text("utf-8"))
    return Reach(
        seconds, {file: {int(line): int(bits, 16) for line, bits in of.items()} for file, of in lines.items()}
    )


def _state_of(folder: str) -> str:
    """Return a digest of all files that the tests of a folder depend on."""
    digest = hashlib.sha256()
    for top in (*PACKAGES, "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if top != "tests" or folder == path.parent.name or not path.name.startswith("test_"):
                # The digest includes the path: a file that was renamed has the same content.
                digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:24]


def _measured(folder: str) -> str:
    def work() -> tuple[int, dict[str, float], dict[str, dict[int, str]]]:
        folders = [f"{ROOT / room.folder}/*" for room in ROOMS.values()]
        measured = coverage.Coverage(data_file=None, config_file=False, include=folders)
        watch = Watch({}, measured=measured)
        measured.start()
        status = run_tests(watch, [f"tests/{folder}"], stop=False)
        measured.stop()
        return status, watch.seconds, _tests_by_line(measured.get_data(), list(watch.seconds))

    status, output = in_child(work)
    # If tests fail on the unchanged code, every mutant would count as killed.
    if status or json.loads(output)[0]:
        raise RuntimeError(f"tests/{folder} fails on the unchanged code: status {status} {output[:300]}")
    return output


def _tests_by_line(data: coverage.CoverageData, tests: list[str]) -> dict[str, dict[int, str]]:
    """Return the tests that ran each line of each file.

    They are a hexadecimal number: it has a bit for each test.
    """
    bit = {test: 1 << place for place, test in enumerate(tests)}
    return {
        Path(file).relative_to(ROOT).as_posix(): {
            line: f"{sum(bit.get(name, 0) for name in names):x}"
            for line, names in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }


def chosen(mutant: Mutant, reach: Mapping[str, Reach]) -> Task:
    """Return a mutant with the tests that can kill it.

    Only the quickest tests are used, as many as fit into a budget of seconds.  The room's own tests have one
    budget, and the tests of all other rooms together have another.
    """
    own, *others = ROOMS[mutant.room].tests
    usual = [_quickest(_reaching(mutant, folders, reach)) for folders in ([own], others)]
    every = [
        _quickest({test: usual for folder in folders for test, usual in reach[folder].seconds.items()})
        for folders in ([own], others)
    ]
    return Task(mutant, usual[0] | usual[1], every[0] | every[1] | usual[0] | usual[1])


def _reaching(mutant: Mutant, folders: Iterable[str], reach: Mapping[str, Reach]) -> dict[str, float]:
    """Return the tests of some folders that run the line of a mutant."""
    found: dict[str, float] = {}
    for folder in folders:
        bits = reach[folder].lines.get(mutant.file, {}).get(mutant.line, 0)
        for place, (test, usual) in enumerate(reach[folder].seconds.items()):
            if bits >> place & 1:
                found[test] = usual
    return found


def _quickest(tests: Mapping[str, float]) -> dict[str, float]:
    """Return the quickest tests that fit into the budget."""
    left = BUDGET
    found = {}
    for test, usual in sorted(tests.items(), key=lambda pair: pair[1]):
        left -= usual
        if left > 0:
            found[test] = usual
    return found
