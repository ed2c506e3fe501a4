"""Make the golden frames in spec/vectors/frames with plain `struct`, without the contract's own code.

    python tools/frame_vectors.py --write     write the files (only after new vectors were added)
    python tools/frame_vectors.py --check     fail if a file differs from the output of this program

A vector that has been published is never changed: other programs test against it.
"""

# Why these frames are not made by the contract's own code
#
# Golden frames test the codec, so the codec must not make them: a mistake in it would be in both, and no test
# would fail.  This program builds each frame field by field with `struct` (frame_builder.py).  It imports
# nothing of the project.  The numbers here are written a second time on purpose.
#

import json
import sys
from pathlib import Path

from frame_builder import (
    ACCESS_KEY,
    AUTH,
    AUTH_32,
    CLIENT_NONCE,
    KEY,
    LABEL,
    LIMIT,
    PASSWORD,
    SERVER_NONCE,
    Body,
    cut,
    frame,
    goodbye,
    hcall,
    hello,
    hreturn,
    left_over,
    open_,
    opened,
    proof,
)

FOLDER = Path(__file__).resolve().parent.parent / "spec" / "vectors" / "frames"
AUTH_AT, LABEL_AT, DATA_AT, PASSWORD_AT = 0x1000, 0x2000, 0x3000, 0x4000
AUTH_IN = (AUTH_AT, len(AUTH), 1, AUTH)
LABEL_IN = (LABEL_AT, len(LABEL), 1, LABEL)
ARGS = (AUTH_AT, LABEL_AT, len(LABEL))
READ = hcall(0x434, (*ARGS, DATA_AT, 64), [AUTH_IN, LABEL_IN, (DATA_AT, 64, 2, b"")])
TOP = 1 << 64


def valid():
    """Yield (file, name, sender, frame) for right frames: every frame type, with its extreme values."""
    yield "hello", "hello", "server", frame(1, hello())
    yield "hello", "hello-no-name", "server", frame(1, hello(name=""))
    yield "hello", "hello-long-name", "server", frame(1, hello(name="ü" * 127 + "!"))
    yield (
        "hello",
        "hello-later-server",
        "server",
        frame(1, hello(1, 9, limit=TOP // 2**32 - 1, features=TOP - 1)),
    )
    yield "open", "open-no-proof", "client", frame(2, open_(), 1)
    yield "open", "open-proof", "client", frame(2, open_(3, 1, proof=proof(b"swpks open 1", 3)), 0xFFFFFFFF)
    yield "opened", "opened", "server", frame(3, opened(), 1)
    good = opened(proof=proof(b"swpks opened 1", 3))
    yield "opened", "opened-proof", "server", frame(3, good, 0xFFFFFFFF)
    refusals = "no-such-partition", "not-authorised", "not-activated", "version", "too-many-sessions"
    for status, name in enumerate(refusals, 1):
        yield "opened", f"opened-{name}", "server", frame(3, opened(status, ipl=0, level=""), 1)
    yield from valid_calls()
    yield from valid_returns()
    reasons = "done", "protocol-error", "ipl", "migrated", "stopping", "idle", "too-slow"
    for reason, name in enumerate(reasons):
        yield (
            "goodbye",
            f"goodbye-{name}",
            "client" if reason == 0 else "server",
            frame(6, goodbye(reason, name)),
        )
    yield "goodbye", "goodbye-no-text", "client", frame(6, goodbye())


def valid_calls():
    yield "hcall", "hcall-read-object", "client", frame(4, READ, 2)
    data = (DATA_AT, len(KEY), 1, KEY)
    write = hcall(0x42C, (*ARGS, 0x08000000, DATA_AT, len(KEY)), [AUTH_IN, LABEL_IN, data])
    yield "hcall", "hcall-write-object", "client", frame(4, write, 3)
    config = hcall(0x41C, (0x4000, 520), [(0x4000, 520, 2, b"")])
    yield "hcall", "hcall-get-config", "client", frame(4, config)
    yield "hcall", "hcall-no-segments", "client", frame(4, hcall(TOP - 1, [TOP - 1] * 9), 4)
    both = [(DATA_AT, 4, 3, b"abcd"), (DATA_AT + 4, 2, 1, b"ef")]
    yield "hcall", "hcall-both-ways", "client", frame(4, hcall(0x434, (), both), 5)
    unordered = [(0x9000, 2, 1, b"zz"), (0x10, 1, 1, b"a"), (0x500, 0, 1, b""), (0x500, 0, 2, b"")]
    yield "hcall", "hcall-any-order", "client", frame(4, hcall(0x434, (), unordered), 6)
    top = hcall(0x41C, (TOP - 4096, 520), [(TOP - 4096, 4096, 2, b"")])
    yield "hcall", "hcall-top-of-memory", "client", frame(4, top, 7)


def valid_returns():
    answer = hreturn(0, (len(KEY), 0x08000000), [(DATA_AT, len(KEY), KEY)])
    yield "hreturn", "hreturn-read-object", "server", frame(5, answer, 2)
    yield "hreturn", "hreturn-success", "server", frame(5, hreturn(0), 3)
    yield "hreturn", "hreturn-authority", "server", frame(5, hreturn(-10, (0, 0x40000000)), 4)
    yield "hreturn", "hreturn-function", "server", frame(5, hreturn(-2), 5)
    yield "hreturn", "hreturn-continue", "server", frame(5, hreturn(18, (3, 1)), 6)
    two = hreturn(9900, [TOP - 1] * 9, [(0, 2, b"ab"), (TOP - 1, 1, b"c")])
    yield "hreturn", "hreturn-two-writes", "server", frame(5, two, 7)


def damaged():
    """Yield damaged frames: (file, name, receiver, its state, page heading, "rule id: text", frame)."""
    yield from damaged_headers()
    yield from damaged_greetings()
    yield from damaged_calls()
    yield from damaged_returns()
    yield from out_of_turn()


def damaged_headers():
    where = "frame-header", "server", "open"
    rows = [
        ("bad-magic", "frame.magic: a frame starts with HCAL", {"magic": b"HCAK"}),
        ("lower-case-magic", "frame.magic: a frame starts with HCAL", {"magic": b"hcal"}),
        ("version-0", "frame.version: the version of a call is 1", {"version": 0}),
        ("version-2", "frame.version: the version of a call is 1", {"version": 2}),
        ("type-0", "frame.type: frame types are 1 to 6", {"type": 0}),
        ("type-7", "frame.type: frame types are 1 to 6", {"type": 7}),
        ("flag-low", "frame.flags: flags are 0", {"flags": 1}),
        ("flag-high", "frame.flags: flags are 0", {"flags": 0x8000}),
    ]
    for name, rule, change in rows:
        yield "header", name, *where[1:], where[0], rule, frame(4, READ, 2, **change)
    rule = "frame.tag: HELLO and GOODBYE have tag 0"
    yield "header", "tag-in-goodbye", "server", "open", "frame-header", rule, frame(6, goodbye(), 1)
    yield "header", "tag-in-hello", "client", "start", "frame-header", rule, frame(1, hello(), 1)
    rule = "frame.length: a body is at most 262144 bytes: refused by the header alone"
    for name, size in (("body-too-large", LIMIT + 1), ("body-of-4-gib", 0xFFFFFFFF)):
        yield "header", name, "server", "open", "framing", rule, frame(4, Body(), 2, length=size)


def damaged_greetings():
    rows = [
        ("reserved", "hello.reserved: the reserved field is 0", hello(reserved=1)),
        ("versions", "hello.versions: the lowest version is not above the highest", hello(2, 1)),
        ("short", "hello.fields: the body has all its fields", cut(hello(), 40)),
        ("name-too-long", "hello.fields: the name ends inside the body", cut(hello(), 50)),
        ("name-not-utf8", "hello.name: the name is UTF-8", hello(name=b"\xff\xfe")),
        ("left-over", "hello.end: nothing follows the name", left_over(hello())),
    ]
    yield from damaged_rows("hello", 1, "client", "start", rows)
    rows = [
        ("reserved", "open.reserved: the reserved byte is 0", open_(reserved=1)),
        ("proof-kind", "open.proof-kind: the proof kind is 0 or 1", open_(kind=2)),
        (
            "proof-without-kind",
            "open.proof-zero: the proof of kind 0 is zero",
            open_(proof=b"\0" * 31 + b"\1"),
        ),
        ("short", "open.fields: the body has all its fields", cut(open_(), 67)),
        ("name-too-long", "open.fields: the name ends inside the body", cut(open_(), 70)),
        ("name-not-utf8", "open.name: the name is UTF-8", open_(name=b"\xc3")),
        ("left-over", "open.end: nothing follows the name", left_over(open_())),
        ("empty", "open.fields: the body has all its fields", Body()),
    ]
    yield from damaged_rows("open", 2, "server", "greeted", rows)
    rows = [
        ("reserved", "opened.reserved: the reserved field is 0", opened(reserved=0x100)),
        ("short", "opened.fields: the body has all its fields", cut(opened(), 43)),
        ("level-not-utf8", "opened.level: the level is UTF-8", opened(level=b"\x80")),
        ("left-over", "opened.end: nothing follows the level", left_over(opened())),
    ]
    yield from damaged_rows("opened", 3, "client", "opening", rows, tag=1)
    rows = [
        ("empty", "goodbye.fields: the body has all its fields", Body()),
        ("no-text-length", "goodbye.fields: the body has all its fields", Body().add("u32", "reason", 0)),
        ("text-not-utf8", "goodbye.text: the text is UTF-8", goodbye(1, b"\xf5")),
        ("left-over", "goodbye.end: nothing follows the text", left_over(goodbye())),
    ]
    yield from damaged_rows("goodbye", 6, "server", "open", rows)


def damaged_rows(kind, number, receiver, state, rows, tag=0):
    for name, rule, body in rows:
        yield kind, f"{kind}-{name}", receiver, state, kind, rule, frame(number, body, tag)


def damaged_calls():
    a, b = (0x1000, 4, 1, b"abcd"), (0x1004, 4, 2, b"")
    apart = "hcall.overlap: segments lie apart"
    rows = [
        ("empty", "hcall.head: the body has all its fields", Body()),
        ("short", "hcall.head: the body has all its fields", cut(READ, 87)),
        ("reserved-16", "hcall.reserved: reserved fields are 0", hcall(0x434, (), [a], reserved=(1, 0))),
        (
            "reserved-32",
            "hcall.reserved: reserved fields are 0",
            hcall(0x434, (), [a], reserved=(0, 1 << 31)),
        ),
        (
            "count-too-high",
            "hcall.segments: there are as many segments as counted",
            hcall(0x434, (), (), count=1),
        ),
        (
            "count-highest",
            "hcall.segments: there are as many segments as counted",
            hcall(0x434, (), [a], count=0xFFFF),
        ),
        ("count-too-low", "hcall.bytes: nothing is left over", hcall(0x434, (), [a, b], count=1)),
        ("access-0", "hcall.access: the access is 1, 2 or 3", hcall(0x434, (), [(0x1000, 4, 0, b"")])),
        ("access-4", "hcall.access: the access is 1, 2 or 3", hcall(0x434, (), [(0x1000, 4, 4, b"")])),
        (
            "access-high-bits",
            "hcall.access: the access is 1, 2 or 3",
            hcall(0x434, (), [(0x1000, 4, 0x10001, b"abcd")]),
        ),
        ("overlap-by-one", apart, hcall(0x434, (), [a, (0x1003, 1, 2, b"")])),
        ("overlap-unordered", apart, hcall(0x434, (), [b, (0, 0x2000, 2, b"")])),
        ("overlap-same", apart, hcall(0x434, (), [b, b])),
        (
            "past-the-end",
            "hcall.overlap: a segment ends inside 64 bits",
            hcall(0x434, (), [(TOP - 1, 2, 2, b"")]),
        ),
        ("bytes-missing", "hcall.bytes: all bytes are there", hcall(0x434, (), [(0x1000, 4, 1, b"abc")])),
        ("bytes-left-over", "hcall.bytes: nothing is left over", hcall(0x434, (), [a], tail=b"\0")),
        (
            "bytes-of-an-output",
            "hcall.bytes: an output carries no bytes",
            hcall(0x434, (), [(0x1000, 4, 2, b"abcd")]),
        ),
    ]
    yield from damaged_rows("hcall", 4, "server", "open", rows, tag=2)


def damaged_returns():
    a, b = (0x1000, 4, b"abcd"), (0x1004, 0, b"")
    rows = [
        ("short", "hreturn.head: the body has all its fields", cut(hreturn(0), 87)),
        ("reserved-16", "hreturn.reserved: reserved fields are 0", hreturn(0, (), [a], reserved=(1, 0, 0))),
        ("reserved-32", "hreturn.reserved: reserved fields are 0", hreturn(0, (), [a], reserved=(0, 1, 0))),
        (
            "reserved-in-write",
            "hreturn.reserved: reserved fields are 0",
            hreturn(0, (), [a], reserved=(0, 0, 1)),
        ),
        (
            "count-too-high",
            "hreturn.writes: there are as many writes as counted",
            hreturn(0, (), [a, b], count=3),
        ),
        ("bytes-missing", "hreturn.bytes: all bytes are there", hreturn(0, (), [(0x1000, 4, b"abc")])),
        ("bytes-left-over", "hreturn.bytes: nothing is left over", hreturn(0, (), [a], tail=b"\0")),
    ]
    yield from damaged_rows("hreturn", 5, "client", "open", rows, tag=2)


def out_of_turn():
    """Yield whole frames that the state table does not permit in this state, or from this end."""
    rows = [
        ("call-before-open", "server", "greeted", frame(4, READ, 2)),
        ("second-open", "server", "open", frame(2, open_(), 2)),
        ("return-from-client", "server", "open", frame(5, hreturn(0), 2)),
        ("hello-from-client", "server", "greeted", frame(1, hello())),
        ("call-after-refusal", "server", "refused", frame(4, READ, 2)),
        ("opened-first", "client", "start", frame(3, opened(), 1)),
        ("second-hello", "client", "open", frame(1, hello())),
        ("call-from-server", "client", "open", frame(4, READ, 2)),
    ]
    for name, receiver, state, whole in rows:
        yield (
            "states",
            name,
            receiver,
            state,
            "states",
            f"session.state: not taken in state {state} from that side",
            whole,
        )
    rule = "session.tag: answers come in the order of the calls and echo their tags"
    yield "states", "answer-out-of-order", "client", "open", "tags", rule, frame(5, hreturn(0), 3)
    yield "states", "opened-other-tag", "client", "opening", "tags", rule, frame(3, opened(), 9)


def session():
    """Yield the session that spec/protocol.md shows: (sender, description, frame)."""
    refused = hcall(0x438, ARGS, [AUTH_IN, LABEL_IN])
    config = hcall(0x41C, (0x4000, 24), [(0x4000, 24, 2, b"")])
    block = bytes.fromhex("03000000002000400 0ffffff00010000000000497f800000".replace(" ", ""))
    yield "server", "HELLO: version 1 only, bodies up to 256 KiB", frame(1, hello())
    yield "client", "OPEN of the listener's only partition, no proof", frame(2, open_(), 1)
    yield "server", "OPENED: partition 3, IPL 7, FW1110", frame(3, opened(), 1)
    yield "client", "HCALL H_PKS_GET_CONFIG, 24 bytes at 0x4000", frame(4, config, 2)
    yield "client", "HCALL H_PKS_READ_OBJECT, sent without waiting", frame(4, READ, 3)
    yield "server", "HRETURN H_SUCCESS: the config block", frame(5, hreturn(0, (), [(0x4000, 24, block)]), 2)
    answer = hreturn(0, (len(KEY), 0x08000000), [(DATA_AT, len(KEY), KEY)])
    yield "server", "HRETURN H_SUCCESS: 16 bytes, policy WORLDREADABLE", frame(5, answer, 3)
    yield "client", "HCALL H_PKS_REMOVE_OBJECT", frame(4, refused, 4)
    yield "server", "HRETURN H_AUTHORITY", frame(5, hreturn(-10), 4)
    yield "client", "GOODBYE: done", frame(6, goodbye())


def session_2():
    """Yield a second session: a password is generated, and an object is written and flushed with it."""
    auth = (AUTH_AT, len(AUTH_32), 1, AUTH_32)
    new = hcall(0x424, (3, 0, PASSWORD_AT, 32), [(PASSWORD_AT, 32, 2, b"")])
    data = (DATA_AT, len(KEY), 1, KEY)
    write = hcall(0x42C, (*ARGS, 0x10000000, DATA_AT, len(KEY)), [auth, LABEL_IN, data])
    confirm = hcall(0x43C, ARGS, [auth, LABEL_IN])
    ours, theirs = proof(b"swpks open 1", 3), proof(b"swpks opened 1", 3)
    yield "server", "HELLO: version 1 only, bodies up to 256 KiB", frame(1, hello())
    yield (
        "client",
        "OPEN of partition 3, with the proof of the access key",
        frame(2, open_(3, 1, proof=ours), 1),
    )
    yield (
        "server",
        "OPENED: partition 3, IPL 7, FW1110, and the server's proof",
        frame(3, opened(proof=theirs), 1),
    )
    yield "client", "HCALL H_PKS_GEN_PASSWORD, consumer 3, 32 bytes at 0x4000", frame(4, new, 2)
    password = hreturn(0, (), [(PASSWORD_AT, 32, PASSWORD)])
    yield "server", "HRETURN H_SUCCESS: the password", frame(5, password, 2)
    yield "client", "HCALL H_PKS_WRITE_OBJECT, policy PWSET, 16 bytes", frame(4, write, 3)
    yield "server", "HRETURN H_SUCCESS", frame(5, hreturn(0), 3)
    yield "client", "HCALL H_PKS_CONFIRM_OBJECT_FLUSHED", frame(4, confirm, 4)
    yield "server", "HRETURN H_SUCCESS: r4 is 0, not yet in NVRAM", frame(5, hreturn(0), 4)
    yield "client", "HCALL H_PKS_CONFIRM_OBJECT_FLUSHED, again", frame(4, confirm, 5)
    yield "server", "HRETURN H_SUCCESS: r4 is 1, in NVRAM", frame(5, hreturn(0, (1,)), 5)
    yield "client", "GOODBYE: done", frame(6, goodbye())


def files():
    """Yield the name and the text of every file."""
    kinds = {}
    for kind, name, sender, (data, fields) in valid():
        vector = {"name": name, "valid": True, "from": sender, "hex": data.hex(), "fields": fields}
        kinds.setdefault(kind, []).append(vector)
    for kind, name, receiver, state, heading, rule, (data, fields) in damaged():
        rule_id, _, sentence = rule.partition(": ")
        broken = {"rule": sentence, "rule_id": rule_id, "section": f"spec/protocol.md#{heading}"}
        vector = {"name": name, "valid": False, "to": receiver, "state": state, **broken, "hex": data.hex()}
        kinds.setdefault(kind, []).append(vector | {"fields": fields})
    for name, steps in (("session", session()), ("session-2", session_2())):
        kinds[name] = [
            {"from": s, "what": what, "hex": data.hex(), "fields": f} for s, what, (data, f) in steps
        ]
    # Other programs need these values to check the proofs in the frames.
    secrets = {"server_nonce": SERVER_NONCE, "client_nonce": CLIENT_NONCE, "access_key": ACCESS_KEY}
    kinds["keys"] = {name: value.hex() for name, value in secrets.items()}
    for kind, content in kinds.items():
        yield f"{kind}.json", text_of(content)


def text_of(content):
    """Return JSON with one field a line, so that a diff is easy to read."""
    if isinstance(content, dict):
        return json.dumps(content, indent=1) + "\n"
    return "[\n" + ",\n".join(map(text_of_vector, content)) + "\n]\n"


def text_of_vector(vector):
    parts = [
        f'  "{key}": {json.dumps(value, ensure_ascii=False)}'
        for key, value in vector.items()
        if key != "fields"
    ]
    rows = ",\n".join("   " + json.dumps(row, ensure_ascii=False) for row in vector["fields"])
    return " {\n" + ",\n".join(parts) + ',\n  "fields": [\n' + rows + "\n  ]\n }"


def main():
    different = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files():
        path = FOLDER / name
        if "--write" in sys.argv:
            path.write_text(text, "utf-8")
        elif not path.is_file() or path.read_text("utf-8") != text:
            different.append(name)
    if different:
        sys.exit(f"differs: {', '.join(different)}")


if __name__ == "__main__":
    main()
