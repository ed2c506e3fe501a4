"""The changes: the replacements of a node of the syntax tree, each with the name of its operator."""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

COMPARISONS: dict[type[ast.AST], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
ARITHMETIC: dict[type[ast.AST], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd,
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}

IN_ANY_ORDER = {"min", "max", "compare_digest", "cast", "isinstance", "issubclass"}
"""Functions whose arguments are not swapped: the result is the same, or a type is one of them."""

Change = tuple[str, Any]
"""The name of the operator, and the node that takes the place of the old one."""


def statement_changes(node: ast.stmt) -> Iterator[Change]:
    """Yield the replacements of a statement."""
    match node:
        case ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Raise() | ast.Delete():
            yield "statement removed", ast.copy_location(ast.Pass(), node)
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement removed", ast.copy_location(ast.Pass(), node)
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield "return None", ast.copy_location(ast.Return(ast.Constant(None)), node)
        case ast.Break():
            yield "break to continue", ast.copy_location(ast.Continue(), node)
        case ast.Continue():
            yield "continue to break", ast.copy_location(ast.Break(), node)


def expression_changes(node: Any, owner: ast.AST, field: str) -> Iterator[Change]:
    """Yield the replacements of a node, which is `field` of `owner`."""
    if type(node) in COMPARISONS:
        yield "comparison", COMPARISONS[type(node)]()
    if type(node) in ARITHMETIC:
        yield "arithmetic", ARITHMETIC[type(node)]()
    yield from _CHANGES.get(type(node), _none)(node)
    if field == "test" and isinstance(owner, ast.If | ast.IfExp | ast.While):
        yield "condition negated", ast.UnaryOp(ast.Not(), node)
    if field in {"ifs", "guard"}:
        yield "filter removed", ast.Constant(True)


def _none(node: ast.AST) -> Iterator[Change]:
    yield from ()


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _with(node: Any, field: str, value: Any) -> Any:
    """Return a copy of a node with another value in one field."""
    other = copy.copy(node)
    setattr(other, field, value)
    return other


def _without(node: Any, field: str, place: int) -> Any:
    values = getattr(node, field)
    return _with(node, field, values[:place] + values[place + 1 :])


def _boolean(node: ast.BoolOp) -> Iterator[Change]:
    yield "boolean", _with(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for place in range(len(node.values)):
        left = _without(node, "values", place)
        yield "operand dropped", left if len(left.values) > 1 else left.values[0]


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    yield "operator deleted", node.operand


def _constant(node: ast.Constant) -> Iterator[Change]:
    yield from (("constant", ast.Constant(other)) for other in _other_constants(node.value))


def _handler(node: ast.ExceptHandler) -> Iterator[Change]:
    yield "handler raises", _with(node, "body", [ast.Raise()])


def _name(node: ast.Name) -> Iterator[Change]:
    if node.id in NAMES:
        yield "name", ast.Name(NAMES[node.id], ast.Load())


def _other_constants(value: object) -> Iterator[Any]:
    match value:
        # `bool` comes before `int`, because True is an int. True + 1 would be a bad change: it counts as
        # true, too.
        case bool():
            yield not value
        case int():
            yield value + 1
            yield value - 1
        case float():
            yield value * 2 if value else 1.0
            yield value / 2 if value else -1.0
        case bytes():
            yield value[:-1] + bytes([value[-1] ^ 1]) if value else b"\1"
        case str():
            yield value + "_"


def _call(node: ast.Call) -> Iterator[Change]:
    if _can_be_swapped(node):
        yield "arguments swapped", _with(node, "args", [node.args[1], node.args[0], *node.args[2:]])
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield "argument dropped", _without(node, "keywords", place)


def _can_be_swapped(node: ast.Call) -> bool:
    """Return whether a mutant may swap the first two arguments of a call.

    It may not if the swap can't change the result: both arguments are equal, or the function takes them in
    any order.
    """
    if len(node.args) < 2 or any(isinstance(arg, ast.Starred) for arg in node.args[:2]):
        return False
    # Equal arguments cannot be distinguished after a swap, so such a mutant would be equivalent.
    in_any_order = isinstance(node.func, ast.Name) and node.func.id in IN_ANY_ORDER
    return not in_any_order and ast.dump(node.args[0]) != ast.dump(node.args[1])


def _display(node: ast.Dict | ast.Set | ast.List) -> Iterator[Change]:
    """Yield copies of a dict, a set or a list that lack one item."""
    if isinstance(node, ast.Dict):
        for place in range(len(node.keys)):
            yield (
                "row removed",
                _with(
                    _without(node, "keys", place), "values", node.values[:place] + node.values[place + 1 :]
                ),
            )
    elif len(node.elts) > 1:
        for place in range(len(node.elts)):
            yield "row removed", _without(node, "elts", place)


def _slice(node: ast.Slice) -> Iterator[Change]:
    for field in ("lower", "upper"):
        if getattr(node, field) is not None:
            yield "bound dropped", _with(node, field, None)


_CHANGES: dict[type[ast.AST], Callable[[Any], Iterator[Change]]] = {
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.Constant: _constant,
    ast.Call: _call,
    ast.Dict: _display,
    ast.Set: _display,
    ast.List: _display,
    ast.Slice: _slice,
    ast.ExceptHandler: _handler,
    ast.Name: _name,
}
