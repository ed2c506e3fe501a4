"""The grammar of the console's lines.

Examples from users' scripts are parsed, and printed lines parse back.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import OperatorError
from hcall_abi.rules import hmc as rules
from hcall_server.console.grammar import (
    Columns,
    Pair,
    parse_columns,
    parse_filter,
    parse_record,
    parse_records,
    print_record,
)

NAMES = ("name", "lpar_id", "lpar_env", "state", "os_version", "drc_index", "drc_name", "lpar_name")
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=30)
ATTRIBUTE = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)


@pytest.mark.parametrize(
    "text,pairs",
    [
        ("name=lpar1,keystore_kbytes=64", [("name", "lpar1"), ("keystore_kbytes", "64")]),
        ("name=lpar1, keystore_kbytes=64", [("name", "lpar1"), ("keystore_kbytes", "64")]),
        ("curr_profile=,rmc_ipaddr=", [("curr_profile", ""), ("rmc_ipaddr", "")]),
        ('"lpar_names=a,b",work_groups=none', [("lpar_names", "a,b"), ("work_groups", "none")]),
        ('name=l, "virtual_eth=0/""x,y""/1"', [("name", "l"), ("virtual_eth", '0/"x,y"/1')]),
        ('os=say "hi"', [("os", 'say "hi"')]),
        ("a=b=c", [("a", "b=c")]),
        ("name=a b , x=1", [("name", "a b "), ("x", "1")]),
        ("state=Not Activated", [("state", "Not Activated")]),
    ],
)
def test_records_are_read(text: str, pairs: list[tuple[str, str]]) -> None:
    """The reader takes records of chsyscfg -i, of op-test, and of lssyscfg's own output."""
    assert [(each.name, each.value) for each in parse_record(text)] == pairs
    assert {each.operator for each in parse_record(text)} == {"="}


def test_operators_are_read() -> None:
    """`+=` adds to a list, `-=` removes from it."""
    assert parse_record("lpar_name=l,io_slots+=1/2,x-=3") == [
        Pair("lpar_name", "l"),
        Pair("io_slots", "1/2", "+="),
        Pair("x", "3", "-="),
    ]


def test_a_text_has_a_record_a_line() -> None:
    """A text has one record in each line, as in a file of -f. Lines may end as on Unix or Windows."""
    records = parse_records("name=a,x=1\r\n\n  \nname=b\n")
    assert records == [[Pair("name", "a"), Pair("x", "1")], [Pair("name", "b")]]


@pytest.mark.parametrize(
    "text", ["", "name", "=x", "name=a,", 'x="a,b"', '"a=b', '"a=b"c', "a=1,a=2", "a=1,,b=2", "secure-boot=1"]
)
def test_a_bad_record_is_refused(text: str) -> None:
    """A bad record is refused; the reader guesses nothing."""
    with pytest.raises(OperatorError) as caught:
        parse_record(text)
    assert caught.value.rule is rules.LINE_RECORD


@pytest.mark.parametrize(
    "pairs,text",
    [
        ([("name", "vm61"), ("lpar_id", "7")], "name=vm61,lpar_id=7"),
        ([("name", "v1,v2")], '"name=v1,v2"'),
        ([("curr_profile", None), ("rmc_ipaddr", "")], "curr_profile=,rmc_ipaddr="),
        ([("a", 'x,"y"'), ("b", 'x "y"')], '"a=x,""y""",b=x "y"'),
    ],
)
def test_records_are_printed(pairs: list[tuple[str, str | None]], text: str) -> None:
    """A pair is quoted as a whole if its value contains a comma."""
    assert print_record(pairs) == text


@pytest.mark.parametrize(
    "words,names,delimiters",
    [
        (["name,lpar_env"], ("name", "lpar_env"), ","),
        (["drc_index:drc_name:lpar_name"], ("drc_index", "drc_name", "lpar_name"), "::"),
        (["name", "lpar_env", "state"], ("name", "lpar_env", "state"), "  "),
        (["name lpar_env state"], ("name", "lpar_env", "state"), "  "),
        (["name,", "state"], ("name", "state"), ","),
        (["name:lpar_id,state"], ("name", "lpar_id", "state"), ":,"),
        (["state"], ("state",), ""),
        ([], NAMES, "," * 7),
    ],
)
def test_columns_are_read(words: list[str], names: tuple[str, ...], delimiters: str) -> None:
    """The delimiter between two names also stands between their values."""
    columns = parse_columns(words, NAMES)
    assert columns == Columns(names, delimiters)
    divided = zip(names, (*delimiters, ""), strict=True)
    assert columns.header == "".join(name + delimiter for name, delimiter in divided)


@pytest.mark.parametrize("words", [["nothing"], ["name,,state"], ["name;state"], ["UUID"], ["--header"]])
def test_an_unknown_column_is_refused(words: list[str]) -> None:
    """An unknown column is refused, also a known name in capital letters."""
    with pytest.raises(OperatorError) as caught:
        parse_columns(words, NAMES)
    assert caught.value.rule is rules.LINE_ATTRIBUTE


def test_values_with_the_delimiter_are_quoted() -> None:
    """A value that contains the delimiter is quoted.

    A public page of a campus shows this form, and op-test searches for it.
    """
    blanks = parse_columns(["name", "lpar_env", "state", "os_version"], NAMES)
    assert blanks.line(["aix01", "aixlinux", "Running", "AIX 7.1 7100-04-00-0000"]) == (
        'aix01 aixlinux Running "AIX 7.1 7100-04-00-0000"'
    )
    assert blanks.line(["a", "b", "Not Activated", None]) == 'a b "Not Activated" null'
    assert '"Not' in blanks.line(["a", "b", "Not Activated", ""])
    assert parse_columns(["state"], NAMES).line(["Not Activated"]) == "Not Activated"
    assert parse_columns(["name,state"], NAMES).line(["a,b", "Not Activated"]) == '"a,b",Not Activated'


@pytest.mark.parametrize("line", ["a", "a,b,c", '"a,b"'])
def test_a_line_with_other_columns_is_refused(line: str) -> None:
    """A line that names several columns but has another number of values is refused."""
    with pytest.raises(OperatorError) as caught:
        Columns(("x", "y"), ",").parse(line)
    assert caught.value.rule is rules.LINE_RECORD


@pytest.mark.parametrize(
    "text,filters",
    [
        ("lpar_names=lpar1", {"lpar_names": ["lpar1"]}),
        ("lpar_ids=3", {"lpar_ids": ["3"]}),
        ('"lpar_names=a,b"', {"lpar_names": ["a", "b"]}),
        ('"lpar_names=a,b",work_groups=none', {"lpar_names": ["a", "b"], "work_groups": ["none"]}),
    ],
)
def test_filters_are_read(text: str, filters: dict[str, list[str]]) -> None:
    """A line may have several filters, each with several values, and quotes that a shell leaves."""
    assert parse_filter(text, ("lpar_names", "lpar_ids", "work_groups")) == filters


@pytest.mark.parametrize("text", ["names=a", "lpar_names+=a"])
def test_an_unknown_filter_is_refused(text: str) -> None:
    """A filter of another command is refused, because it would list too much."""
    with pytest.raises(OperatorError) as caught:
        parse_filter(text, ("lpar_names",))
    assert caught.value.rule is rules.LINE_ATTRIBUTE


@given(st.dictionaries(ATTRIBUTE, PRINTABLE, min_size=1, max_size=6))
def test_a_printed_record_parses_back(values: dict[str, str]) -> None:
    """Every value of a printed record parses back."""
    line = print_record(values.items())
    assert [(each.name, each.value) for each in parse_record(line)] == list(values.items())
    assert "\n" not in line


@given(st.data())
def test_a_printed_line_parses_back(data: st.DataObject) -> None:
    """A printed line parses back for every delimiter, also a repeated one, and for every value."""
    values = data.draw(st.lists(PRINTABLE, min_size=1, max_size=6))
    between = st.lists(st.sampled_from(",: "), min_size=len(values) - 1, max_size=len(values) - 1)
    columns = Columns(tuple(f"a{number}" for number in range(len(values))), "".join(data.draw(between)))
    assert columns.parse(columns.line(values)) == values
    assert parse_columns([columns.header], columns.names) == columns


MANY = ",".join(f"a{number}=1" for number in range(256))


@pytest.mark.parametrize(
    "parse,text,right",
    [
        (parse_record, MANY, True),
        (parse_record, f"{MANY},b=1", False),
        (parse_record, "a=" + "x" * 65534, True),
        (parse_record, "a=" + "x" * 65535, False),
        (parse_records, "a=1\n" * 1000, True),
        (parse_records, "a=1\n" * 1001, False),
        (lambda text: parse_columns([text], ("name",)), ",".join(["name"] * 256), True),
        (lambda text: parse_columns([text], ("name",)), ",".join(["name"] * 257), False),
        (lambda text: parse_columns(["name", text, "name"], ("name",)), " " * 65537, False),
        (lambda text: parse_filter(text, ("a",)), '"a=' + "x," * 40000 + '"', False),
    ],
)
def test_what_is_read_at_once_has_a_bound(parse, text, right) -> None:
    """The length of a text is bounded, because one long line would stop all other commands."""
    if right:
        parse(text)
        return
    with pytest.raises(OperatorError) as caught:
        parse(text)
    assert caught.value.rule is rules.LINE_SIZE


def test_one_attribute_given_twice_is_found_in_the_largest_record() -> None:
    """The check for repeated attributes looks at each name once, so the largest record stays fast."""
    with pytest.raises(OperatorError, match="a0 is given twice"):
        parse_record(f"{MANY},a0=2")
