"""Traces: the frames of data channels in a capture file, without secrets (spec/service.md#trace).

`pcapng`, `cutting`, `known` and `blanking` are pure.  `recorder` writes one file through a worker, `taps`
has the traces of a system.
"""
