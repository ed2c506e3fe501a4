"""Empty inputs of commands are refused before anything is sent, with their name and the way out."""

import pytest

from swpks.cli.main import main
from tests.client.test_lpar_command import serving

PASSWORD = "a password has at least 1 byte; leave --password-file out if the consumer has none"
VERBS = {
    ("write", "x"): "an object has at least 1 byte; give its bytes by --in F, or by a pipe",
    ("wrap", "k"): "wrap needs at least 1 byte; give the bytes by --in F, or by a pipe",
    ("unwrap",): "give the output of wrap by --in F, or by a pipe",
    ("update", "db"): "give the signed update by --auth F, or by a pipe",
}
FILES = {
    ("write", "x", "--in"): VERBS["write", "x"],
    ("wrap", "k", "--in"): VERBS["wrap", "k"],
    ("unwrap", "--in"): VERBS["unwrap",],
    ("update", "db", "--auth"): VERBS["update", "db"],
    ("set-password", "--new-password-file"): "name another file, or let gen-password make a password",
    ("ls", "--password-file"): PASSWORD,
}


@pytest.fixture
def empty(tmp_path):
    """An empty file."""
    (tmp_path / "empty").touch()
    return tmp_path / "empty"


@pytest.fixture
async def command(tmp_path, capsysbinary, monkeypatch):
    """A command against a partition with default options."""
    async with serving(tmp_path, capsysbinary, monkeypatch) as found:
        yield found


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
async def test_an_empty_standard_input(command, verb):
    """Each command that needs data refuses an empty standard input before it sends a call.

    The input is empty after `</dev/null`, or in a pipe whose first program has failed.
    """
    await command(*verb, status=2)
    assert f"swpks lpar lpar1 {verb[0]}: standard input is empty: {VERBS[verb]} [operator" in command.err
    assert "rule command.input: " in command.err
    assert "hcall.refused" not in command.err, "no h-call was sent"


@pytest.mark.parametrize("verb", FILES, ids=" ".join)
async def test_an_empty_file(command, empty, verb):
    """If a file is empty, the error names it; an empty password would be sent as no password."""
    await command(*verb, empty, status=2)
    assert f"{empty} is empty: " in command.err
    assert FILES[verb] in command.err
    assert "hcall.refused" not in command.err


async def test_raw_sends_empty_data(command, empty):
    """`raw` sends empty data too, because it sends any call, valid or not."""
    words = ("--register", "r4=0x1000", "--segment", f"0x1000:in:@{empty}")
    assert b"H_PKS_GET_OBJECTLABELS" in await command("raw", "GET_OBJECTLABELS", *words, status=1)


@pytest.mark.parametrize(
    "words",
    [
        ("hmc", "restore", "FILE", "--state", "DIR"),
        ("hmc", "chtskey", "-o", "return", "--sealed", "FILE", "--state", "DIR"),
        ("bench", "--password-file", "FILE"),
    ],
    ids=" ".join,
)
def test_an_empty_file_of_other_commands(empty, tmp_path, capsys, words):
    """Other commands refuse an empty file before they look for a server."""
    given = [word.replace("FILE", str(empty)).replace("DIR", str(tmp_path)) for word in words]
    assert main(given) == 2
    assert f": {empty} is empty: " in capsys.readouterr().err
