"""Names of records are made and parsed. Any other name is rejected."""

from uuid import UUID

import pytest

from hcall_server.nvram import COMMIT, SYSTEM, TRUSTED_KEY, parse_partition, partition_name, wrapped_name
from hcall_server.nvram.names import old_image_name, old_profile_name, parse_old_name

A = UUID("1b4e28ba-2fa1-41d2-883f-0016d3cca427")


def test_names_are_the_documented_ones() -> None:
    """R-47, spec/sealed.md#record-names: the name of a partition's record contains its UUID."""
    assert (SYSTEM, COMMIT, partition_name(A)) == (
        "system",
        "commit",
        "partition/1b4e28ba-2fa1-41d2-883f-0016d3cca427",
    )
    assert (TRUSTED_KEY, wrapped_name(1), wrapped_name(2)) == ("trusted-key", "root-key/1", "root-key/2")
    assert all(len(name) <= 16 for name in (SYSTEM, COMMIT, TRUSTED_KEY, wrapped_name(2)))
    assert (old_image_name(4), old_profile_name(65535)) == (
        "partition/00004/image",
        "partition/65535/profile",
    )


def test_names_come_apart_again() -> None:
    """R-01: the name of a record gives the partition to which the record belongs."""
    assert parse_partition(partition_name(A)) == A
    assert parse_old_name(old_image_name(4)) == (4, "image")
    assert parse_old_name(old_profile_name(65535)) == (65535, "profile")


@pytest.mark.parametrize(
    "name",
    ["", "System", "system", TRUSTED_KEY, wrapped_name(1), "partition/4/image", "partition/00000/image",
     "partition/65536/image", "partition/00004/imagf", "partition/00004/image\n", "partition/٠٠٠٠٤/image",
     "xpartition/00004/image", f"partition/{A}/", f"partition/{str(A).upper()}", f"partition/{A.hex}",
     f"x/{A}", f"partition/{A}\n"],
)  # fmt: skip
def test_a_name_that_nobody_wrote_is_not_understood(name: str) -> None:
    """R-02: a damaged name is rejected, so it never counts as the name of another record."""
    assert parse_partition(name) is None
    assert parse_old_name(name) is None
