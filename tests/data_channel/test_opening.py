"""HELLO and OPEN: the server's first frame, and the checks of access (spec/protocol.md#open)."""

import pytest
import trio

from hcall_abi.codec import encode
from hcall_abi.frames import Goodbye, Hello, Open, Opened, OpenStatus
from hcall_abi.proof import NO_PROOF, client_proof, server_proof
from hcall_server.machine.limits import Limits
from tests.data_channel.support import KEY, Peer, Service, make_machine, read, write


async def prove(peer: Peer, partition: int, key: bytes = KEY) -> Opened:
    """Return OPEN with a proof; the nonce of the client is 32 zeros."""
    peer.hello = await peer.expect(Hello)
    return await peer.open(partition, 1, client_proof(key, peer.hello.nonce, bytes(32), partition))


async def test_hello_comes_at_once(service: Service) -> None:
    """The server sends first: its version, its limit, and a new nonce for each connection."""
    hellos = [await service.connect().expect(Hello) for _ in range(2)]
    assert {(h.lowest, h.highest, h.max_body, h.features) for h in hellos} == {(1, 1, 256 * 1024, 0)}
    assert len({h.nonce for h in hellos}) == 2
    assert hellos[0].name.startswith("swpks ")


@pytest.mark.parametrize("number", [0, 1])
async def test_a_private_listener_serves_its_partition(service: Service, number: int) -> None:
    """R-01: A private listener accepts an OPEN with id 0 or with its partition's own number."""
    opened = await service.connect("alpha").open(number)
    assert opened == (7, 0, 1, 1, NO_PROOF, "FW1110")


@pytest.mark.parametrize("number", [2, 3, 0xFFFF])
async def test_a_private_listener_serves_no_other(service: Service, number: int) -> None:
    """R-01: the socket is the identity, so beta can't be opened through alpha's."""
    peer = service.connect("alpha")
    assert (await peer.open(number)).status == OpenStatus.NO_SUCH_PARTITION
    assert await peer.event() is None


async def test_a_proof_opens_a_common_listener(service: Service) -> None:
    """On a listener of all partitions, client and server each prove that they have the key."""
    peer = service.connect(None, demand_proof=True)
    opened = await prove(peer, 2)
    assert opened.status == 0
    assert opened.partition == 2
    assert peer.hello is not None
    assert opened.proof == server_proof(KEY, peer.hello.nonce, bytes(32), 2)
    await peer.call(write(b"object"))


async def test_id_0_on_a_common_listener_means_the_only_partition(nursery: trio.Nursery) -> None:
    """With one partition, id 0 means this partition. The proofs of both ends then cover the 0."""
    service = await Service.start(nursery, make_machine("solo"))
    peer = service.connect(None, demand_proof=True)
    opened = await prove(peer, 0)
    assert peer.hello is not None
    assert (opened.status, opened.partition) == (0, 1)
    assert opened.proof == server_proof(KEY, peer.hello.nonce, bytes(32), 0)


async def test_id_0_is_nobody_among_several(service: Service) -> None:
    """With several partitions, id 0 names none of them."""
    peer = service.connect(None, demand_proof=True)
    assert (await prove(peer, 0)).status == OpenStatus.NO_SUCH_PARTITION


async def test_no_proof_is_refused_where_one_is_demanded(service: Service) -> None:
    """R-01: A listener that other hosts can reach refuses an OPEN without a proof."""
    peer = service.connect(None, demand_proof=True)
    opened = await peer.open(1)
    assert (opened.status, opened.proof) == (OpenStatus.NOT_AUTHORISED, NO_PROOF)
    assert await peer.event() is None


@pytest.mark.parametrize("demand_proof", [True, False])
async def test_a_wrong_proof_is_refused_everywhere(service: Service, demand_proof: bool) -> None:
    """R-01: A wrong proof is refused also on a private socket, which demands none."""
    peer = service.connect("alpha", demand_proof=demand_proof)
    assert (await prove(peer, 1, key=bytes(32))).status == OpenStatus.NOT_AUTHORISED
    assert await peer.event() is None


async def test_a_proof_for_another_partition_or_connection_is_refused(service: Service) -> None:
    """A recorded proof opens nothing else, because it covers the partition and both nonces."""
    first, second = (service.connect(None, demand_proof=True) for _ in range(2))
    first.hello, second.hello = await first.expect(Hello), await second.expect(Hello)
    proof = client_proof(KEY, first.hello.nonce, bytes(32), 1)
    assert (await first.open(2, 1, proof)).status == OpenStatus.NOT_AUTHORISED
    assert (await second.open(1, 1, proof)).status == OpenStatus.NOT_AUTHORISED


async def test_without_an_access_key_no_proof_is_right(service: Service) -> None:
    """A partition without a key can't be opened with an HMAC under the empty key."""
    service.machine.system.find("alpha").set_access_key(b"")
    peer = service.connect(None, demand_proof=True)
    assert (await prove(peer, 1, key=b"")).status == OpenStatus.NOT_AUTHORISED


async def test_a_powered_off_partition_is_not_opened(service: Service) -> None:
    """A partition that is off gives status 3. A client with a wrong proof does not learn that."""
    service.machine.power_off("alpha")
    assert (await service.connect("alpha").open()).status == OpenStatus.NOT_ACTIVATED
    stranger = service.connect(None, demand_proof=True)
    assert (await prove(stranger, 1, key=bytes(32))).status == OpenStatus.NOT_AUTHORISED


@pytest.mark.parametrize("version", [0, 2, 255])
async def test_another_version_is_refused(service: Service, version: int) -> None:
    """An OPEN of another version gets an answer: all versions have magic, version and length in one place."""
    peer = service.connect()
    await peer.expect(Hello)
    frame = bytearray(peer.session.send(Open(9, 1, 0, bytes(32), NO_PROOF, "future")))
    frame[4] = version
    await peer.stream.send_all(bytes(frame))
    opened = await peer.expect(Opened)
    assert (opened.tag, opened.status) == (9, OpenStatus.VERSION_NOT_SUPPORTED)
    assert await peer.event() is None


async def test_a_partition_has_so_many_sessions(nursery: trio.Nursery) -> None:
    """R-01: One session too many gets status 5. A session that ends frees a place.

    Other partitions are not affected.
    """
    service = await Service.start(nursery, make_machine("alpha", "beta", limits=Limits(max_sessions=2)))
    first = await service.session()
    await service.session()
    assert (await service.connect().open()).status == OpenStatus.TOO_MANY_SESSIONS
    await service.session("beta")
    await first.send(Goodbye(0, "done"))
    assert await first.event() is None
    await trio.testing.wait_all_tasks_blocked()
    await service.session()
    assert service.machine.counters.opens[OpenStatus.TOO_MANY_SESSIONS] == 1


async def test_open_and_calls_may_come_in_one_piece(service: Service) -> None:
    """A client can send its first calls before OPENED."""
    peer = service.connect()
    await peer.expect(Hello)
    opening = peer.session.send(Open(1, 0, 0, bytes(32), NO_PROOF, ""))
    await peer.stream.send_all(opening + encode(write(b"early").frame(5)))
    assert (await peer.expect(Opened)).status == 0
    other = await service.session()
    assert (await other.call(read(b"early"))).data == b"x"
