"""TLS to etcd: the operator's files, and a real member that demands a certificate of its clients."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import cluster as rules
from hcall_abi.rules import service
from hcall_abi.rules.storage import NVRAM_REACHED
from hcall_client.control_transport import TlsFiles
from hcall_server.nvram import NvramError
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.nvram.etcd.place import EtcdTls, parse_place
from hcall_server.nvram.etcd.taking import Taking
from hcall_server.nvram.etcd.tls import client_context
from hcall_server.nvram.mark import MemoryMark
from tests.certificates import Authority
from tests.debian.reporting import needed
from tests.nvram.etcd_members import free_ports

HOST = "127.0.0.1"
Files = TlsFiles | EtcdTls | None


class Site:
    """A member that demands certificates, its address, its authority, and a client certificate."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.own = self.authority.client()
        self.port, peer_port = free_ports(2)
        member = self.authority.files("member", HOST)
        url, peer = f"https://{HOST}:{self.port}", f"http://{HOST}:{peer_port}"
        etcd = needed("etcd", shutil.which("etcd"))
        command = [etcd, "--name", "n1", "--data-dir", str(folder / "n1"), "--listen-client-urls", url]
        command += ["--advertise-client-urls", url, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"n1={peer}"]
        command += ["--cert-file", str(member.cert), "--key-file", str(member.key), "--client-cert-auth"]
        command += ["--trusted-ca-file", str(member.ca), "--logger", "zap", "--log-level", "error"]
        command += ["--heartbeat-interval", "50", "--election-timeout", "500"]
        with (folder / "n1.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def ready(self) -> None:
        """Wait until the member is healthy."""
        context = client_context(EtcdTls(self.own.ca, self.own.cert, self.own.key))
        until = time.monotonic() + 20
        with httpx.Client(verify=context, trust_env=False, timeout=1) as client:
            while time.monotonic() < until:
                with suppress(httpx.HTTPError, ValueError):
                    if client.get(f"https://{HOST}:{self.port}/health").json()["health"] == "true":
                        return
                time.sleep(0.02)
        raise AssertionError("the member is not healthy")

    def take(self, files: Files, scheme: str = "https", host: str = HOST) -> EtcdNvram:
        """Become the owner of records at the member, as a server with these files does."""
        ca, cert, key = (_word(files.ca), _word(files.cert), _word(files.key)) if files else (None,) * 3
        place = parse_place(f"etcd:{scheme}://{host}:{self.port}", ca=ca, cert=cert, key=key)
        taking = Taking(place, MemoryMark(), lambda _: None)
        try:
            nvram = taking.attempt()
        finally:
            taking.close()
        assert nvram is not None
        return nvram

    def refusal(self, files: Files, scheme: str = "https", host: str = HOST) -> str:
        """Return the message for a start with these files; the rule is that of a member without an answer."""
        with pytest.raises(NvramError) as raised:
            self.take(files, scheme, host)
        assert raised.value.rule is NVRAM_REACHED
        return raised.value.message


def _word(path: Path | None) -> str | None:
    return str(path) if path else None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("tls"))
    try:
        made.ready()
        yield made
    finally:
        made.process.kill()
        made.process.wait()


@pytest.mark.process
def test_a_member_that_demands_a_certificate(site: Site) -> None:
    """R-85: a server with a certificate of the members' authority owns its records there."""
    nvram = site.take(site.own)
    nvram.commit({"system": b"sealed"})
    nvram.close()
    again = site.take(site.own)
    assert again.load() == {"system": b"sealed"}
    again.close()


@pytest.mark.process
def test_a_member_refuses_other_clients(site: Site, tmp_path: Path) -> None:
    """R-85: without a certificate, and with one of another authority; the message has the option."""
    alien = Authority(tmp_path, "alien").client()
    for files in (EtcdTls(site.own.ca), EtcdTls(site.own.ca, alien.cert, alien.key)):
        message = site.refusal(files)
        assert "it refuses this server" in message
        assert "--nvram-tls-cert" in message


@pytest.mark.process
def test_a_server_refuses_other_members(site: Site, tmp_path: Path) -> None:
    """R-85: a member whose certificate another authority has signed is refused before any request."""
    other = EtcdTls(Authority(tmp_path, "other").file, site.own.cert, site.own.key)
    message = site.refusal(other)
    assert "its certificate is refused" in message
    assert "--nvram-tls-ca" in message


@pytest.mark.process
def test_http_to_a_member_with_https(site: Site) -> None:
    """R-85: the message asks whether the member serves https."""
    assert "does this member serve https?" in site.refusal(None, "http")


def test_https_to_a_member_with_http(tmp_path: Path) -> None:
    """R-85: the message says that the member speaks no TLS."""
    own = Authority(tmp_path).client()
    with _plain() as port:
        place = parse_place(f"etcd:{HOST}:{port}", ca=str(own.ca), cert=str(own.cert), key=str(own.key))
        taking = Taking(place, MemoryMark(), lambda _: None)
        with pytest.raises(NvramError, match="no TLS: this member serves http"):
            taking.attempt()
        taking.close()


@pytest.mark.process
def test_a_member_with_another_name(site: Site) -> None:
    """R-85: a genuine certificate of another host is refused."""
    message = site.refusal(site.own, host="localhost")
    assert "its certificate is refused" in message
    assert "mismatch" in message


@contextmanager
def _plain() -> Iterator[int]:
    """Serve one client without TLS, as a member with http does: it ends the connection."""
    with socket.create_server((HOST, 0)) as listener:

        def end() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)

        thread = threading.Thread(target=end)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def _passphrase(files: EtcdTls, authority: Authority) -> EtcdTls:
    locked = authority.files("locked", passphrase=b"abcd")
    return files._replace(cert=locked.cert, key=locked.key)


def _no_key(files: EtcdTls, _: Authority) -> EtcdTls:
    return files._replace(key=files.ca.with_name("none.key"))


def _another_key(files: EtcdTls, authority: Authority) -> EtcdTls:
    return files._replace(key=authority.files("another").key)


def _ca_is_a_key(files: EtcdTls, _: Authority) -> EtcdTls:
    assert files.key
    return files._replace(ca=files.key)


def _a_folder(files: EtcdTls, _: Authority) -> EtcdTls:
    return files._replace(ca=files.ca.parent)


def _a_pipe(files: EtcdTls, _: Authority) -> EtcdTls:
    pipe = files.ca.with_name("pipe")
    os.mkfifo(pipe)
    return files._replace(ca=pipe)


@pytest.mark.parametrize(
    "broken, named, reason",
    [
        (_passphrase, "locked.key", "the key is encrypted"),
        (_no_key, "none.key", "No such file"),
        (_another_key, "another.key", "key values mismatch"),
        (_ca_is_a_key, "client.key", "no certificate"),
        (_a_folder, "", "is not a plain file"),
        (_a_pipe, "pipe", "is not a plain file"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, broken: Callable[[EtcdTls, Authority], EtcdTls], named: str, reason: str
) -> None:
    """R-85: the message has the file and the reason; nothing asks at the terminal, and no pipe is awaited."""
    authority = Authority(tmp_path)
    own = authority.client()
    with pytest.raises(OperatorError, match=reason) as raised:
        client_context(broken(EtcdTls(own.ca, own.cert, own.key), authority))
    assert raised.value.rule is rules.NVRAM_TLS
    assert named in raised.value.message


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    """R-85: a key that other users can read is refused, as that of the control channel."""
    own = Authority(tmp_path).client()
    own.key.chmod(0o640)
    with pytest.raises(OperatorError, match="set it to 0600") as raised:
        client_context(EtcdTls(own.ca, own.cert, own.key))
    assert raised.value.rule is service.TLS_KEY_PRIVATE


def test_an_empty_name_does_not_mean_http() -> None:
    """R-85: `--nvram-tls-ca "$CA"` without a value is refused."""
    with pytest.raises(OperatorError, match="empty name") as raised:
        parse_place("etcd:127.0.0.1", ca="")
    assert raised.value.rule is rules.NVRAM_TLS
