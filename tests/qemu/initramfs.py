"""An initramfs for a kernel to start: files and device nodes in the archive format "newc" of cpio."""

import gzip
import stat
from collections.abc import Mapping
from pathlib import Path

DEVICES = {"dev/console": (5, 1), "dev/null": (1, 3)}
FOLDERS = ("bin", "dev", "proc", "sys")


def write(path: Path, busybox: Path, init: str) -> Path:
    """Write the archive: busybox as bin/busybox, and a script for it as init."""
    script = f"#!/bin/busybox sh\n{init}\n".encode()
    path.write_bytes(gzip.compress(archive({"init": script, "bin/busybox": busybox.read_bytes()}), 1))
    return path


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return the archive: folders and devices, executable files, and the trailer that ends it."""
    out = b"".join(_entry(name, stat.S_IFDIR | 0o755) for name in FOLDERS)
    for name, device in DEVICES.items():
        out += _entry(name, stat.S_IFCHR | 0o600, device=device)
    for name, content in files.items():
        out += _entry(name, stat.S_IFREG | 0o755, content)
    return out + _entry("TRAILER!!!", 0)


def _entry(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one entry: 13 numbers of 8 hexadecimal digits; name and content are padded to multiples of 4."""
    raw = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(raw), 0)
    return _padded(b"070701" + b"".join(b"%08X" % field for field in fields) + raw) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
