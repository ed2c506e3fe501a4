"""The completion for fish: a line for each word; its condition is the command that offers the word."""

from __future__ import annotations

from collections.abc import Iterator

from swpks.cli.words import Argument, Command

_WALK = """
function __swpks_walk --description 'Find the command that the words before the cursor name'
    set -l line (commandline -cp)
    test "$line" = "$__swpks_line"  # fish asks for each command: the walk is done once for a line
    and return
    set -g __swpks_line $line
    set -l words (commandline -opc)
    set -g __swpks_path swpks
    set -g __swpks_operands 0
    set -l value no
    for word in $words[2..-1]
        if test $value = yes
            set value no
        else if string match -q -- '-*' $word
            contains -- "$__swpks_path $word" $__swpks_valued
            and set value yes
        else if test $__swpks_operands -ge (__swpks_skip $__swpks_path)
                and contains -- "$__swpks_path $word" $__swpks_commands
            set __swpks_path "$__swpks_path $word"
            set __swpks_operands 0
        else
            set __swpks_operands (math $__swpks_operands + 1)
        end
    end
end

function __swpks_at --description 'Whether the words before the cursor lead to a command'
    __swpks_walk
    test "$__swpks_path" = "$argv"
end

function __swpks_next --description 'The same, with so many operands behind it'
    __swpks_walk
    test "$__swpks_path" = "$argv[1]" -a "$__swpks_operands" = "$argv[2]"
end

complete -c swpks -f
"""


def script(root: Command) -> str:
    """Return the script of fish."""
    commands = " \\\n    ".join(f"'{' '.join(each.path)}'" for each in root.all())
    valued = " \\\n    ".join(
        f"'{' '.join(each.path)} {name}'"
        for each in root.all()
        for option in each.options
        if option.value
        for name in option.names
    )
    # As in bash, the operands of a command stand before its subcommands.
    skips = "\n".join(
        f"        case '{' '.join(each.path)}'\n            echo {len(each.operands)}"
        for each in root.all()
        if each.commands and each.operands
    )
    lines = "\n".join(line for each in root.all() for line in _lines(each))
    return (
        "# fish completion for swpks, made of its parser: `swpks completion fish`.\n\n"
        f"set -g __swpks_commands \\\n    {commands}\n\nset -g __swpks_valued \\\n    {valued}\n\n"
        "function __swpks_skip --description 'How many operands stand before the commands of a command'\n"
        f"    switch \"$argv\"\n{skips}\n        case '*'\n            echo 0\n    end\nend\n"
        f"{_WALK}\n{lines}\n"
    )


def _lines(command: Command) -> Iterator[str]:
    path = " ".join(command.path)
    for sub in command.commands:
        at = f'__swpks_next "{path}" {len(command.operands)}'
        yield f"complete -c swpks -n '{at}' -a {sub.path[-1]} -d '{_plain(sub.about)}'"
    for option in command.options:
        word = " ".join(map(_flag, option.names)) + _value(option)
        yield f"complete -c swpks -n '__swpks_at \"{path}\"' {word} -d '{_plain(option.about)}'"
    for place, operand in enumerate(command.operands):
        if operand.choices or operand.kind:
            yield f"complete -c swpks -n '__swpks_next \"{path}\" {place}'{_value(operand, force=False)}"


def _flag(name: str) -> str:
    if name.startswith("--"):
        return f"-l {name[2:]}"
    return f"-s {name[1:]}" if len(name) == 2 else f"-o {name[1:]}"


def _value(argument: Argument, *, force: bool = True) -> str:
    """Return the options of `complete` for a value: none, a choice, a folder, a file, or any text."""
    if not argument.value:
        return ""
    required = " -r" if force else ""
    if argument.choices:
        return f"{required} -f -a '{' '.join(argument.choices)}'"
    if argument.kind == "folder":
        return f"{required} -f -a '(__fish_complete_directories)'"
    return f"{required} -F" if argument.kind else f"{required} -f"


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "/").replace("'", "\N{RIGHT SINGLE QUOTATION MARK}").split())
