"""The bytes of each h-call that a trace shows, generated from `hcall_abi.calls`."""

from collections.abc import Iterator

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec

Lines = Iterator[tuple[object, ...]]


def of_calls() -> Lines:
    """Yield each h-call with its buffers: those that a trace shows, and those that it blanks."""
    for spec in CALLS.values():
        shown, blanked = zip(*(_parts(arg) for arg in _buffers(spec)), strict=True)
        yield f"{spec.name}", _listed(shown), _listed(blanked)


def _buffers(spec: HCallSpec) -> Iterator[Arg]:
    return (arg for arg in spec.args if arg.kind.readable or arg.kind.writable)


def _parts(arg: Arg) -> tuple[str, str]:
    """Return the shown and the blanked part of a buffer, "" for none."""
    way = "written" if arg.kind.writable else "read"
    if arg.kind is Kind.AUTHORIZATION:
        return "head of the authorization block", "its password"
    text = f"{arg.name} ({way})"
    return (text, "") if arg.public else ("", text)


def _listed(parts: tuple[str, ...]) -> str:
    return ", ".join(filter(None, parts)) or "-"
