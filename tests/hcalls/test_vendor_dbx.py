"""A dbx as a vendor signs it: KEK has the CA of its signer, and the update needs a large store."""

import pytest

from hcall_abi.rules import hcalls, updates
from tests.guest import Answer
from tests.hcalls.owner import Owner, first_pk
from tests.hcalls.vendor import ca, contents, leaf, vendors
from tests.secvar.keys import pk, update

H_NO_MEM, H_AUTHORITY, H_P7 = -9, -10, -60


def owner(level: str, kbytes: int) -> Owner:
    """A guest whose KEK has the vendor's CA."""
    guest = Owner(level=level, kbytes=kbytes)
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("KEK", update("KEK", ca().lists)) == Answer(0)
    return guest


def test_the_shape_is_that_of_a_vendors_file() -> None:
    """Certificates and files have the sizes that the page gives."""
    assert [1300 < len(each.der) < 1500 for each in (ca(), leaf())] == [True, True]
    assert ca().der in vendors()
    assert leaf().der in vendors()
    # The page prints this number and the next one.
    assert len(contents()) == 21_628
    assert 24_750 < len(vendors()) < 24_850


def test_no_chain_is_looked_at() -> None:
    """R-70: If KEK has only the CA, a file of the CA's signer is refused.

    If KEK also has the signer's certificate, the file is accepted.
    """
    guest = owner("FW1110", 64)
    assert guest.update("dbx", vendors(), flags=1) == Answer(H_AUTHORITY)
    assert guest.refusals[-1].rule is updates.UPDATE_BY_PK_OR_KEK
    added = update("KEK", leaf().lists, append=True)
    assert guest.update("KEK", added, flags=1) == Answer(0)
    assert guest.update("dbx", vendors(), flags=1) == Answer(0)
    assert (guest.stored("dbx") or b"")[8:] == contents()


def test_the_same_contents_signed_again() -> None:
    """R-70: the owner signs the vendor's list, so KEK needs no certificate of the vendor."""
    guest = Owner(level="FW1110", kbytes=64)
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("dbx", update("dbx", contents(), pk(), append=True), flags=1) == Answer(0)
    assert (guest.stored("dbx") or b"")[8:] == contents()


@pytest.mark.parametrize(
    "level,kbytes,status",
    [("FW1030", 24, H_P7), ("FW1030", 25, 0), ("FW1050", 23, H_NO_MEM), ("FW1050", 24, 0), ("FW1110", 24, 0)],
)
def test_the_size_of_the_store(level: str, kbytes: int, status: int) -> None:
    """R-34, R-70: The vendor's dbx needs a store of 24 KiB from FW1050 on.

    On FW1030 the payload itself must also fit into the store, so there it needs 25 KiB.
    """
    guest = Owner(level=level, kbytes=kbytes)
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("KEK", update("KEK", leaf().lists)) == Answer(0)
    assert guest.update("dbx", vendors(), flags=1) == Answer(status)
    if status == H_P7:
        assert guest.refusals[-1].rule is hcalls.UPDATE_LENGTH
    assert (guest.stored("dbx") is not None) == (status == 0)


@pytest.mark.parametrize("level", ["FW1030", "FW1050"])
def test_the_authority_in_kek_costs_a_kibibyte(level: str) -> None:
    """R-34: With both certificates in KEK, the vendor's file does not fit in 24 KiB. It fits in 25 KiB."""
    for kbytes, taken in ((24, False), (25, True)):
        guest = owner(level, kbytes)
        assert guest.update("KEK", update("KEK", leaf().lists, append=True), flags=1) == Answer(0)
        assert (guest.update("dbx", vendors(), flags=1) == Answer(0)) is taken


@pytest.mark.parametrize("level", ["FW1030", "FW1050"])
def test_signed_again_it_needs_less(level: str) -> None:
    """R-70: without the vendor's certificates the payload fits in 24 KiB on FW1030 too."""
    guest = Owner(level=level, kbytes=24)
    assert guest.update("PK", first_pk()) == Answer(0)
    # The page's table of sizes assumes this KEK.
    assert guest.update("KEK", update("KEK", leaf().lists)) == Answer(0)
    again = update("dbx", contents(), pk(), append=True)
    assert guest.update("dbx", again, flags=1) == Answer(0)
