"""GET_OBJECTLABELS: whole lists, lists in parts, tokens, and lists whose objects change between two calls."""

from itertools import pairwise

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_server.keystore.tokens import MAX_OPEN
from tests.guest import CONSUMERS, FIRMWARE, SYSTEM, Answer, Guest, make_partition, parse_labels

H_CONTINUE, H_P2, H_P4, H_AUTHORITY = 18, -55, -57, -10
TEN = [b"label %d" % n for n in range(10)]
ENTRY = 2 + len(TEN[0])


def filled(labels: list[bytes] = TEN, consumer: int = SYSTEM) -> Guest:
    guest = Guest(make_partition())
    for label in labels:
        assert guest.write(consumer, label, b"x") == Answer(0)
    return guest


def test_an_empty_list_needs_no_buffer() -> None:
    """R-03: For an empty list, no bytes are written, and count and token are 0."""
    for room in (0, 1, 4096):
        assert Guest(make_partition()).labels(SYSTEM, room=room) == Answer(0, 0, 0)


def test_a_list_that_fits_comes_whole() -> None:
    """An entry is a 16-bit length and the label, without gaps. The buffer may be exactly full."""
    status, count, token, listed = filled().labels(SYSTEM, room=10 * ENTRY)
    assert (status, count, token) == (0, 10, 0)
    assert listed == b"".join(b"\0\7" + label for label in TEN)


@pytest.mark.parametrize("room", [ENTRY, ENTRY + 1, 2 * ENTRY - 1, 3 * ENTRY, 10 * ENTRY - 1])
def test_a_list_in_parts_is_whole(room: int) -> None:
    """H_CONTINUE returns at least one whole entry and a token. All parts give each label once."""
    guest = filled()
    token, found = 0, []
    for _ in range(-(-10 // (room // ENTRY)) - 1):
        status, count, token, listed = guest.labels(SYSTEM, token=token, room=room)
        assert (status, count) == (H_CONTINUE, room // ENTRY)
        assert token != 0
        found += parse_labels(listed)
    status, _, last, listed = guest.labels(SYSTEM, token=token, room=room)
    assert (status, last) == (0, 0)
    assert found + parse_labels(listed) == TEN


def test_labels_of_every_length_in_every_room() -> None:
    """The list is the same through any buffer that can hold its longest label."""
    labels = [bytes([n]) * n for n in (1, 2, 100, 254, 255)]
    guest = filled(labels)
    for room in range(257, 630):
        assert guest.all_labels(SYSTEM, room=room) == labels


@pytest.mark.parametrize("room", [0, 1, 2, ENTRY - 1])
def test_a_buffer_too_small_for_one_label(room: int) -> None:
    """A buffer that is too small for the next label gives H_P4, and the token stays valid."""
    guest = filled()
    assert guest.labels(SYSTEM, room=room) == Answer(H_P4)
    assert guest.refusals[-1].argument == "labels_length"
    token = guest.labels(SYSTEM, room=ENTRY).r5
    assert guest.labels(SYSTEM, token=token, room=room) == Answer(H_P4)
    assert parse_labels(guest.labels(SYSTEM, token=token).written) == TEN[1:]


def test_a_consumer_is_told_its_own_labels_alone() -> None:
    """R-03: a consumer never sees labels of other consumers, world-readable or not."""
    guest = Guest(make_partition())
    for consumer in CONSUMERS:
        guest.write(consumer, b"of %d" % consumer, b"x", policy=0x0800_0000)
    for consumer in CONSUMERS:
        assert guest.all_labels(consumer) == [b"of %d" % consumer]


def test_every_policy_is_listed() -> None:
    """A list has objects of any policy: transient, immutable and unreadable ones too."""
    guest = Guest(make_partition(mode=2))
    for policy in (0, 0x4000_0000, 0x2000_0000, 0x0400_0000, 0x0200_0000):
        guest.write(SYSTEM, b"%x" % policy, b"x", policy=policy)
    guest.partition.keystore.access.secure_boot = SecureBoot.OFF  # type: ignore[union-attr]
    assert len(guest.all_labels(SYSTEM)) == 5


def test_a_list_needs_the_password() -> None:
    """R-04: A list needs the password, also to continue it with a token."""
    guest = filled()
    token = guest.labels(SYSTEM, room=ENTRY).r5
    guest.set_password(SYSTEM, b"right")
    for password in (b"", b"wrong"):
        assert guest.labels(SYSTEM, password=password) == Answer(H_AUTHORITY)
        assert guest.labels(SYSTEM, token=token, password=password) == Answer(H_AUTHORITY)
    assert parse_labels(guest.labels(SYSTEM, token=token, password=b"right").written) == TEN[1:]


def test_a_token_is_used_once() -> None:
    """A token that was used gives H_P2, whether its list has ended or goes on."""
    guest = filled()
    first = guest.labels(SYSTEM, room=ENTRY).r5
    second = guest.labels(SYSTEM, token=first, room=ENTRY).r5
    assert guest.labels(SYSTEM, token=first) == Answer(H_P2)
    assert guest.labels(SYSTEM, token=second).status == 0
    assert guest.labels(SYSTEM, token=second) == Answer(H_P2)
    assert guest.refusals[-1].argument == "token"


def test_tokens_are_not_counted_up() -> None:
    """R-03: Tokens are random: they are checked before the password, so one must not reveal another."""
    guest = filled()
    tokens = [guest.labels(SYSTEM, room=ENTRY).r5 for _ in range(10)]
    assert min(tokens) > 1 << 40
    assert len({after - before for before, after in pairwise(tokens)}) == 9
    for token in tokens:
        assert guest.labels(SYSTEM, token=token + 1) == Answer(H_P2)


def test_a_token_belongs_to_its_consumer_and_partition() -> None:
    """R-01, R-03: A token of one consumer gives H_P2 for another consumer or partition."""
    guest = filled()
    for label in TEN:
        guest.write(FIRMWARE, label, b"x")
    token = guest.labels(SYSTEM, room=ENTRY).r5
    assert guest.labels(FIRMWARE, token=token) == Answer(H_P2)
    assert filled().labels(SYSTEM, token=token) == Answer(H_P2)
    assert guest.labels(SYSTEM, token=token).status == 0


def test_a_token_ends_with_the_ipl() -> None:
    """R-04: After an IPL an old token gives H_P2, and no new list gets the same token."""
    guest = filled()
    token = guest.labels(SYSTEM, room=ENTRY).r5
    guest.ipl()
    assert guest.labels(SYSTEM, token=token) == Answer(H_P2)
    assert guest.labels(SYSTEM, room=ENTRY).r5 != token


def test_a_list_is_a_snapshot() -> None:
    """A list has the labels of its first call. Later writes and removals appear in the next list."""
    guest = filled()
    token = guest.labels(SYSTEM, room=3 * ENTRY).r5
    for label in TEN[::2]:
        guest.remove(SYSTEM, label)
    guest.write(SYSTEM, b"a new one", b"x")
    assert parse_labels(guest.labels(SYSTEM, token=token).written) == TEN[3:]
    assert guest.all_labels(SYSTEM) == [*TEN[1::2], b"a new one"]


def test_lists_run_side_by_side() -> None:
    """Two callers of one consumer can each read a list in parts at the same time."""
    guest = filled()
    tokens, found = [0, 0], [[], []]  # type: tuple[list[int], list[list[bytes]]]
    for turn in range(20):
        which = turn % 2
        _, _, tokens[which], listed = guest.labels(SYSTEM, token=tokens[which], room=ENTRY)
        found[which] += parse_labels(listed)
    assert (tokens, found) == ([0, 0], [TEN, TEN])


def test_forgotten_lists_are_dropped_oldest_first() -> None:
    """R-23: Unfinished lists use bounded memory. The oldest is dropped, and its token gives H_P2."""
    guest = filled()
    tokens = [guest.labels(SYSTEM, room=ENTRY).r5 for _ in range(MAX_OPEN + 1)]
    assert len(set(tokens)) == len(tokens)
    assert guest.labels(SYSTEM, token=tokens[0]) == Answer(H_P2)
    for token in tokens[1:]:
        assert guest.labels(SYSTEM, token=token).status == 0


def test_linux_finds_ten_long_labels_in_its_page() -> None:
    """The driver's buffer of 4096 bytes holds labels of 255 bytes, including headers of sixteen bytes."""
    labels = [b"PLPKSWR\0" + bytes(8) + b"%0239d" % n for n in range(20)]
    guest = filled(labels)
    status, count, _, _ = guest.labels(SYSTEM, room=4096)
    assert (status, count) == (H_CONTINUE, 4096 // 257)
    assert guest.all_labels(SYSTEM, room=4096) == labels
