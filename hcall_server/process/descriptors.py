"""The limit of open descriptors of a process."""

from __future__ import annotations

import resource


def allow_many_descriptors() -> None:
    """Raise this process's limit of open descriptors.

    Each connection takes one descriptor, and the usual limit is low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
