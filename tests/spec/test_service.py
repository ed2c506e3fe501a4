"""The example configuration in the server's page is accepted, and has every field."""

import dataclasses
import re
import tomllib
from pathlib import Path

from hcall_server.service.config import PARTITION_FIELDS, read_config
from hcall_server.service.settings import Settings
from tests.spec.markdown import SPEC

PAGE = (SPEC / "service.md").read_text("utf-8")


def test_the_example_configuration(tmp_path: Path) -> None:
    """The example can be read, and names every field of the settings for a server and a partition."""
    match = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert match
    file = tmp_path / "swpks.toml"
    file.write_text(match[1], "utf-8")
    settings = read_config(file)
    assert settings.partition[0].name == "lpar1"
    content = tomllib.loads(match[1])
    # `first_name` comes from the name of the folder, not from the file.
    given = {field.name for field in dataclasses.fields(Settings)} - {"first_name"}
    assert set(content) == given
    assert set(content["partition"][0]) == PARTITION_FIELDS
