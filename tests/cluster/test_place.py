"""The words of `--nvram`, without a cluster."""

from __future__ import annotations

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import cluster as rules
from hcall_server.nvram.etcd.place import parse_place


@pytest.mark.parametrize(
    "text, endpoints",
    [
        ("etcd:127.0.0.1:2379", ["http://127.0.0.1:2379"]),
        ("etcd:LocalHost", ["http://localhost:2379"]),
        ("etcd:http://a:1,b:2,HTTP://c/", ["http://a:1", "http://b:2", "http://c:2379"]),
        ("etcd:[::1]:2379", ["http://[::1]:2379"]),
        ("etcd:[::1]", ["http://[::1]:2379"]),
    ],
)
def test_endpoints_become_urls(text: str, endpoints: list[str]) -> None:
    """R-85: an endpoint needs neither a scheme nor a port."""
    assert list(parse_place(text).endpoints) == endpoints


@pytest.mark.parametrize(
    "text",
    [
        *("", "etcd", "etcd:", "etcd:a,", "etcd:,a", "sqlite:a", "etcd:a:0", "etcd:a:65536", "etcd:a:b"),
        *(
            "etcd:ftp://a",
            "etcd:http://a/v3",
            "etcd:http://a?x",
            "etcd:a b",
            "etcd:a:1,a:1",
            "etcd:a:1,A:1",
            "etcd:::1",
        ),
    ],
)
def test_other_words_are_refused(text: str) -> None:
    """R-85: a wrong endpoint is an operator's fault before anything is made."""
    with pytest.raises(OperatorError) as refused:
        parse_place(text)
    assert refused.value.rule is rules.NVRAM_FORM


def test_a_password_in_a_url_is_not_repeated() -> None:
    """R-85: etcd's password is refused, and is not in the message."""
    for text in (
        *("etcd:http://root:canary-1@a:1", "etcd:root:canary-1@a", "x:http://root:canary-1@a"),
        *("etcd:http://u:p/canary@h", "etcd:http://u:x,canary@h", "ETCD:http://u:p/canary@h"),
        *("u:canary@h:2379", "etcd:http://h?token=canary", "etcd:https://u:c#canary@h"),
    ):
        with pytest.raises(OperatorError) as refused:
            parse_place(text)
        assert "canary" not in str(refused.value)


@pytest.mark.parametrize("prefix", ["", "/", "a/", "/a", "a//b", "a b", "ä", "a" * 129, "a\n"])
def test_a_prefix_has_a_form(prefix: str) -> None:
    """R-85: a prefix can't run into the keys of another system."""
    with pytest.raises(OperatorError) as refused:
        parse_place("etcd:a", prefix)
    assert refused.value.rule is rules.NVRAM_PREFIX


@pytest.mark.parametrize(
    "text, files",
    [
        ("etcd:https://a", {}),
        ("etcd:http://a", {"ca": "ca.pem"}),
        ("etcd:http://a,https://b", {"ca": "ca.pem"}),
        ("etcd:a", {"cert": "c.pem", "key": "k.pem"}),
        ("etcd:a", {"ca": "ca.pem", "cert": "c.pem"}),
        ("etcd:a", {"ca": "ca.pem", "key": "k.pem"}),
    ],
)
def test_tls_is_whole(text: str, files: dict[str, str]) -> None:
    """R-85: https needs an authority, and http has no use for one."""
    with pytest.raises(OperatorError) as refused:
        parse_place(text, **files)  # type: ignore[arg-type]
    assert refused.value.rule is rules.NVRAM_TLS


def test_an_authority_makes_https() -> None:
    """R-85: with an authority, endpoints without a scheme are https."""
    place = parse_place("etcd:a,b:1", ca="ca.pem")
    assert place.endpoints == ("https://a:2379", "https://b:1")
    assert not place.unprotected


def test_plain_http_beyond_loopback_is_known() -> None:
    """R-85: a server warns of members that others on the network can imitate."""
    text = "etcd:127.0.0.1,localhost:1,[::1],10.0.0.1,etcd.lab:1"
    assert parse_place(text).unprotected == ("http://10.0.0.1:2379", "http://etcd.lab:1")
