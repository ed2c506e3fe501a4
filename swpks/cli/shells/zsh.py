"""The completion for zsh: a function for each command, which calls `_arguments`."""

from __future__ import annotations

from swpks.cli.words import Argument, Command


def script(root: Command) -> str:
    """Return the script of zsh, which zsh loads as the function `_swpks`."""
    functions = "\n\n".join(map(_function, root.all()))
    start = "#compdef swpks\n# zsh completion for swpks, made of its parser: `swpks completion zsh`.\n\n"
    # At the first completion zsh runs the file as the body of the function. If a user sources the file
    # instead, it has to register the function itself.
    end = 'if [ "$funcstack[1]" = "_swpks" ]; then\n    _swpks "$@"\nelse\n    compdef _swpks swpks\nfi\n'
    return f"{start}{functions}\n\n{end}"


def _name(command: Command) -> str:
    return "_" + "__".join(command.path)


def _function(command: Command) -> str:
    """Return the zsh function that completes a command."""
    specs = [spec for each in command.options for spec in _option(each)]
    operands = [f"':{_plain(each.value)}:{_action(each)}'" for each in command.operands]
    if not command.commands:
        lines = " \\\n        ".join([*specs, *operands])
        return f"{_name(command)}() {{\n    _arguments -s -S \\\n        {lines}\n}}"
    return _parent(command, [*specs, *operands])


def _parent(command: Command, specs: list[str]) -> str:
    """Return the zsh function that completes a command with subcommands."""
    # `_arguments` counts words from 1, and the operands stand before the subcommand.
    place = len(command.operands) + 1
    entries = " \\\n            ".join(f"'{each.path[-1]}:{_plain(each.about)}'" for each in command.commands)
    cases = "\n".join(f"        {each.path[-1]}) {_name(each)} ;;" for each in command.commands)
    lines = " \\\n        ".join([*specs, "': :->command'", "'*::: :->rest'"])
    return f"""{_name(command)}() {{
    local curcontext=$curcontext context state state_descr
    local -a line commands
    local -A opt_args
    _arguments -C -s -S \\
        {lines}
    case $state in
    command)
        commands=(
            {entries}
        )
        _describe -t commands command commands
        ;;
    rest)
        curcontext="${{curcontext%:*:*}}:{_name(command)[1:]}-$line[{place}]:"
        words=($line[{place}] "${{words[@]}}")
        ((CURRENT += 1))
        case $line[{place}] in
{cases}
        esac
        ;;
    esac
}}"""


def _option(argument: Argument) -> list[str]:
    """Return a spec of `_arguments` for each name of an option.

    The `*` of a spec permits the option more than once.  A spec with `=` permits --option=value.  argparse
    accepts that, but the console's lines do not.
    """
    about = _plain(argument.about)
    value = f":{_plain(argument.value)}:{_action(argument)}" if argument.value else ""
    joined = "=" if value and not argument.of_line else ""
    return [f"'*{name}{joined if name.startswith('--') else ''}[{about}]{value}'" for name in argument.names]


def _action(argument: Argument) -> str:
    if argument.choices:
        return f"({' '.join(argument.choices)})"
    return {"folder": "_files -/", "file": "_files"}.get(argument.kind, " ")


def _plain(text: str) -> str:
    """Return a description without the characters that are syntax in a spec of `_arguments`."""
    for character, other in (
        ("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
        ("\\", "/"),
        ("[", "("),
        ("]", ")"),
        (":", " -"),
        ("`", ""),
    ):
        text = text.replace(character, other)
    return " ".join(text.split())
