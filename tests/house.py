"""The checks behind test_house.py: read modules with `ast`, and report each broken rule.

The rules of the project are tables in test_house.py, and rows of spec/requirements.md. Every finding is one
line "file:line: finding", so a failed test reads like a linter's output.
"""

import ast
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical", "bind", "msg"}
Rooms = Mapping[str, Collection[str]]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A source file: its import name, its path for messages, and its syntax tree."""

    name: str
    where: str
    source: str
    tree: ast.Module


@dataclass(frozen=True)
class Import:
    """One imported name in absolute form: `from a.b import c` gives `a.b.c`.

    `at_run` is False if the import is under TYPE_CHECKING.
    """

    name: str
    line: int
    top_level: bool
    at_run: bool


def parse(name: str, source: str, where: str | None = None) -> Module:
    """Return a module from source text.  The tests of these checks pass faulty modules here."""
    return Module(name, where or name.replace(".", "/") + ".py", source, ast.parse(source))


def load(root: Path, base: str, top: str) -> list[Module]:
    """Return every module under root/base/top; `base` is the folder on the import path ("" or "spec")."""
    modules = []
    for path in sorted((root / base / top).rglob("*.py")):
        parts = path.relative_to(root / base).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(parse(name, path.read_text("utf-8"), path.relative_to(root).as_posix()))
    return modules


def within(name: str, prefix: str) -> bool:
    """Return whether a dotted name is the prefix, or lies below it."""
    return name == prefix or name.startswith(prefix + ".")


def longest(name: str, prefixes: Collection[str]) -> str | None:
    """Return the longest of the prefixes below which the name lies, or None."""
    return max((p for p in prefixes if within(name, p)), key=len, default=None)


def imports(module: Module) -> Iterator[Import]:
    """Yield every import of a module: also in functions, in TYPE_CHECKING blocks, and relative ones."""
    yield from _imports(module, module.tree, top_level=True, at_run=True)


def _imports(module: Module, node: ast.AST, *, top_level: bool, at_run: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, top_level, at_run)
    elif isinstance(node, ast.ImportFrom):
        source = _absolute(module, node)
        for alias in node.names:
            yield Import(f"{source}.{alias.name}".rstrip(".*"), node.lineno, top_level, at_run)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            yield from _imports(module, child, top_level=top_level, at_run=False)
        for child in node.orelse:
            yield from _imports(module, child, top_level=top_level, at_run=at_run)
    else:
        inside = top_level and not isinstance(node, FunctionNode | ast.Lambda)
        for below in ast.iter_child_nodes(node):
            yield from _imports(module, below, top_level=inside, at_run=at_run)


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.name.split(".") if module.where.endswith("__init__.py") else module.name.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def wrong_arrows(module: Module, rooms: Rooms, ours: Collection[str]) -> Iterator[str]:
    """Yield each import of our packages that the row of its room forbids. A room may always import itself."""
    room = longest(module.name, rooms)
    if room is None:
        yield f"{module.where}:1: {module.name} belongs to no room; give it a row in the table of rooms"
        return
    for found in imports(module):
        if found.name.split(".")[0] not in ours or longest(found.name, rooms) == room:
            continue
        if not any(within(found.name, allowed) for allowed in rooms[room]):
            arrows = ", ".join(sorted(rooms[room])) or "none"
            yield f"{module.where}:{found.line}: {room} may not import {found.name}; its arrows: {arrows}"


def unused_arrows(modules: Collection[Module], room: str, rooms: Rooms) -> set[str]:
    """Yield each import that a room's row allows and no module of the room makes."""
    own = [module for module in modules if longest(module.name, rooms) == room]
    taken = {longest(found.name, rooms[room]) for module in own for found in imports(module)}
    return {arrow for arrow in rooms[room] if arrow not in taken}


def graph(modules: Collection[Module], *, at_run: bool) -> dict[str, set[str]]:
    """Return, for each module, the given modules that it imports, also in functions.

    With `at_run`, imports only for types are left out.
    """
    names = {module.name for module in modules}
    return {
        module.name: {
            target
            for found in imports(module)
            if found.at_run >= at_run and (target := longest(found.name, names)) and target != module.name
        }
        for module in modules
    }


def circles(modules: Collection[Module]) -> list[str]:
    """Yield one line for each circle of imports, such as `a > b > a`. Imports for types count too."""
    arrows = graph(modules, at_run=False)
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            found.append(" > ".join((*path[path.index(name) :], name)))
        elif name not in done:
            for target in sorted(arrows[name]):
                walk(target, (*path, name))
            done.add(name)

    for name in sorted(arrows):
        walk(name, ())
    return found


def longest_chain(modules: Collection[Module]) -> tuple[str, ...]:
    """Return the longest chain of run-time imports, in which each module imports the next.

    There must be no circle.
    """
    arrows = graph(modules, at_run=True)

    @cache
    def below(name: str) -> tuple[str, ...]:
        return (name, *max(map(below, sorted(arrows[name])), key=len, default=()))

    return max(map(below, sorted(arrows)), key=len)


def forbidden_imports(
    module: Module, forbidden: Collection[str], why: str, *, but: Collection[str] = ()
) -> Iterator[str]:
    """Yield each import of a forbidden module, except the names in the list of exceptions."""
    for found in imports(module):
        if found.name not in but and any(within(found.name, name) for name in forbidden):
            yield f"{module.where}:{found.line}: {module.name} may not import {found.name}: {why}"


def eager_imports(module: Module, package: str) -> Iterator[str]:
    """Yield each import of a package at module level, if it is allowed only in functions."""
    for found in imports(module):
        if within(found.name, package) and found.top_level and found.at_run:
            yield f"{module.where}:{found.line}: {found.name} has to be imported lazily, inside a function"


def undeclared_imports(module: Module, known: Collection[str]) -> Iterator[str]:
    """Yield each import that is neither ours, nor Python's, nor that of a declared dependency."""
    for found in imports(module):
        if found.name.split(".")[0] not in known:
            yield f"{module.where}:{found.line}: {found.name} comes from no declared dependency"


def long_file(module: Module, limit: int) -> Iterator[str]:
    """Yield a finding if a file has at least `limit` lines."""
    lines = len(module.source.splitlines())
    if lines >= limit:
        yield f"{module.where}:1: the file has {lines} lines; it has to be under {limit}"


def long_functions(module: Module, limit: int) -> Iterator[str]:
    """Yield each function with at least `limit` lines, including its docstring."""
    for node in ast.walk(module.tree):
        if isinstance(node, FunctionNode) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines >= limit:
                where = f"{module.where}:{node.lineno}"
                yield f"{where}: {node.name} has {lines} lines; it has to be under {limit}"


def missing_docstrings(module: Module) -> Iterator[str]:
    """Yield each public module, class, function and method without a docstring."""
    if any(part.startswith("_") for part in module.name.split(".")):
        return
    if not ast.get_docstring(module.tree):
        yield f"{module.where}:1: the module has no docstring"
    yield from _undescribed(module, module.tree.body, "")


def _undescribed(module: Module, body: list[ast.stmt], outer: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_"):
            continue
        if not ast.get_docstring(node) and not _described_elsewhere(node):
            yield f"{module.where}:{node.lineno}: {outer}{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undescribed(module, node.body, f"{outer}{node.name}.")


def _described_elsewhere(node: FunctionNode | ast.ClassDef) -> bool:
    """Return whether another place has the docstring: the overridden method, or the property of a setter."""
    names = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
    return bool(names & {"overload", "override", "setter", "deleter"})


def idle_coroutines(module: Module, allowed: Collection[str]) -> Iterator[str]:
    """Yield each async function without an await. A Protocol's functions have no body and do not count."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.AsyncFunctionDef) or node.name in allowed or _is_signature(node):
            continue
        waits = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield)
        if not any(isinstance(each, waits) for each in ast.walk(node)):
            yield f"{module.where}:{node.lineno}: {node.name} awaits nothing and must not be async"


def _is_signature(node: ast.AsyncFunctionDef) -> bool:
    return all(isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in node.body)


def classes_of_one_name(modules: Collection[Module]) -> dict[str, list[str]]:
    """Yield each class name that is defined more than once, with its files."""
    places: dict[str, list[str]] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module.where)
    return {name: found for name, found in places.items() if len(found) > 1}


def prints(module: Module) -> Iterator[str]:
    """Yield each call of print, because a library has no standard output."""
    for call in _calls(module):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield f"{module.where}:{call.lineno}: print() belongs to the command line alone"


def asserts(module: Module) -> Iterator[str]:
    """Yield each assert statement. python -O removes them, so they check nothing at run time."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{module.where}:{node.lineno}: assert checks nothing under python -O; raise an error"


def opened_files(module: Module) -> Iterator[str]:
    """Yield each call of a builtin for files or the terminal, which a pure room must not use."""
    for call in _calls(module):
        if isinstance(call.func, ast.Name) and call.func.id in {"open", "input"}:
            yield f"{module.where}:{call.lineno}: {call.func.id}() in a pure room; go through a seam"


def logged_secrets(module: Module, words: Collection[str]) -> Iterator[str]:
    """Yield each log call with an argument whose name is that of a secret."""
    for call in _calls(module):
        if not (isinstance(call.func, ast.Attribute) and call.func.attr in LOG_METHODS):
            continue
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        names = {keyword.arg or "" for keyword in call.keywords} | {_last_name(value) for value in values}
        for name in sorted(names & set(words)):
            yield f"{module.where}:{call.lineno}: a log call is handed {name!r}; secrets never reach the log"


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _calls(module: Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def named_rows(modules: Collection[Module]) -> dict[str, str]:
    """Return the requirement rows that docstrings of tests name, each with "file:line" of the first test.

    Tests are test functions, test classes and state machines.
    """
    rows: dict[str, str] = {}
    for module in modules:
        for node in ast.walk(module.tree):
            if _is_test(node) and isinstance(node, FunctionNode | ast.ClassDef):
                for row in re.findall(r"\bR-\d\d\b", ast.get_docstring(node) or ""):
                    rows.setdefault(row, f"{module.where}:{node.lineno}")
    return rows


def _is_test(node: ast.AST) -> bool:
    if isinstance(node, FunctionNode):
        return node.name.startswith("test_")
    if not isinstance(node, ast.ClassDef):
        return False
    return node.name.startswith("Test") or any("StateMachine" in ast.unparse(base) for base in node.bases)


@dataclass(frozen=True)
class Requirement:
    """One row of the page of requirements. `number` is the id, without a plus sign after it."""

    number: str
    state: str
    text: str
    where: str


def requirements(page: str, where: str) -> list[Requirement]:
    """Return the rows of all tables in a page: id, state and behaviour, without heads and rulers."""
    rows = []
    for line, content in enumerate(page.splitlines(), 1):
        if content.startswith("|") and not re.match(r"\| *(id|-+) *\|", content):
            number, state, text = [*map(str.strip, content.strip("| ").split("|", 2)), "", ""][:3]
            rows.append(Requirement(number.removesuffix("+"), state, text, f"{where}:{line}"))
    return rows


def wrong_requirements(rows: Collection[Requirement], named: Mapping[str, str]) -> Iterator[str]:
    """Yield each row whose state does not agree with the tests, and each test that names an unknown row."""
    known: set[str] = set()
    for row in rows:
        yield from (f"{row.where}: {row.number} {what}" for what in _wrong(row, named))
        if row.number in known:
            yield f"{row.where}: {row.number} is there twice"
        known.add(row.number)
    for number in sorted(named.keys() - known):
        yield f"{named[number]}: a test names {number}, which is no row of the page"


def _wrong(row: Requirement, named: Mapping[str, str]) -> Iterator[str]:
    if not re.fullmatch(r"R-\d\d", row.number):
        yield "is no id of a row"
    if row.state not in {"built", "partly", "not yet"}:
        yield f"has the state {row.state!r}; there are built, partly and not yet"
    if (row.state == "partly") != ("**Not yet:**" in row.text):
        yield "has to say after **Not yet:** what is missing if, and only if, it is built partly"
    if row.state == "not yet" and row.number in named:
        yield f"is not built yet, but {named[row.number]} names it"
    if row.state != "not yet" and row.number not in named:
        yield f"is {row.state}, but no test's docstring names it"
