"""The state that only a running keystore has, such as passwords and open lists.

The stored image does not contain this state. A live migration is no IPL, so it moves the state too.
"""

from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.levels import FW1110
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.image import StoredObject
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.store import Keystore
from hcall_server.keystore.tokens import MAX_OPEN
from hcall_server.keystore.used import Listing, Password, Placed, UsedState
from tests.guest import Chance

LIMITS = limits_of(FW1110, 16)
TRANSIENT = 0x0200_0000
OS = Consumer.OPERATING_SYSTEM


def made() -> Keystore:
    return Keystore(LIMITS, Chance())


def moved(source: Keystore) -> Keystore:
    """Return the keystore at the target, made from the source's image and its other state."""
    target = Keystore(LIMITS, Chance(b"target"), source.contents.snapshot())
    target.take_used(source.used_state())
    return target


def order(keystore: Keystore) -> list[list[bytes]]:
    return [keystore.contents.labels(consumer) for consumer in Consumer]


def test_passwords_objects_and_lists_go_on() -> None:
    """R-51: after a move, the target gives the same answers as the source would."""
    source = made()
    password = source.generate_password(OS, 32)
    who = Credentials(OS, password)
    for label, policy in (b"a", 0), (b"b", TRANSIENT), (b"c", 0), (b"d", TRANSIENT):
        source.objects.write(who, label, policy, b"data of " + label)
    token = source.listings.keep(OS, 0, [b"c", b"d"])
    target = moved(source)
    assert order(target) == order(source) == [[], [], [b"a", b"b", b"c", b"d"]]
    assert target.objects.read(who, b"b").data == b"data of b"
    assert target.objects.labels(who, token) == (b"c", b"d")
    assert (OS, token) in target.listings
    assert target.contents.used == source.contents.used
    assert target.contents.generation == source.contents.generation
    assert target.used_state() == source.used_state()
    assert moved(target).used_state() == source.used_state()


def test_an_ipl_at_the_target_ends_them() -> None:
    """R-04, R-14: an IPL at the target ends the moved state, as at the source."""
    source = made()
    source.generate_password(OS, 32)
    source.contents.put((OS, b"b"), TRANSIENT, b"data")
    source.listings.keep(OS, 0, [b"b"])
    target = moved(source)
    target.ipl(SecureBoot.OFF)
    assert target.used_state() == UsedState()
    assert target.contents.used == 0


def test_objects_of_the_hypervisor_take_no_space_there_either() -> None:
    """R-12: an object of the hypervisor is at the target without an IPL, and uses no space."""
    source = made()
    source.contents.provide(Consumer.FIRMWARE, b"SB_VERSION", 0, b"\1")
    source.contents.put((Consumer.FIRMWARE, b"after"), 0, b"data")
    target = moved(source)
    assert order(target) == order(source)
    assert (target.contents.used, target.contents.object_count) == (source.contents.used, 1)


def test_wrapping_keys_that_end_with_the_ipl_are_found_by_their_ids() -> None:
    """R-16, R-51: a TRANSIENT wrapping key unwraps at the target."""
    source = made()
    source.contents.put((OS, b"key"), TRANSIENT | 0x0080_0000, bytes(32))
    key_id = source.contents.key_ids.id_of(OS, b"key")
    assert moved(source).contents.key_ids.label_of(OS, key_id) == b"key"


def test_no_more_lists_than_before() -> None:
    """R-75: the target has the same open lists, and no more than the limit."""
    source = made()
    for _ in range(MAX_OPEN + 3):
        source.listings.keep(OS, 0, [b"label"])
    assert moved(source).used_state().listings == source.used_state().listings
    assert len(source.used_state().listings) == MAX_OPEN


@given(st.lists(st.tuples(st.sampled_from(Consumer), st.binary(max_size=2), st.sampled_from([0, TRANSIENT]))))
def test_objects_keep_their_order(written: list[tuple[Consumer, bytes, int]]) -> None:
    """R-03, R-51: at the target too, a list of labels begins with the oldest object of any kind."""
    source = made()
    for consumer, label, policy in written:
        if source.contents.find((consumer, label)) is None:
            source.contents.put((consumer, label), policy, b"data")
        else:
            source.contents.remove((consumer, label))
    target = moved(source)
    assert order(target) == order(source)
    assert target.contents.snapshot() == source.contents.snapshot()
    assert target.contents.used == source.contents.used


def test_nothing_of_it_shows() -> None:
    """R-02: the text of the moved state has no password, data or label."""
    state = UsedState(
        (Password(3, b"CANARY-password"),),
        (Placed(0, StoredObject(3, b"label", TRANSIENT, b"CANARY-data")),),
        (Listing(7, 3, (b"CANARY-label",)),),
    )
    text = f"{state!r} {state.passwords!r} {state.objects!r} {state.listings!r} {made().used_state()}"
    assert "CANARY" not in text
