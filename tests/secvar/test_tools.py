"""Signed updates that public tools make, accepted or refused by the rules.

The tools are openssl (cms and smime), efitools' sign-efi-sig-list and cert-to-efi-sig-list, sbsigntools'
sbvarsign. A missing tool fails its test: `tools/debian-packages test` installs them.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from hcall_abi.efi import EfiTime, StoredVariable, build_lists, build_stored, parse_lists, parse_update
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.variables import POLICIES
from hcall_client.guests import authvar
from hcall_server.secvar.update import Delete, Refused, Replace, doubts_of
from tests.secvar.judge import judge, stored
from tests.secvar.keys import BEFORE, NOW, Holder, contents_of, holder, kek, pk, stranger

DATABASES = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
OTHERS = [name for name in POLICIES if name not in ("PK", "KEK")]
CONTENTS = b"new contents"


def run(folder: Path, *words: str) -> None:
    """Run a tool, which must exist and succeed."""
    assert shutil.which(words[0]), f"{words[0]} is missing: tools/debian-packages test"
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def openssl(
    folder: Path, signer: Holder, *words: str, name: str = "db", append: bool = False, digest: str = "sha256"
) -> bytes:
    """Return a payload that openssl signed."""
    key, certificate = signer.files(folder)
    (folder / "data").write_bytes(authvar.to_sign(name, CONTENTS, NOW, append=append))
    how = ["-sign", "-binary", "-md", digest, "-inkey", key, "-signer", certificate]
    run(folder, "openssl", *words, *how, "-in", "data", "-outform", "DER", "-out", "pkcs7")
    return authvar.payload(NOW, (folder / "pkcs7").read_bytes(), CONTENTS)


WAYS = {
    "cms": ("cms",),
    "cms without attributes": ("cms", "-noattr"),
    "cms by key identifier": ("cms", "-keyid"),
    "cms without certificates": ("cms", "-nocerts", "-noattr"),
    "cms without capabilities": ("cms", "-nosmimecap"),
    "smime": ("smime",),
    "smime without attributes": ("smime", "-noattr"),
    "smime without certificates": ("smime", "-nocerts"),
    "smime as a stream": ("smime", "-stream"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("append", [False, True])
def test_openssl(tmp_path: Path, way: str, append: bool) -> None:
    """R-70: signatures of openssl by PK or KEK are accepted in several forms, those of a stranger are not."""
    expected = build_stored(StoredVariable(NOW, CONTENTS))
    for signer in (pk(), kek()):
        payload = openssl(tmp_path, signer, *WAYS[way], append=append)
        assert stored("db", payload, append=append) == expected
        doubts = "".join(doubts_of(payload))
        assert ("signed attributes" in doubts, "key identifier" in doubts) == (
            "-noattr" not in WAYS[way], "-keyid" in WAYS[way]
        )  # fmt: skip
        assert isinstance(judge("db", payload, append=append, strict=True), Refused) == bool(doubts)
    decision = judge("db", openssl(tmp_path, stranger(), *WAYS[way], append=append), append=append)
    assert isinstance(decision, Refused)
    assert decision.rule is rules.UPDATE_BY_PK_OR_KEK


def test_openssl_with_a_long_key(tmp_path: Path) -> None:
    """R-70: an RSA-4096 key works as PK."""
    big = holder("big", 4096)
    assert stored("db", openssl(tmp_path, big, "cms", "-noattr"), platform_key=big.variable)


def test_openssl_with_other_certificates(tmp_path: Path) -> None:
    """R-70: further certificates in a chain are ignored. That of a stranger does not help."""
    (tmp_path / "other").mkdir()
    _, other = kek().files(tmp_path / "other")
    for way in ("cms", "smime"):
        assert stored("db", openssl(tmp_path, pk(), way, "-certfile", other))
        decision = judge("db", openssl(tmp_path, stranger(), way, "-certfile", other))
        assert isinstance(decision, Refused)


@pytest.mark.parametrize(
    "words,digest,rule",
    [
        (("cms",), "sha512", rules.UPDATE_PKCS7_DIGEST),
        (("cms", "-noattr"), "sha1", rules.UPDATE_PKCS7_DIGEST),
    ],
)
def test_openssl_otherwise(tmp_path: Path, words: tuple[str, ...], digest: str, rule: Rule) -> None:
    """R-70: a signature with another digest is refused."""
    decision = judge("db", openssl(tmp_path, pk(), *words, digest=digest))
    assert isinstance(decision, Refused)
    assert decision.rule is rule


@pytest.mark.parametrize("way", [("cms",), ("cms", "-noattr"), ("smime", "-noattr")])
def test_openssl_with_content(tmp_path: Path, way: tuple[str, ...]) -> None:
    """R-70: a SignedData may contain the signed bytes.

    If these bytes have another time than the update, the update is refused.
    """
    whole = openssl(tmp_path, pk(), *way, "-nodetach")
    assert authvar.to_sign("db", CONTENTS, NOW) in parse_update(whole).pkcs7
    assert stored("db", whole) == build_stored(StoredVariable(NOW, CONTENTS))
    decision = judge("db", authvar.payload(BEFORE, parse_update(whole).pkcs7, CONTENTS))
    assert isinstance(decision, Refused)
    assert decision.rule is rules.UPDATE_PKCS7_CONTENT


def test_openssl_with_a_key_for_pss(tmp_path: Path) -> None:
    """R-70: a real certificate with an id-RSASSA-PSS key is refused as PK."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048", "-nodes"]
    run(tmp_path, *words, "-subj", "/CN=pss", "-keyout", "key", "-outform", "DER", "-out", "certificate")
    lists = authvar.certificate_lists([(tmp_path / "certificate").read_bytes()])
    decision = judge("PK", authvar.payload(NOW, b"-", lists), unverified=True)
    assert isinstance(decision, Refused)
    assert decision.rule is rules.UPDATE_PK_CONTENTS


def test_openssl_with_another_padding(tmp_path: Path) -> None:
    """R-70: an RSASSA-PSS signature is refused."""
    key, certificate = pk().files(tmp_path)
    (tmp_path / "data").write_bytes(authvar.to_sign("db", CONTENTS, NOW))
    words = ["openssl", "cms", "-sign", "-binary", "-md", "sha256", "-signer", certificate, "-inkey", key]
    padded = ["-keyopt", "rsa_padding_mode:pss", "-in", "data", "-outform", "DER", "-out", "pkcs7"]
    run(tmp_path, *words, *padded)
    decision = judge("db", authvar.payload(NOW, (tmp_path / "pkcs7").read_bytes(), CONTENTS))
    assert isinstance(decision, Refused)
    assert decision.rule is rules.UPDATE_PKCS7_SIGNATURE


def test_openssl_with_two_signers(tmp_path: Path) -> None:
    """R-70: if two signers have signed, one trusted signer is enough."""
    (tmp_path / "other").mkdir()
    key, certificate = stranger().files(tmp_path / "other")
    payload = openssl(tmp_path, pk(), "cms", "-noattr", "-signer", certificate, "-inkey", key)
    assert stored("db", payload)
    assert isinstance(judge("db", payload, platform_key=None), Refused)


def efitools(folder: Path, signer: Holder, name: str, lists: bytes, *words: str) -> bytes:
    """Return a payload that sign-efi-sig-list made."""
    key, certificate = signer.files(folder)
    (folder / "lists").write_bytes(lists)
    vendor = ["-g", DATABASES] if name in OTHERS else []
    moment = "{}-{}-{} {:02}:{:02}:{:02}".format(*NOW)
    command = ["sign-efi-sig-list", "-t", moment, "-c", certificate, "-k", key, *vendor, *words]
    run(folder, *command, name, "lists", "payload")
    return (folder / "payload").read_bytes()


@pytest.mark.parametrize("name", POLICIES)
def test_efitools(tmp_path: Path, name: str) -> None:
    """R-70: a SignedData without ContentInfo and attributes is accepted for all nine variables."""
    lists = contents_of(name)
    payload = efitools(tmp_path, pk(), name, lists)
    assert parse_update(payload).time == NOW
    assert authvar.form_of(payload) is authvar.FileForm.PAYLOAD
    assert authvar.form_of(authvar.auth_file(payload)) is authvar.FileForm.AUTH_FILE
    assert stored(name, payload, strict=True) == build_stored(StoredVariable(NOW, lists))
    assert doubts_of(payload) == ()
    refused = judge(name, efitools(tmp_path, stranger(), name, lists))
    assert isinstance(refused, Refused)
    late = judge(name, payload, stored=build_stored(StoredVariable(NOW, b"")))
    assert isinstance(late, Refused)
    assert late.rule is rules.UPDATE_TIME_LATER


def test_efitools_appends(tmp_path: Path) -> None:
    """R-70: the attribute for an append is part of the signed bytes."""
    payload = efitools(tmp_path, kek(), "dbx", stranger().lists, "-a")
    before = build_stored(StoredVariable(BEFORE, kek().lists))
    both = build_lists(parse_lists(kek().lists + stranger().lists, rules.UPDATE_APPEND_LISTS))
    got = stored("dbx", payload, append=True, stored=before)[8:]
    assert got == both
    assert isinstance(judge("dbx", payload), Refused)


def test_efitools_deletes(tmp_path: Path) -> None:
    """R-70: an update without lists, signed by the signer in PK, deletes the variable."""
    assert judge("db", efitools(tmp_path, pk(), "db", b"")) == Delete()


def test_efitools_makes_lists(tmp_path: Path) -> None:
    """R-70: cert-to-efi-sig-list makes the same bytes as our code, and they are accepted as PK."""
    _, certificate = pk().files(tmp_path)
    owner = "11111111-2222-3333-4444-123456789abc"
    run(tmp_path, "cert-to-efi-sig-list", "-g", owner, certificate, "made")
    made = (tmp_path / "made").read_bytes()
    assert made == authvar.certificate_lists([pk().der], bytes.fromhex("11111111222233334444123456789abc"))
    payload = efitools(tmp_path, pk(), "PK", made)
    assert isinstance(judge("PK", payload, stored=pk().variable), Replace)


@pytest.mark.parametrize("name", ["PK", "KEK", "db", "grubdb"])
def test_sbsigntools(tmp_path: Path, name: str) -> None:
    """R-70: a SignedData of sbvarsign with signed attributes is accepted, with the time when it was made."""
    key, certificate = pk().files(tmp_path)
    (tmp_path / "lists").write_bytes(kek().lists)
    attributes = "NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS"
    vendor = ["--guid", DATABASES] if name in OTHERS else []
    command = ["sbvarsign", "--key", key, "--cert", certificate, "--attr", attributes, *vendor]
    run(tmp_path, *command, "--output", "payload", name, "lists")
    payload = (tmp_path / "payload").read_bytes()
    assert parse_update(payload).time > EfiTime(2000, 1, 1)
    assert stored(name, payload)[8:] == kek().lists
    assert doubts_of(payload) == ("a signature is over signed attributes",)
    refused = judge(name, payload, platform_key=stranger().variable)
    assert isinstance(refused, Refused)
    assert refused.rule.status == -10


def test_our_own_signer_agrees_with_openssl(tmp_path: Path) -> None:
    """R-70: `openssl cms -verify` accepts the output of `authvar.sign`."""
    _, certificate = pk().files(tmp_path)
    data = authvar.to_sign("db", CONTENTS, NOW)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "pkcs7").write_bytes(authvar.sign(data, pk().key, pk().certificate))
    run(
        tmp_path,
        *("openssl", "cms", "-verify", "-binary", "-noverify", "-inform", "DER", "-in", "pkcs7"),
        *("-content", "data", "-certfile", certificate, "-out", "verified"),
    )
    assert (tmp_path / "verified").read_bytes() == data
