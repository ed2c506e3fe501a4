"""spec/secure-boot-variables.md, "A vendor's dbx": its program and commands work as the page says."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from hcall_abi.efi import parse_update
from hcall_client.guests import authvar
from tests.client.test_lpar_command import serving
from tests.client.test_lpar_update import ARMED, contents, first_pk
from tests.hcalls.vendor import CA, SIGNER, ca, leaf, vendors
from tests.hcalls.vendor import contents as digests
from tests.secvar import der
from tests.secvar.keys import kek, of_form, pk, update

PAGE = Path(__file__).resolve().parents[2] / "spec" / "secure-boot-variables.md"
SECTION = PAGE.read_text("utf-8").partition("\n## A vendor's dbx\n")[2].partition("\n## ")[0]
PROGRAM = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
COMMANDS = re.findall(r"^    swpks lpar lpar1 (.*)$", SECTION, re.MULTILINE)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Return the files that the page's program made in the folder of the test."""
    pk().files(tmp_path)
    (tmp_path / "key.pem").rename(tmp_path / "PK.key")
    (tmp_path / "certificate.pem").rename(tmp_path / "PK.crt")
    (tmp_path / "vendor.bin").write_bytes(vendors())
    monkeypatch.chdir(tmp_path)
    (program,) = PROGRAM
    with redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    assert printed.getvalue() == f"the signer is CN={SIGNER}\n"
    return tmp_path


@pytest.mark.parametrize("way", [COMMANDS[:2], COMMANDS[2:]], ids=["leaf into KEK", "signed again"])
async def test_the_ways_of_the_page(made, tmp_path, capsysbinary, monkeypatch, way):
    """R-70: while KEK has only the CA's certificate, the file is refused.

    After the commands dbx has the digests.
    """
    assert [words.split()[1] for words in COMMANDS] == ["KEK", "dbx", "dbx"]
    async with serving(tmp_path, capsysbinary, monkeypatch, attributes=ARMED) as command:
        await command("update", "PK", data=authvar.auth_file(first_pk()))
        await command("update", "KEK", data=authvar.auth_file(update("KEK", ca().lists)))
        await command("update", "dbx", "--auth", "dbx.auth", status=1)
        assert "rule authority.update" in command.err
        for words in way:
            await command(*shlex.split(words))
        assert await contents(command, "dbx") == digests()
        assert (leaf().der in await contents(command, "KEK")) is (len(way) == 2)


def test_the_certificates_of_a_payload():
    """R-70: `certificates_in` finds the certificates in ContentInfo and in bare SignedData.

    It raises ValueError if there are none, or if the bytes are noise.
    """
    time, pkcs7, _ = parse_update(vendors())
    bare = der.parts(der.parts(pkcs7)[1])[0]
    for form in (pkcs7, bare):
        found = authvar.certificates_in(authvar.payload(time, form, b""))
        assert {each.subject.rfc4514_string() for each in found} == {f"CN={CA}", f"CN={SIGNER}"}
    assert authvar.certificates_in(update("db", b"")) == [pk().certificate]
    for bad in (b"", bytes(50), authvar.payload(time, b"noise", b""), of_form("db", b"", kek())):
        with pytest.raises(ValueError, match=r"certificate|header"):
            authvar.certificates_in(bad)
