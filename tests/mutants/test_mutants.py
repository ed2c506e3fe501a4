"""The tool of `make mutants`: which changes it makes to the code, and what it leaves unchanged."""

import ast

import pytest

from tools.mutants import survivors
from tools.mutants.forking import Result
from tools.mutants.report import score
from tools.mutants.rooms import ROOMS
from tools.mutants.sample import Mutant, drawn, population
from tools.mutants.sites import changed, sites
from tools.mutants.survivors import Survivor

CHANGES = [
    # the code, and the operator and the code after each change
    ("f(a < b)", ["comparison: f(a <= b)", "statement removed: pass"]),
    ("x = a is not b", ["comparison: x = a is b"]),
    ("x = a and b", ["boolean: x = a or b", "operand dropped: x = a", "operand dropped: x = b"]),
    ("x = a + b", ["arithmetic: x = a - b"]),
    ("x = not a", ["operator deleted: x = a"]),
    ("x = 5", ["constant: x = 4", "constant: x = 6"]),
    ("x = True", ["constant: x = False"]),
    ("x = 2.0", ["constant: x = 1.0", "constant: x = 4.0"]),
    ("x = b'label'", ["constant: x = b'labem'"]),
    ("x = 'big'", ["constant: x = 'big_'"]),
    ("x = f(a, b)", ["arguments swapped: x = f(b, a)"]),
    ("x = f(a, a)", []),
    ("x = f(a=b)", ["argument dropped: x = f()"]),
    ("x = {a: b}", ["row removed: x = {}"]),
    ("x = y[a:]", ["bound dropped: x = y[:]"]),
    ("x = [y for y in z if y]", ["filter removed: x = [y for y in z if True]"]),
    ("x = max(y)", ["name: x = min(y)"]),
    ("if a:\n    x = y", ["condition negated: if not a:"]),
    ("self.x = y", ["statement removed: pass"]),
    ("def f():\n    return x", ["return None: return None"]),
    ("try:\n    x = y\nexcept E:\n    x = z", ["handler raises: raise"]),
]
LEFT_ALONE = [
    '"""A docstring."""',
    "import a",
    "def f(a: 5 | b) -> 6: ...",
    "x: dict[1, 2]",
    "Key = tuple[int, bytes | None]",
    "Decision = Replace | Delete",
    "class A:\n    def __repr__(self):\n        return a + 1",
    "__slots__ = ('a', 'b')",
    "x = f'{a + 1} bytes'",
    "x = 'a message'",
    "log.warning('event', number=1)",
    "class Seam(Protocol):\n    x = 1",
    "if TYPE_CHECKING:\n    x = 1",
]


def changes(source: str) -> list[str]:
    """Return, for each change, its operator and the changed code."""
    return sorted(f"{site.operator}: {site.after}" for site in sites(ast.parse(source)))


@pytest.mark.parametrize("source,expected", CHANGES, ids=[source for source, _ in CHANGES])
def test_changes(source: str, expected: list[str]) -> None:
    """Each operator makes exactly these changes."""
    assert changes(source) == sorted(expected)


@pytest.mark.parametrize("source", LEFT_ALONE)
def test_what_is_left_alone(source: str) -> None:
    """Docstrings, types, messages, logs and `__repr__` are not changed, because no test checks them."""
    assert changes(source) == []


def test_a_raise_can_be_removed_and_its_message_stays() -> None:
    """A raise is removed, but the text of an error is not changed."""
    assert changes("raise E(rule, 'word')") == [
        "arguments swapped: raise E('word', rule)",
        "statement removed: pass",
    ]


def test_every_change_is_made_alone_and_compiles() -> None:
    """Each mutant differs from the code in one place, which it names, and can be compiled."""
    (path,) = (each for each in ROOMS["keystore"].modules if each.name == "tokens.py")
    source = path.read_text("utf-8")
    whole = ast.unparse(ast.parse(source))
    for number, _ in enumerate(list(sites(ast.parse(source)))):
        tree = changed(source, number)
        compile(tree, str(path), "exec")
        assert ast.unparse(tree) != whole
    assert ast.unparse(ast.parse(source)) == whole
    with pytest.raises(IndexError):
        changed(source, number + 1)


def test_a_seed_draws_the_same_mutants_again() -> None:
    """Two runs with the same seed make the same mutants. No two mutants of a room have the same name."""
    every = population("writeback")
    sample = drawn("writeback", 7)
    assert sample == drawn("writeback", 7) != drawn("writeback", 8)
    assert len(set(sample)) == len(sample) == ROOMS["writeback"].drawn
    assert len({mutant.key for mutant in every}) == len(every)


def test_the_score_leaves_out_equivalent_mutants_alone() -> None:
    """The score is killed mutants divided by those that are not equivalent.

    A survivor with any reason but "equivalent" counts as not equivalent.
    """
    mutants = [Mutant("keystore", "f.py", "f", "constant", "1", str(n), 1, 1, n) for n in range(5)]
    outcome = dict(zip(mutants, [Result("a test", 1.0)] * 2 + [Result(None, 1.0)] * 3, strict=True))
    known = {
        mutant.key: Survivor(mutant.key, same, "a reason")
        for mutant, same in zip(mutants[2:4], (True, False), strict=True)
    }
    found = score(outcome, known)
    assert (found.tried, found.killed, found.equivalent) == (5, 2, 1)
    assert found.percent == 50.0


def test_every_survivor_has_its_reason() -> None:
    """The committed file of surviving mutants can be read, and each row has a reason."""
    assert all(len(row.reason.split()) > 3 for row in survivors.read().values())
