"""Forks a process for each trial, from one that has loaded all modules that a mutant does not change."""

# Two ways to try a mutant, and why both
#
# A run tries hundreds of mutants, so a trial has to be cheap.  Most of its time would go into loading:
# Python, the packages, pytest, the tests.  So one process loads all of that, and forks a child for each
# mutant.  The change never leaves the child, and the end of the child is the clean-up.
#
#   1. Patched (`try_patched`).  The parent has the room's tests and all modules loaded.  The child
#      replaces the code of the functions that the mutant changes (patching.py), and runs the tests that reach
#      the line.
#   2. Loaded (`try_loaded`).  The parent has loaded only modules that do not import the changed one, not
#      even over others (loading.py).  The child loads the changed module and its tests anew.
#
# The first way is quick, and cannot do everything: a change outside of functions, such as a row of a table,
# has run already when the tests are loaded.  The second way is exact and slow.  So the first one may only
# kill.  A mutant that it cannot patch, or that no test has killed, is tried again by the second way.  A
# survivor is always a survivor of the second way.
#
# A fork could also fail for a reason of its own, such as state that an earlier load has left.  Then each
# mutant would count as killed.  So at the end the tests that have killed something run once without any
# mutant (`_check`, `control`). If one fails, the run breaks off: its scores would mean nothing.
#
# Tests that killed a mutant of a module run first for its next mutants.  They are likely to kill again.

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import FunctionType

import pytest

from tools.mutants.forking import BROKEN, Result, in_child, outcome_of
from tools.mutants.loading import load_unchanged
from tools.mutants.patching import Name, loaded_functions, patched
from tools.mutants.reach import Task
from tools.mutants.sample import Mutant
from tools.mutants.trial import Watch, module_name, put_in_place, run_tests, set_limits

UNPATCHED = "unpatched"
NO_TESTS = 5
"""Pytest's exit status if no test ran."""

Functions = Mapping[Name, Sequence[FunctionType]]


class Forks:
    """A pytest plugin that does not run the tests once, but in a fork for each mutant.

    A fork has all tests loaded already, and patches its mutant in. `results` has the outcome of each
    mutant. None means that the mutant cannot be patched in, or that no test has killed it. Such a mutant
    has to be tried again, with its module loaded anew.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.results: list[Result | None] = []
        self._killers: dict[str, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try each mutant; then run all tests that killed a mutant on the unchanged code."""
        # The limits of `run_tests` are for loading.  This process runs until the last of its forks has ended.
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
        """Raise RuntimeError if a test that killed a mutant also fails on the unchanged code."""
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
    """Patch a mutant into this process.

    Return False if no test runs the mutant's line, or if the mutant can't be patched in.
    """
    return bool(usual) and patched(mutant, functions)


def _run_items(session: pytest.Session, change: Callable[[], bool], watch: Watch) -> str | None:
    """Change the code of this process, then run loaded tests; return the first test that fails, or None."""
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
    """Try each mutant in a fork with loaded tests; return the outcomes.

    If a mutant needs another trial, its outcome is None.
    """

    def work() -> list[Result | None]:
        forks = Forks(tasks)
        status = run_tests(forks, _files(task.usual for task in tasks), stop=True)
        if len(forks.results) != len(tasks) or status not in (0, NO_TESTS):
            raise RuntimeError("the forks of a room broke")
        return forks.results

    status, output = in_child(work)
    if status:
        raise RuntimeError(f"the forks of {tasks[0].mutant.room} broke")
    return [Result(*each) if each else None for each in json.loads(output)]


def try_loaded(tasks: Sequence[Task]) -> list[Result]:
    """Return the outcome of each mutant of a module; each trial loads the module and its tests anew."""
    status, output = in_child(partial(_try_loaded, tasks))
    if status:
        raise RuntimeError(f"the trials of {tasks[0].mutant.file} broke")
    return [Result(*each) for each in json.loads(output)]


def _try_loaded(tasks: Sequence[Task]) -> list[Result]:
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
    control = Watch(dict.fromkeys(killers, 5.0))
    if killers and (unchanged := outcome_of(partial(_load_and_run, None, control))).killer:
        raise RuntimeError(f"without any mutant: {unchanged.killer}")
    return results


def _load_and_run(mutant: Mutant | None, watch: Watch) -> str | None:
    if mutant:
        put_in_place(mutant)
    try:
        if run_tests(watch, _files([watch.usual]), stop=True) in (0, NO_TESTS):
            return None
    except BaseException as error:
        return f"loading: {type(error).__name__}"
    return watch.failed[0] if watch.failed else "loading"


def _files(selections: Iterable[Mapping[str, float]]) -> list[str]:
    """Return the files that contain the given tests."""
    return sorted({test.partition("::")[0] for usual in selections for test in usual})
