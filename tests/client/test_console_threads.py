"""Several threads read answers of consoles at the same time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hcall_abi.control_views import TrustedKeyView
from hcall_client import console

CODE = """
import sys, threading
sys.setswitchinterval(1e-6)
import msgspec
from hcall_client.console import ConsoleRefused, answer_of, show_partition, show_system
begin = threading.Barrier(8)

def decode(number):
    request, kind = (show_system(), "application/json") if number % 2 else (show_partition("a"), "x")
    begin.wait()
    for _ in range(20):
        try:
            answer_of(request, 200, kind, CONTENT)
        except Exception:
            pass

threads = [threading.Thread(target=decode, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.usefixtures("not_measured")
@pytest.mark.process
def test_the_first_answers_may_come_in_several_threads() -> None:
    """Several threads may decode their first answers at once.

    Without a lock, msgspec crashed in one of six runs.
    """
    content = b'{"name":"a","partitions":[{"number":1,"name":"lpar1","keystore":{"total_bytes":1}}]}'
    code = CODE.replace("CONTENT", repr(content))
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_decoder_is_made_once(monkeypatch) -> None:
    """The decoder is cached, so only the first answer takes the lock."""
    monkeypatch.setattr(console, "_decoders", {})
    first = console._decoded(b'{"id": null, "sealed": null}', TrustedKeyView)
    assert list(console._decoders) == [type(first)]
