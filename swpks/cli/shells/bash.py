"""The completion for bash (3.2 or newer): tables of words, and a function that walks along the line."""

from __future__ import annotations

from collections.abc import Iterator

from swpks.cli.words import Argument, Command

_WALK = r"""
_swpks() {
    local cur=${COMP_WORDS[COMP_CWORD]} path=swpks word i operands=0 option=
    local subs opts valued skip values kind
    COMPREPLY=()
    _swpks_of "$path"
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ -n $option ]]; then
            [[ $word == '=' ]] || option=  # bash takes --option=value apart into three words
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && option=$word
        elif [[ $operands -ge $skip && " $subs " == *" $word "* ]]; then
            path="$path $word" operands=0
            _swpks_of "$path"
        else
            operands=$((operands + 1))
        fi
    done
    values= kind=
    if [[ -n $option ]]; then
        [[ $cur == '=' ]] && cur=
        _swpks_values "$path $option"
    elif [[ $cur == -* ]]; then
        values=$opts
    elif [[ -n $subs && $operands -ge $skip ]]; then
        values=$subs
    else
        _swpks_values "$path $operands"
    fi
    [[ -z $kind ]] || local IFS=$'\n'  # a name of a file may have blanks
    case $kind in
    folder) COMPREPLY=($(compgen -d -- "$cur")) ;;
    file) COMPREPLY=($(compgen -f -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$values" -- "$cur")) ;;
    esac
    [[ -z $kind ]] || compopt -o filenames 2>/dev/null
    return 0
}

complete -F _swpks swpks
"""


def script(root: Command) -> str:
    """Return the script of bash."""
    commands = "\n".join(map(_row, root.all()))
    values = "\n".join(row for command in root.all() for row in _values(command))
    return (
        "# bash completion for swpks, made of its parser: `swpks completion bash`.\n\n"
        f"_swpks_of() {{\n    subs= opts= valued= skip=0\n    case $1 in\n{commands}\n    esac\n}}\n\n"
        f"_swpks_values() {{\n    case $1 in\n{values}\n    esac\n}}\n{_WALK}"
    )


def _row(command: Command) -> str:
    """Return the row of a command: its subcommands, its options, and the options with a value."""
    subs = " ".join(each.path[-1] for each in command.commands)
    opts = " ".join(name for each in command.options for name in each.names)
    valued = " ".join(name for each in command.options if each.value for name in each.names)
    # Operands come before the subcommand: the NAME of `swpks lpar NAME VERB` is no verb.
    skip = len(command.operands) if command.commands else 0
    return f"    '{' '.join(command.path)}') subs='{subs}' opts='{opts}' valued='{valued}' skip={skip} ;;"


def _values(command: Command) -> Iterator[str]:
    """Yield a row of possible values for each option, by its name, and each operand, by its position."""
    path = " ".join(command.path)
    named = [(name, each) for each in command.options for name in each.names if each.value]
    for name, each in [*named, *((str(n), each) for n, each in enumerate(command.operands))]:
        if value := _value(each):
            yield f"    '{path} {name}') {value} ;;"


def _value(argument: Argument) -> str:
    if argument.choices:
        return f"values='{' '.join(argument.choices)}'"
    return f"kind={argument.kind}" if argument.kind else ""
