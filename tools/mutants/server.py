"""Forks one process for each trial, from one that has loaded all that a mutant does not change."""

import ast
import hashlib
import importlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import coverage
import pytest

from tools.mutants.patching import Name, loaded_functions, patched
from tools.mutants.rooms import ROOMS, ROOT
from tools.mutants.sample import Mutant
from tools.mutants.trial import Watch, module_name, put_in_place, run_tests, set_limits

PACKAGES = ("spec/hcall_abi", "hcall_server", "hcall_client", "swpks")
TIMED_OUT = {signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU}


KEPT = ROOT / ".mutants"
"""The folder of measurements that are kept between two runs."""
BUDGET = 20.0
"""Seconds, under measurement, of the tests that are run for one mutant; as many of other rooms."""
UNPATCHED, BROKEN = "unpatched", "broken"
NO_TESTS = 5
"""Pytest's exit status if no test ran."""


Functions = Mapping[Name, Sequence[FunctionType]]


class Task(NamedTuple):
    """A mutant and the tests that can notice it, with their usual seconds.

    `usual` has those that run its line; `every` has those that may depend on what runs on load, too.
    """

    mutant: Mutant
    usual: dict[str, float]
    every: dict[str, float]


class Result(NamedTuple):
    """The outcome of a trial: `killer` is the test that noticed, None for a survivor."""

    killer: str | None
    seconds: float
    timed_out: bool = False


class Reach(NamedTuple):
    """The tests of a folder: the seconds of each, and for each line of each file its tests, as bits."""

    seconds: dict[str, float]
    lines: dict[str, dict[int, int]]


def in_child(work: Callable[[], object]) -> tuple[int, str]:
    """Run `work` in a forked process; return its wait status, and what it returned as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.close(reading)
            _be_silent()
            answer = json.dumps(work())
            with os.fdopen(writing, "w") as pipe:
                pipe.write(answer)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    return os.waitpid(child, 0)[1], told


def _be_silent() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)


def load_unchanged(module: str) -> None:
    """Load those of our modules that do not import `module`, not even over others."""
    imported = _imports()
    changed = {module}
    while more := {name for name, names in imported.items() if names & changed} - changed:
        changed |= more
    for name in sorted(imported.keys() - changed):
        if not name.startswith("swpks"):  # pytest loads its plugin of ours itself
            importlib.import_module(name)


def _imports() -> dict[str, set[str]]:
    """Return the modules that each of our modules loads; a module loads the packages above it."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    trees = {
        module_name(path.relative_to(ROOT).as_posix()): ast.parse(path.read_text("utf-8")) for path in paths
    }
    found = {}
    for module, tree in trees.items():
        named = {module}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        whole = {name.rsplit(".", cut)[0] for name in named for cut in range(name.count(".") + 1)}
        found[module] = (whole & trees.keys()) - {module}
    return found


def baseline(folder: str) -> Reach:
    """Return what the tests of a folder run in the code as it is; all of them have to pass.

    The answer is kept in a file until the code, the folder or a helper of the tests changes.
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

    status, told = in_child(work)
    if status or json.loads(told)[0]:
        raise RuntimeError(f"tests/{folder} fails on the unchanged code: status {status} {told[:300]}")
    return told


def _tests_by_line(data: coverage.CoverageData, tests: list[str]) -> dict[str, dict[int, str]]:
    """Return for each line of each file the tests that ran it: a hexadecimal number with a bit for each."""
    bit = {test: 1 << place for place, test in enumerate(tests)}
    return {
        Path(file).relative_to(ROOT).as_posix(): {
            line: f"{sum(bit.get(name, 0) for name in names):x}"
            for line, names in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }


def chosen(mutant: Mutant, reach: Mapping[str, Reach]) -> Task:
    """Return a mutant with the tests that can notice it.

    Only quick tests count: those that fit into a budget, the quickest first.  The room's own tests have one
    budget, those of all other rooms together have another.
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


class Forks:
    """A pytest plugin that runs, in the place of the tests, a fork for each mutant that can be patched in.

    A fork has all tests loaded already.  `results` has the outcome of each mutant.  It has None for one that
    has to be tried again with its module loaded anew: it cannot be patched in, or no test has noticed it so.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.results: list[Result | None] = []
        self._killers: dict[str, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each mutant, and in the end the unchanged code against the tests that noticed one."""
        set_limits(0, 0)
        functions = loaded_functions()
        for mutant, usual, _ in self.tasks:
            killers = self._killers.setdefault(mutant.file, [])
            change = partial(_changed, mutant, usual, functions)
            result = outcome_of(partial(_run_items, session, change, Watch(usual, killers)))
            if result.killer in usual:
                killers.insert(0, result.killer)
            self.results.append(None if result.killer in (None, UNPATCHED, BROKEN) else result)
        self._check(session)
        return True

    def _check(self, session: pytest.Session) -> None:
        """Make sure that what failed in a fork did so because of its mutant."""
        usual = {
            test: task.usual[test]
            for task in self.tasks
            for test in self._killers[task.mutant.file]
            if test in task.usual
        }
        result = outcome_of(partial(_run_items, session, lambda: True, Watch(usual)))
        if result.killer:
            raise RuntimeError(f"without any mutant: {result.killer}")


def _changed(mutant: Mutant, usual: Mapping[str, float], functions: Functions) -> bool:
    """Patch a mutant into this process; False if that changes nothing that a test runs."""
    return bool(usual) and patched(mutant, functions)


def _run_items(session: pytest.Session, change: Callable[[], bool], watch: Watch) -> str | None:
    """Change the code of this process and run loaded tests until one fails; return that."""
    if not change():
        return UNPATCHED
    items = list(session.items)
    session.config.pluginmanager.register(watch)
    watch.pytest_collection_modifyitems(items)
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if watch.failed:
            return watch.failed[0]
    return None


def try_patched(tasks: Sequence[Task]) -> list[Result | None]:
    """Try mutants in forks that have the tests loaded; None for those that need another trial."""

    def work() -> list[Result | None]:
        forks = Forks(tasks)
        status = run_tests(forks, _files(task.usual for task in tasks), stop=True)
        if len(forks.results) != len(tasks) or status not in (0, NO_TESTS):
            raise RuntimeError("the forks of a room broke")
        return forks.results

    status, told = in_child(work)
    if status:
        raise RuntimeError(f"the forks of {tasks[0].mutant.room} broke")
    return [Result(*each) if each else None for each in json.loads(told)]


def try_loaded(tasks: Sequence[Task]) -> list[Result]:
    """Try mutants of one module, one after the other, each with the module and its tests loaded anew."""
    load_unchanged(module_name(tasks[0].mutant.file))
    killers: list[str] = []
    results = []
    for mutant, _, every in tasks:
        result = outcome_of(partial(_load_and_run, mutant, Watch(every, killers)))
        if result.killer == BROKEN:
            raise RuntimeError(f"the trial of {mutant} broke")
        if result.killer in every:
            killers.insert(0, result.killer)
        results.append(result)
    return results


def _load_and_run(mutant: Mutant, watch: Watch) -> str | None:
    put_in_place(mutant)
    try:
        if run_tests(watch, _files([watch.usual]), stop=True) in (0, NO_TESTS):
            return None
    except BaseException as error:
        return f"loading: {type(error).__name__}"
    return watch.failed[0] if watch.failed else "loading"


def _files(selections: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the files of tests."""
    return sorted({test.partition("::")[0] for usual in selections for test in usual})


def outcome_of(work: Callable[[], str | None]) -> Result:
    """Try a mutant in a fork; `work` returns the test that fails, None if there is none."""
    started = time.monotonic()
    status, told = in_child(work)
    seconds = time.monotonic() - started
    if os.WIFSIGNALED(status):
        return Result(f"signal {os.WTERMSIG(status)}", seconds, os.WTERMSIG(status) in TIMED_OUT)
    return Result(BROKEN if status else json.loads(told), seconds)
