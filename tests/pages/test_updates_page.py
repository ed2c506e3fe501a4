"""docs/signed-updates.md has the commands of spec/secure-boot-variables.md, and a test runs the page."""

import re

from tests.spec.markdown import ROOT, blocks, whole

GUIDE = ROOT / "docs" / "signed-updates.md"
SPEC = (ROOT / "spec" / "secure-boot-variables.md").read_text("utf-8")


def test_the_commands_of_openssl_are_those_of_the_guide() -> None:
    """The guide has each openssl command of the contract's page, with KEK in place of the parameter."""
    run = "\n".join(whole(GUIDE).commands).replace('"$3.', '"KEK.').replace('"KEK.crt"', "KEK.crt")
    run = run.replace('"KEK.key"', "KEK.key")
    lines = re.findall(r"^    (openssl .*)$", SPEC, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["req", "x509", "cms"]
    for line in lines:
        assert line in run


def test_the_extensions_of_a_leaf_are_those_of_the_guide() -> None:
    """The sentence below the commands has both lines of `leaf.ext`."""
    (lines,) = re.findall(r"^`leaf\.ext` has the lines `(.*?)` and `(.*?)`\.", SPEC, re.MULTILINE)
    assert "\n".join(["<<'EOF'", *lines, "EOF"]) in "".join(blocks(GUIDE, "Certificates"))
