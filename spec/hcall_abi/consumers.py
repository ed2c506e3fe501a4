"""The three consumers of a partition's keystore, and the secure-boot modes that policies ask for."""

from __future__ import annotations

from enum import IntEnum


class Consumer(IntEnum):
    """Who owns an object; the number travels in the authorization block (one byte)."""

    FIRMWARE = 1
    BOOT_LOADER = 2
    OPERATING_SYSTEM = 3


class SecureBoot(IntEnum):
    """OS secure-boot mode of a partition, the value of the `ibm,secure-boot` property."""

    OFF = 0
    AUDIT = 1
    ENFORCE = 2
