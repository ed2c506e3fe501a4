"""The places in a module that a mutant can change."""

# Code that is not changed
#
# Some code is not changed, because no test should pin its exact text: docstrings, annotations, type aliases,
# imports, decorators, `__repr__`, `__all__`, `__slots__`, log calls, and messages.  A message is an f-string,
# a string with a space in it, or a string in a `raise`.

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from tools.mutants import operators

LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}
TYPE_NAMES = {
    "dict",
    "tuple",
    "list",
    "set",
    "frozenset",
    "int",
    "bytes",
    "str",
    "float",
    "bool",
    "object",
    "type",
}
SHOWN = 96
"""Characters of code around a change that are shown, at most."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Site:
    """A possible change: its place, the code before and after, and the function that changes the tree."""

    scope: str
    line: int
    operator: str
    before: str
    after: str
    apply: Callable[[], None]


def sites(tree: ast.Module) -> Iterator[Site]:
    """Yield every change of a module, always in the same order."""
    yield from _block(tree, "body", ())


def changed(source: str, number: int) -> ast.Module:
    """Return the syntax tree of a module after change `number`."""
    tree = ast.parse(source)
    for found, site in enumerate(sites(tree)):
        # The tree is parsed anew for each mutant: a change is made in place, and not undone.
        if found == number:
            site.apply()
            return ast.fix_missing_locations(tree)
    raise IndexError(f"the module has no change {number}")


class _Place(NamedTuple):
    """The place of a node in the tree: a field of its owner.

    If the field is a list, the place also has the index.
    """

    owner: ast.AST
    field: str
    at: int | None

    def put(self, node: ast.AST) -> None:
        """Replace the node at this place."""
        if self.at is None:
            setattr(self.owner, self.field, node)
        else:
            getattr(self.owner, self.field)[self.at] = node


def _block(owner: ast.AST, field: str, scope: tuple[str, ...]) -> Iterator[Site]:
    """Yield the changes of the statements in a field; `scope` names the classes and functions around."""
    for index, node in enumerate(getattr(owner, field)):
        if not _left_alone(node):
            inner = (*scope, node.name) if isinstance(node, Function | ast.ClassDef) else scope
            yield from _statement(_Place(owner, field, index), node, ".".join(scope))
            yield from _below(node, (node,), inner)


def _statement(place: _Place, node: ast.stmt, scope: str) -> Iterator[Site]:
    """Yield the changes that replace a whole statement."""
    for operator, after in operators.statement_changes(node):
        yield Site(scope, node.lineno, operator, _line(node), _line(after), partial(place.put, after))


def _below(node: ast.AST, path: tuple[ast.AST, ...], scope: tuple[str, ...]) -> Iterator[Site]:
    """Yield the changes below a node; `path` has the nodes from the statement down to the node."""
    for field, value in ast.iter_fields(node):
        if _is_type(field):
            continue
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield from _block(node, field, scope)
        for index, child in enumerate(value) if isinstance(value, list) else ((None, value),):
            if (
                isinstance(child, ast.AST)
                and not isinstance(child, ast.stmt)
                and not _is_message(child, path)
            ):
                yield from _expression(_Place(node, field, index), child, path, ".".join(scope))
                yield from _below(child, (*path, child), scope)


def _expression(place: _Place, node: ast.AST, path: tuple[ast.AST, ...], scope: str) -> Iterator[Site]:
    """Yield the changes that replace a part of a statement."""
    line = next(each.lineno for each in (node, *reversed(path)) if hasattr(each, "lineno"))
    for operator, after in operators.expression_changes(node, place.owner, place.field):
        shown = _shown(place, node, after, path)
        yield Site(scope, line, operator, *shown, partial(place.put, after))


def _shown(place: _Place, node: ast.AST, after: ast.AST, path: tuple[ast.AST, ...]) -> tuple[str, str]:
    """Return the code around a node before and after its change."""
    if isinstance(node, ast.ExceptHandler):
        return _line(node), "raise"
    around = _around(path)
    # The change is made, shown and undone. The new text can't be made from the node alone, because it depends
    # on the whole expression.
    before = _line(around)
    place.put(after)
    try:
        return _shortened(before, _line(around))
    finally:
        place.put(node)


def _line(node: ast.AST) -> str:
    """Return the first line of a node's code; a statement's body is not shown."""
    if isinstance(node, ast.arguments):
        return f"({ast.unparse(node)})"
    return ast.unparse(node).splitlines()[0]


def _around(path: tuple[ast.AST, ...]) -> ast.AST:
    """Return the part of the code that the report shows for the innermost node of `path`.

    It is the outermost node with code that is short enough.  If none is, it is the innermost node.
    """
    nearest = [node for node in path if not isinstance(node, ast.Module)]
    for node in nearest:
        if isinstance(
            node, ast.comprehension | ast.keyword | ast.withitem | ast.ExceptHandler | ast.match_case
        ):
            continue
        if len(_line(node)) <= SHOWN and not isinstance(node, Function | ast.ClassDef | ast.Try | ast.Match):
            return node
    return next(node for node in reversed(nearest) if isinstance(node, ast.expr | ast.stmt | ast.arguments))


def _shortened(before: str, after: str) -> tuple[str, str]:
    """Shorten two long lines: cut most of their common beginning and end."""
    if len(before) <= SHOWN:
        return before, after
    start = _alike(before, after)
    end = _alike(before[start:][::-1], after[start:][::-1])
    left, right = max(start - SHOWN // 2, 0), max(end - SHOWN // 4, 0)
    return before[left : len(before) - right], after[left : len(after) - right]


def _alike(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _left_alone(node: ast.stmt) -> bool:
    """Return whether a statement has no changes at all, such as an import or a log call."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name in {"__all__", "__slots__"} or _is_alias(value)
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name))):
            return name in LOG_METHODS
        case ast.FunctionDef(name=name):
            return name == "__repr__"
        case ast.ClassDef(bases=bases):
            return any("Protocol" in ast.unparse(base) for base in bases)
        case ast.If(test=test):
            return "TYPE_CHECKING" in ast.unparse(test)
    plain = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return plain or isinstance(node, ast.Import | ast.ImportFrom | ast.Pass | ast.Global | ast.Nonlocal)


def _is_alias(value: ast.expr) -> bool:
    """Return whether a value is a type: `dict[str, bytes | None]`, `Replace | Delete`, `TypeVar("T")`."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in {"TypeVar", "NewType"}
    if not isinstance(value, ast.Subscript | ast.BinOp):
        return False
    return all(
        (
            isinstance(
                node, ast.Name | ast.Subscript | ast.BinOp | ast.BitOr | ast.Tuple | ast.List | ast.Load
            )
            and (not isinstance(node, ast.Name) or node.id in TYPE_NAMES or _is_class_name(node.id))
        )
        or (isinstance(node, ast.Constant) and node.value in (None, ...))
        for node in ast.walk(value)
    )


def _is_class_name(name: str) -> bool:
    return name[0].isupper() and not name.isupper()


def _is_type(field: str) -> bool:
    """Return whether a field of a node has types, base classes or decorators, which are not changed."""
    return field in {"annotation", "returns", "type_comment", "decorator_list", "bases", "type_params"}


def _is_message(node: ast.AST, path: tuple[ast.AST, ...]) -> bool:
    if isinstance(node, ast.JoinedStr):
        return True
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return " " in node.value or any(isinstance(each, ast.Raise) for each in path)
