"""The usage of a line without a console: the tables of its options are in this installation (--help)."""

from __future__ import annotations

from hcall_server.console.lines.run import usage_of

__all__ = ["usage_of"]
