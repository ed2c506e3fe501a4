"""Tests of the checks in house.py: they report each faulty module, and accept each good one."""

from collections.abc import Iterator

from tests import house

ROOMS: dict[str, set[str]] = {
    "abi": set(),
    "server": set(),
    "server.engine": {"abi"},
    "server.net": {"server.engine", "abi"},
    "client": {"abi"},
    "client.testing": {"server", "abi"},
}
OURS = ("abi", "server", "client")


def arrows(name: str, source: str) -> list[str]:
    return list(house.wrong_arrows(house.parse(name, source), ROOMS, OURS))


def one(findings: Iterator[str]) -> str:
    (found,) = findings
    return found


def test_a_wrong_arrow_is_named_with_file_and_line() -> None:
    (found,) = arrows("server.engine.store", "import struct\nfrom server.net import stream\n")
    where, _, what = found.partition(": ")
    assert where == "server/engine/store.py:2"
    assert what == "server.engine may not import server.net.stream; its arrows: abi"


def test_arrows_are_found_wherever_they_hide() -> None:
    assert arrows("server.engine.a", "def f():\n    import server.net.stream\n")
    assert arrows("server.engine.a", "if TYPE_CHECKING:\n    from server.net import stream\n")
    assert arrows("server.engine.a", "if typing.TYPE_CHECKING:\n    pass\nelse:\n    import client\n")
    assert arrows("server.engine.a", "try:\n    import client\nexcept ImportError:\n    pass\n")
    assert arrows("server.engine.a", "from ..net import stream\n")
    assert arrows("server.engine.a", "from .. import net\n")
    assert arrows("server.engine.a", "from server import net\n")
    assert arrows("server.engine.a", "from client import *\n")
    assert arrows("server.engine.a", "class C:\n    import client\n")


def test_right_arrows_pass() -> None:
    assert arrows("server.engine.a", "import abi.frames\nfrom . import b\n") == []
    assert arrows("server.engine.a", "from server.engine.c import d\n") == []
    assert arrows("server.net.a", "from server.engine import store\nimport trio, json\n") == []
    assert arrows("client.a", "from client.b import c\nimport abi\n") == []


def test_a_finer_row_beats_its_room() -> None:
    assert arrows("client.testing", "import server.net\n") == []
    assert arrows("client.channel", "import server.net\n")
    assert arrows("client.channel", "import client.testing\n"), "no room may depend on the helpers"


def test_a_module_without_a_room_is_caught() -> None:
    assert "belongs to no room" in arrows("stranger.module", "")[0]


def test_a_like_named_package_is_not_confused() -> None:
    assert arrows("server.engine.a", "import clients, abi2, serverless\n") == []
    assert not house.within("server.engineering", "server.engine")


def test_relative_imports_of_a_package_are_resolved() -> None:
    package = house.parse("server.engine", "from .store import Store\n", "server/engine/__init__.py")
    assert [found.name for found in house.imports(package)] == ["server.engine.store.Store"]


def test_circles_and_chains_are_found() -> None:
    sources = {"a": "import b\nif TYPE_CHECKING:\n    import c\n", "b": "def f():\n    import c.d\n", "c": ""}
    modules = [house.parse(name, source) for name, source in sources.items()]
    assert house.circles(modules) == []
    assert house.longest_chain(modules) == ("a", "b", "c")
    modules[2] = house.parse("c", "from a import x\n")
    assert house.circles(modules)[0] == "a > b > c > a"
    types = "if TYPE_CHECKING:\n    import b\n"
    assert house.circles([house.parse("a", types), house.parse("b", "import a\n")]) == ["a > b > a"]


def test_an_arrow_that_nobody_takes_is_found() -> None:
    module = house.parse("client.testing", "import server.engine\n")
    assert house.unused_arrows([module], "client.testing", ROOMS) == {"abi"}


def test_classes_of_one_name_are_found() -> None:
    modules = [house.parse("a", "class C:\n    pass\n"), house.parse("b", "class C: ...\nclass D: ...\n")]
    assert house.classes_of_one_name(modules) == {"C": ["a.py", "b.py"]}


def test_idle_coroutines_are_found() -> None:
    source = "async def f():\n    return 1\nasync def g():\n    await h()\nasync def p():\n    'words'\n"
    assert one(house.idle_coroutines(house.parse("m", source), ())).startswith("m.py:1: f awaits nothing")
    assert list(house.idle_coroutines(house.parse("m", source), ("f",))) == []


def test_impure_imports_are_caught() -> None:
    bad = house.parse("server.engine.a", "from os import urandom\n")
    assert one(house.forbidden_imports(bad, {"os"}, "pure")).endswith("may not import os.urandom: pure")
    assert list(house.forbidden_imports(house.parse("m", "import ossaudiodev2\n"), {"os"}, "pure")) == []
    assert one(house.opened_files(house.parse("m", "open('x')\n")))


def test_an_eager_import_is_told_from_a_lazy_one() -> None:
    lazy = "if TYPE_CHECKING:\n    import server\ndef f():\n    import server.net\n"
    assert list(house.eager_imports(house.parse("m", lazy), "server")) == []
    eager = "try:\n    import server.net\nfinally:\n    pass\n"
    assert one(house.eager_imports(house.parse("m", eager), "server"))


def test_an_undeclared_import_is_caught() -> None:
    module = house.parse("m", "import json\nimport requests.adapters\n")
    assert "requests.adapters comes from no declared dependency" in one(
        house.undeclared_imports(module, {"json"})
    )


def test_sizes_are_counted() -> None:
    module = house.parse("m", "def f():\n" + "    x = 1\n" * 9)
    assert one(house.long_file(module, 10)).startswith("m.py:1: the file has 10 lines")
    assert one(house.long_functions(module, 10)).startswith("m.py:1: f has 10 lines")
    assert list(house.long_file(module, 11)) == list(house.long_functions(module, 11)) == []


def test_missing_docstrings_are_caught() -> None:
    source = "class C:\n  '''.'''\n  def m(self): ...\n  def _p(self): ...\n  def __len__(self): ...\n"
    source += "async def f(): ...\nclass _D:\n  def x(self): ...\n"
    found = list(house.missing_docstrings(house.parse("m", source)))
    assert [line.split(": ")[1] for line in found] == [
        "the module has no docstring",
        "C.m has no docstring",
        "f has no docstring",
    ]


def test_a_setter_and_an_overload_need_no_words() -> None:
    source = "'''.'''\n@typing.overload\ndef f(): ...\n"
    source += "class C:\n  '''.'''\n  @x.setter\n  def x(self, v): ...\n"
    assert list(house.missing_docstrings(house.parse("m", source))) == []
    assert list(house.missing_docstrings(house.parse("_private.m", "x = 1\n"))) == []


def test_prints_and_asserts_are_caught() -> None:
    module = house.parse("m", "x = 1\nassert x\nprint(x)\n")
    assert one(house.asserts(module)).startswith("m.py:2:")
    assert one(house.prints(module)).startswith("m.py:3:")


def test_secrets_in_log_calls_are_caught() -> None:
    words = {"password", "key"}
    for call in ("log.info('x', password=1)", "self.log.error('x', k=self.key)", "log.bind(key)"):
        assert one(house.logged_secrets(house.parse("m", call), words)).startswith("m.py:1:")
    for call in ("log.info('the password was refused', partition=1)", "cipher.encrypt(key)"):
        assert list(house.logged_secrets(house.parse("m", call), words)) == []


def test_only_tests_name_rows() -> None:
    source = "'''R-01'''\ndef test_a():\n  '''R-02, R-03.'''\ndef helper():\n  '''R-04'''\n"
    classes = "class TestX:\n  '''R-05'''\nclass Model(RuleBasedStateMachine):\n  '''R-06'''\n"
    rows = house.named_rows([house.parse("m", source), house.parse("n", classes)])
    assert rows == {"R-02": "m.py:2", "R-03": "m.py:2", "R-05": "n.py:1", "R-06": "n.py:3"}


PAGE = """
| id | state | behaviour |
| --- | --- | --- |
| R-01 | built | a |
| R-16+ | partly | b. **Not yet:** c |
| R-40+ | not yet | d |
"""
NAMED = {"R-01": "m.py:1", "R-16": "m.py:2"}


def wrong(page: str, named: dict[str, str]) -> list[str]:
    return list(house.wrong_requirements(house.requirements(page, "page.md"), named))


def test_rows_of_the_page_are_read() -> None:
    rows = house.requirements(PAGE, "page.md")
    assert [(row.number, row.state) for row in rows] == [
        ("R-01", "built"),
        ("R-16", "partly"),
        ("R-40", "not yet"),
    ]
    assert (rows[1].text, rows[1].where) == ("b. **Not yet:** c", "page.md:5")
    assert wrong(PAGE, NAMED) == []


def test_rows_that_are_not_true_are_caught() -> None:
    (unproven,) = wrong(PAGE, {"R-01": "m.py:1"})
    assert unproven == "page.md:5: R-16 is partly, but no test's docstring names it"
    (early,) = wrong(PAGE, NAMED | {"R-40": "m.py:3"})
    assert early == "page.md:6: R-40 is not built yet, but m.py:3 names it"
    (unknown,) = wrong(PAGE, NAMED | {"R-99": "m.py:4"})
    assert unknown == "m.py:4: a test names R-99, which is no row of the page"


def test_rows_that_are_badly_written_are_caught() -> None:
    for line, what in {
        "| R-01 | built | a |": "is there twice",
        "| R-02 | built | a. **Not yet:** b |": "if, and only if, it is built partly",
        "| R-02 | partly | a |": "if, and only if, it is built partly",
        "| R-02 | not built | a |": "has the state 'not built'",
        "| R-2 | built | a |": "is no id of a row",
        "|R-02||": "has the state ''",
    }.items():
        found = wrong(PAGE + line, NAMED | {"R-02": "m.py:3", "R-2": "m.py:3"})
        assert any("page.md:7" in finding and what in finding for finding in found), line
