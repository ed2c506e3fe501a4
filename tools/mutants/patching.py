"""Change loaded functions: the quick way to try a mutant, without loading a module again."""

# Which changes can be patched
#
# A change inside a function is a change of its code object.  All functions that were made from that code get
# the new one: methods, closures, and those behind a decorator.  A change outside of functions, or of a
# function's defaults, cannot be made in this way.

import ast
import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, FunctionType

from tools.mutants.rooms import ROOT
from tools.mutants.sample import Mutant
from tools.mutants.sites import changed

Name = tuple[str, str, int]
"""The file of a function, its qualified name, and the line where it begins."""


def loaded_functions() -> dict[Name, list[FunctionType]]:
    """Return all functions that this process has loaded."""
    found = defaultdict(list)
    # The garbage collector knows all functions; modules do not name those in decorators and closures.
    for each in gc.get_objects():
        if type(each) is FunctionType:
            found[_name(each.__code__)].append(each)
    return found


def patched(mutant: Mutant, functions: Mapping[Name, Sequence[FunctionType]]) -> bool:
    """Replace the code of the functions that a mutant changes; False if it changes other code too."""
    path = ROOT / mutant.file
    source = path.read_text("utf-8")
    before = compile(ast.parse(source), str(path), "exec")
    after = compile(changed(source, mutant.number), str(path), "exec")
    pairs = list(_pairs(before, after, functions, reached=False))
    # A function with other free variables needs other cells, which the loaded function does not have.
    if not all(reached and len(old.co_freevars) == len(new.co_freevars) for old, new, reached in pairs):
        return False
    for old, new, _ in pairs:
        for function in functions.get(_name(old), []):
            function.__code__ = new
    return bool(pairs)


def _pairs(
    before: CodeType, after: CodeType, functions: Mapping[Name, Sequence[FunctionType]], *, reached: bool
) -> Iterator[tuple[CodeType, CodeType, bool]]:
    """Yield (old, new, reached) for each changed code object.

    `reached` says whether a loaded function contains it.
    """
    reached = reached or bool(functions.get(_name(before)))
    if before != after and (reached or _own(before) != _own(after)):
        yield before, after, reached
    for old, new in zip(_inner(before), _inner(after), strict=False):
        yield from _pairs(old, new, functions, reached=reached)


def _inner(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _own(code: CodeType) -> object:
    """Return the parts of a code object, without its inner functions, for a comparison."""
    constants = [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]
    return code.co_code, code.co_names, constants, len(_inner(code))


def _name(code: CodeType) -> Name:
    return code.co_filename, code.co_qualname, code.co_firstlineno
