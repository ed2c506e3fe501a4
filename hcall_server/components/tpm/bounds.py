"""The size of a secret that a TPM seals."""

from __future__ import annotations

SECRET_MOST = 128
"""Bytes of the longest secret: a TPM 2.0 seals no more (MAX_SYM_DATA)."""


def check_size(secret: bytes) -> None:
    """Raise ValueError for a secret that a TPM can't seal."""
    if len(secret) > SECRET_MOST:
        raise ValueError(f"a TPM seals at most {SECRET_MOST} bytes, and these are {len(secret)}")
