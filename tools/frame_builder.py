"""Builds frames of the data channel with plain `struct`, right or wrong, for the golden vectors."""

import hashlib
import hmac
import struct

FORMATS = {"u8": ">B", "u16": ">H", "u32": ">I", "u64": ">Q", "s32": ">i", "s64": ">q"}
# The nonces are digests of fixed texts, so that each run makes the same vectors.
SERVER_NONCE = hashlib.sha256(b"server nonce of the vectors").digest()
CLIENT_NONCE = hashlib.sha256(b"client nonce of the vectors").digest()
ACCESS_KEY = hashlib.sha256(b"access key of the vectors").digest()
NONE = bytes(32)
AUTH = bytes([1, 3]) + bytes(12) + b"\0\0"
PASSWORD = hashlib.sha256(b"password of the vectors").digest()
AUTH_32 = bytes([1, 3]) + bytes(12) + struct.pack(">H", len(PASSWORD)) + PASSWORD
LABEL = b"sed-opal" + bytes([0, 4, 16]) + bytes(5) + b"/default/pri\0"
KEY = bytes(range(0x40, 0x50))
LIMIT = 256 * 1024


class Body:
    """A frame body that is built field by field."""

    def __init__(self):
        self.fields = []

    def add(self, kind, name, value, meaning=""):
        data = struct.pack(FORMATS[kind], value) if kind in FORMATS else value
        if kind == "text":
            shown = value.decode("utf-8", "backslashreplace")
        else:
            shown = value if kind in FORMATS else data.hex()
        self.fields.append((data, {"type": kind, "name": name, "value": shown, "meaning": meaning}))
        return self

    def name(self, field, value):
        data = value if isinstance(value, bytes) else value.encode()
        return self.add("u8", f"{field} length", len(data)).add("text", field, data, "UTF-8")

    @property
    def bytes(self):
        return b"".join(data for data, _ in self.fields)


def frame(kind, body, tag=0, **header):
    """Return a whole frame as (bytes, fields with their offsets)."""
    values = {"magic": b"HCAL", "version": 1, "type": kind, "flags": 0, "tag": tag, "length": len(body.bytes)}
    # A caller may overwrite any field, because damaged vectors are made here too.
    values |= header
    whole = Body().add("bytes", "magic", values["magic"], "HCAL").add("u8", "version", values["version"])
    whole.add("u8", "type", values["type"], NAMES.get(values["type"], "unknown"))
    whole.add("u16", "flags", values["flags"]).add("u32", "tag", values["tag"])
    whole.add("u32", "body length", values["length"])
    whole.fields += body.fields
    described, offset = [], 0
    for data, field in whole.fields:
        described.append({"offset": offset, "size": len(data), **field})
        offset += len(data)
    return whole.bytes, described


NAMES = {1: "HELLO", 2: "OPEN", 3: "OPENED", 4: "HCALL", 5: "HRETURN", 6: "GOODBYE"}


def hello(low=1, high=1, reserved=0, limit=LIMIT, features=0, nonce=SERVER_NONCE, name="swpks"):
    body = (
        Body()
        .add("u8", "lowest version", low)
        .add("u8", "highest version", high)
        .add("u16", "reserved", reserved)
    )
    body.add("u32", "largest body", limit, "bytes").add("u64", "features", features)
    return body.add("bytes", "server nonce", nonce).name("server name", name)


def open_(partition=0, kind=0, reserved=0, nonce=CLIENT_NONCE, proof=NONE, name="vectors"):
    body = Body().add("u16", "partition id", partition).add("u8", "proof kind", kind)
    body.add("u8", "reserved", reserved).add("bytes", "client nonce", nonce).add("bytes", "proof", proof)
    return body.name("client name", name)


def opened(status=0, partition=3, reserved=0, ipl=7, proof=NONE, level="FW1110"):
    body = Body().add("s32", "status", status).add("u16", "partition id", partition)
    body.add("u16", "reserved", reserved).add("u32", "IPL count", ipl).add("bytes", "server proof", proof)
    return body.name("firmware level", level)


def registers(first, values):
    body = first
    for number, value in zip(range(4, 13), [*values, *[0] * 9], strict=False):
        body.add("u64", f"r{number}", value)
    return body


def hcall(opcode, args=(), segments=(), reserved=(0, 0), count=None, tail=b""):
    """Return the body of an HCALL; `segments` are (address, length, access, bytes that follow)."""
    body = registers(Body().add("u64", "r3", opcode, "opcode"), args)
    body.add("u16", "segment count", len(segments) if count is None else count)
    body.add("u16", "reserved", reserved[0]).add("u32", "reserved", reserved[1])
    for n, (address, length, access, _) in enumerate(segments):
        body.add("u64", f"segment {n} address", address).add("u32", f"segment {n} length", length)
        body.add("u32", f"segment {n} access", access, {1: "in", 2: "out", 3: "both"}.get(access, "unknown"))
    for n, (_, _, _, data) in enumerate(segments):
        body.add("bytes", f"segment {n} bytes", data)
    return body.add("bytes", "left over", tail) if tail else body


def hreturn(status, results=(), writes=(), reserved=(0, 0, 0), count=None, tail=b""):
    """Return the body of an HRETURN; `writes` are (address, length, bytes that follow)."""
    body = registers(Body().add("s64", "r3", status, "status"), results)
    body.add("u16", "write count", len(writes) if count is None else count)
    body.add("u16", "reserved", reserved[0]).add("u32", "reserved", reserved[1])
    for n, (address, length, _) in enumerate(writes):
        body.add("u64", f"write {n} address", address).add("u32", f"write {n} length", length)
        body.add("u32", f"write {n} reserved", reserved[2])
    for n, (_, _, data) in enumerate(writes):
        body.add("bytes", f"write {n} bytes", data)
    return body.add("bytes", "left over", tail) if tail else body


def goodbye(reason=0, text=""):
    return Body().add("u32", "reason", reason).name("text", text)


def left_over(body, tail=b"\0"):
    return body.add("bytes", "left over", tail)


def cut(body, size):
    """Return a body with the first `size` bytes of another body, as one field."""
    return Body().add("bytes", "body, cut off", body.bytes[:size])


def proof(text, partition):
    return hmac.digest(
        ACCESS_KEY, text + SERVER_NONCE + CLIENT_NONCE + struct.pack(">H", partition), "sha256"
    )
