"""Record names: made, taken apart, and nothing else accepted."""

import pytest

from hcall_server.nvram import SYSTEM, image_name, parse_name, profile_name


def test_names_are_the_documented_ones() -> None:
    """spec/sealed.md#record-names."""
    assert (SYSTEM, image_name(4), profile_name(65535)) == (
        "system",
        "partition/00004/image",
        "partition/65535/profile",
    )


def test_names_come_apart_again() -> None:
    """R-01: which partition a record belongs to is read from its name."""
    assert parse_name(SYSTEM) == (0, "system")
    assert parse_name(image_name(4)) == (4, "image")
    assert parse_name(profile_name(65535)) == (65535, "profile")


@pytest.mark.parametrize(
    "name",
    ["", "System", "partition/4/image", "partition/00000/image", "partition/65536/image",
     "partition/00004/imagf", "partition/00004/image\n", "partition/٠٠٠٠٤/image", "xpartition/00004/image"],
)  # fmt: skip
def test_a_name_that_nobody_wrote_is_not_understood(name: str) -> None:
    """R-02: a damaged name is never taken for another record."""
    assert parse_name(name) is None
