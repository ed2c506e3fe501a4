"""Figures for Prometheus, read from the machine's own counters at each request.

The number of Prometheus labels is bounded: their values are names of partitions, h-calls and statuses.  No
label of a keystore object, and no other text of a guest, becomes such a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from hcall_abi.calls import Opcode
from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_abi.statuses import Status
from hcall_server import __version__
from hcall_server.machine import logs
from hcall_server.machine.machine import Machine
from hcall_server.platform.partition import Partition

MEDIA_TYPE = CONTENT_TYPE_LATEST
"""The media type of the exposition format."""


def exposition(machine: Machine) -> bytes:
    """Return all figures of `machine` in Prometheus' text format."""
    # Each request has its own registry, and not the global one, because a process of tests has several
    # machines. auto_describe would collect all figures twice.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MachineCollector(machine))
    return generate_latest(registry)


class MachineCollector(Collector):
    """Reads a machine, and stores nothing itself."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def collect(self) -> Iterator[Metric]:
        """Yield every family of figures, even if it has no samples yet."""
        yield InfoMetricFamily(
            "swpks", "the server", {"version": __version__, "level": self._machine.system.level.name}
        )
        yield from self._calls()
        yield from self._connections()
        yield self._left_out()
        yield from self._partitions()
        yield from self._writeback()
        yield from self._console()
        lines = "log lines that standard error did not take"
        yield CounterMetricFamily("swpks_log_lines_dropped", lines, value=logs.dropped())

    def _calls(self) -> Iterator[Metric]:
        labels = ["partition", "hcall", "status"]
        family = CounterMetricFamily("swpks_hcalls", "answered h-calls", labels=labels)
        # Several unknown opcodes share the name OTHER, and Prometheus refuses two samples with the same
        # labels.  So their counts are added first.
        counts: Counter[tuple[str, str, str]] = Counter()
        for partition in self._machine.system.partitions.values():
            for (opcode, status), count in self._machine.counters.calls[partition.number].items():
                counts[partition.name, _named(Opcode, opcode), _named(Status, status)] += count
        for names, count in sorted(counts.items()):
            family.add_metric(names, count)
        yield family

    def _connections(self) -> Iterator[Metric]:
        counters, traces = self._machine.counters, self._machine.traces
        traced, untraced = traces.counts() if traces else (0, 0)
        for name, text, value in (
            ("swpks_connections", "accepted connections", counters.connections),
            ("swpks_connections_lost", "connections that ended without a GOODBYE", counters.lost),
            ("swpks_connections_crashed", "connections that an error in the server ended", counters.crashed),
            ("swpks_batches", "reads that brought at least one frame", counters.batches),
            ("swpks_received_bytes", "bytes received on data channels", counters.bytes_received),
            ("swpks_sent_bytes", "bytes sent on data channels", counters.bytes_sent),
            ("swpks_trace_frames", "frames in the files of traces", traced),
            ("swpks_trace_frames_lost", "frames that traces have lost", untraced),
        ):
            yield CounterMetricFamily(name, text, value=value)
        yield _by_number("swpks_opens", "answers to OPEN", "status", OpenStatus, counters.opens)
        yield _by_number("swpks_goodbyes", "GOODBYEs sent", "reason", GoodbyeReason, counters.goodbyes)

    def _left_out(self) -> Metric:
        labels = ["source", "event"]
        family = CounterMetricFamily("swpks_log_left_out", "lines left out of the log", labels=labels)
        for source, event, count in self._machine.noise.left_out():
            family.add_metric([source, event], count)
        return family

    def _partitions(self) -> Iterator[Metric]:
        partitions = list(self._machine.system.partitions.values())
        sessions = self._machine.sessions
        rows: tuple[tuple[str, str, Callable[[Partition], float]], ...] = (
            ("swpks_partition_running", "1 while it is activated", lambda p: p.running),
            ("swpks_partition_ipls", "its IPL count", lambda p: p.ipl_count),
            (
                "swpks_partition_refused",
                "1 when its store could not be opened",
                lambda p: p.refused is not None,
            ),
            ("swpks_partition_sessions", "open sessions", lambda p: sessions.count(p.number)),
            ("swpks_keystore_bytes", "size of its keystore", lambda p: p.kbytes * 1024),
            (
                "swpks_keystore_used_bytes",
                "bytes taken",
                lambda p: p.keystore.contents.used if p.keystore else 0,
            ),
            (
                "swpks_keystore_objects",
                "objects",
                lambda p: p.keystore.contents.object_count if p.keystore else 0,
            ),
        )
        for name, text, figure in rows:
            yield _per_partition(name, text, partitions, figure)

    def _writeback(self) -> Iterator[Metric]:
        health = self._machine.encryptor.health
        owner = self._machine.nvram.ownership
        ok = health.ok and not (owner and owner.over)
        yield GaugeMetricFamily("swpks_nvram_ok", "1 while commits work", value=ok)
        yield GaugeMetricFamily("swpks_nvram_pending", "partitions to be written", value=health.pending)
        age = health.oldest_pending
        yield GaugeMetricFamily("swpks_nvram_oldest_pending_seconds", "age of the oldest change", value=age)
        yield CounterMetricFamily("swpks_nvram_commits", "commits", value=health.commits)
        yield CounterMetricFamily("swpks_nvram_failures", "failed commits", value=health.failures)

    def _console(self) -> Iterator[Metric]:
        """Yield figures of the management console; they have no samples while none is attached."""
        attachment = self._machine.attachment
        text = "1 while the attached console is connected"
        connected = GaugeMetricFamily("swpks_console_connected", text)
        text = "how long it has been connected, or away"
        since = GaugeMetricFamily("swpks_console_since_seconds", text)
        if link := attachment.link:
            connected.add_metric([], link.connected)
            since.add_metric([], attachment.ago(link.since))
        yield connected
        yield since
        text = "age of the last copy that the console holds"
        age = GaugeMetricFamily("swpks_partition_copy_age_seconds", text, labels=["partition"])
        for partition in self._machine.system.partitions.values():
            if kept := attachment.kept(partition.profile.uuid):
                age.add_metric([partition.name], attachment.ago(kept.time))
        yield age


def _per_partition(
    name: str, text: str, partitions: Iterable[Partition], figure: Callable[[Partition], float]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["partition"])
    for partition in partitions:
        family.add_metric([partition.name], figure(partition))
    return family


def _by_number(name: str, text: str, label: str, names: type[IntEnum], counts: Mapping[int, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    by_name: Counter[str] = Counter()
    for number, count in counts.items():
        by_name[_named(names, number)] += count
    for each, count in sorted(by_name.items()):
        family.add_metric([each], count)
    return family


def _named(names: type[IntEnum], number: int) -> str:
    """Return the name of a number.

    All unknown numbers share one name, so that there are few labels.
    """
    return names(number).name if number in names._value2member_map_ else "OTHER"
