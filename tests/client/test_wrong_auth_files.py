"""`swpks lpar NAME update` with a wrong file or name: the mistake is named before anything is sent."""

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hcall_abi.calls import Opcode
from hcall_abi.statuses import Status
from hcall_client.guests import authvar
from swpks.cli.lpar_files import foreign_form
from swpks.cli.lpar_names import check_name
from swpks.cli.lpar_update import update as run_update
from swpks.cli.lpar_values import UsageError
from swpks.cli.main import main
from tests.secvar.keys import BEFORE, kek, pk
from tests.swpks.test_lpar_advice import told

NO_CHANNEL: Any = None
"""An update that is refused uses no channel."""


def files():
    """Return files of secure-boot tools, each with a part of its name in the error."""
    pkcs7 = authvar.sign(b"x", pk().key, pk().certificate)
    from hcall_client.guests.authvar import _SIGNED_DATA

    at = pkcs7.index(_SIGNED_DATA) + len(_SIGNED_DATA)
    bare = pkcs7[at + 4 :]  # without the tag and the length of [0]
    private = pk().key.private_bytes
    traditional, pkcs8 = PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8
    return {
        pk().certificate.public_bytes(Encoding.PEM): "a certificate in PEM",
        pk().certificate.public_bytes(Encoding.DER): "a certificate in DER",
        private(Encoding.PEM, pkcs8, NoEncryption()): "a private key in PEM",
        private(Encoding.PEM, traditional, NoEncryption()): "a private key in PEM",
        private(Encoding.DER, pkcs8, NoEncryption()): "a private key in DER",
        private(Encoding.DER, traditional, NoEncryption()): "a private key in DER",
        pkcs7: "a bare PKCS#7 signature in DER",
        bare: "a bare PKCS#7 signature in DER",
        b"-----BEGIN PKCS7-----\nMII": "a bare PKCS#7 signature in PEM",
    }


def options(path, variable="db"):
    """Return parsed options of an update."""
    words = {"any_name": False, "flags": None, "policy": None, "wait": False}
    return SimpleNamespace(name="lpar1", variable=variable, auth=path, **words)


def test_a_file_of_another_kind(tmp_path):
    """Each kind of file is named, with the tool that makes the right one; no channel is used."""
    path = tmp_path / "f"
    for data, kind in files().items():
        path.write_bytes(data)
        with pytest.raises(UsageError, match=f"{path} is {kind}.*sign-efi-sig-list") as caught:
            run_update(NO_CHANNEL, options(path))
        assert caught.value.rule.id == "command.auth-file"


def test_right_and_unknown_files_have_no_foreign_form():
    """A payload, an auth file, signature lists and other bytes are none of these kinds."""
    payload = authvar.payload(BEFORE, b"-", pk().lists)
    for data in (payload, authvar.auth_file(payload), kek().lists, b"", b"0", b"\x30\x85aaaaa", bytes(40)):
        assert foreign_form(data) == ""


@pytest.mark.parametrize(
    "variable, expected",
    [
        ("dbb", "'dbb' is no secure-boot variable; did you mean db"),
        ("db (Linux)", "'db (Linux)' is another variable than db"),
        (":utf16:db (Linux)", "write the name alone: db"),
        ("db.auth", "write the name alone: db"),
        ("x.auth", "they are PK, KEK, db, dbx, grubdb, grubdbx, sbat, moduledb, trustedcadb"),
        ("DB", "'DB' is another variable than db"),
        ("db", ""),
        ("mine", ""),
    ],
)
def test_a_name_that_is_probably_wrong(variable, expected):
    """A label, a file name or a misspelt name is refused, with the option that sends the update anyway."""
    if not expected:
        check_name(variable)
        return
    with pytest.raises(UsageError, match="add --any-name: it is signed under the GUID of others") as caught:
        check_name(variable)
    assert expected in caught.value.message


def test_an_update_from_a_terminal(monkeypatch):
    """An update without a file does not wait for a terminal."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(UsageError, match="give it by --auth F, or by a pipe"):
        run_update(NO_CHANNEL, options(None))


@pytest.mark.parametrize("words", [["db.auth"], ["--in", "db.auth"]])
def test_the_option_of_the_file(words, capsys):
    """A file without an option, or at the option of write, leads to --auth."""
    assert main(["lpar", "lpar1", "update", "db", *words]) == 2
    assert "the file of a signed update is given by --auth db.auth" in capsys.readouterr().err


def test_an_update_that_lacks_the_password(tmp_path):
    """A refused update without --password-file has the hint that the other verbs have."""
    found = told("update db", Opcode.SIGNED_UPDATE, Status.H_AUTHORITY, "--state", tmp_path)
    assert "if that is password.fits: if its password is set: --password-file F; if the password is" in found


def test_a_write_over_a_variable(tmp_path):
    """For a secure-boot variable, the advice is `update`, and it warns of the removal."""
    words = "write hex:" + authvar.variable_label("db").hex()
    found = told(words, Opcode.WRITE_OBJECT, Status.H_RESOURCE, "--state", tmp_path)
    assert "db is a secure-boot variable: do not remove it, and change it by" in found
    assert f"`swpks lpar --state {tmp_path} lpar1 update db --auth db.auth`" in found
    other = told("write x", Opcode.WRITE_OBJECT, Status.H_RESOURCE, "--state", tmp_path)
    assert "secure-boot" not in other


@pytest.mark.parametrize(
    "words, expected",
    [
        ("serve s5", "the state folder is given by --state s5"),
        ("serve --partition lpar1 64", "--partition lpar1:64"),
        ("lpar update lpar1 db", "named before the verb: swpks lpar lpar1 update db"),
        ("lpar read lpar1", "named before the verb: swpks lpar lpar1 read"),
    ],
)
def test_a_word_at_a_wrong_place(words, expected, capsys):
    """The right form of the command line is named."""
    assert main(words.split()) == 2
    assert expected in capsys.readouterr().err
