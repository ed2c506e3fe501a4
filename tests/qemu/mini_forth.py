"""A small Forth: as much as the firmware's text uses, with SLOF's vocabulary of client services.

As in SLOF, a name is resolved when the word that uses it is compiled. So `client-voc` must not be searched
first while a helper is defined: its own `exit` would be used. A word that makes an h-call suspends the
interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from swpks.qemu.firmware.forth import MACHINE_CODE, REGISTERS, RESULTS

CELL = 1 << 64
Program = Generator[tuple[int, ...], tuple[int, ...], None]
"""Code that runs until it makes an h-call: it yields r3 to r12, and is sent r3 to r5 of the answer."""


class ForthFailed(Exception):
    """An unknown word, or too few numbers on the stack."""


class Jump(NamedTuple):
    """A branch of a compiled word. If `always` is False, it is taken only for 0 on the stack."""

    to: int
    always: bool


class Variable:
    """A word made by `value`."""

    def __init__(self, number: int) -> None:
        self.number = number


class Store(NamedTuple):
    """`to` with its variable."""

    variable: Variable


Item = int | Jump | Store | Variable | str | list["Item"]
"""A part of a compiled word: a number, a variable, a primitive's name, or another word."""

CONTROL = {"if", "else", "then", "begin", "while", "repeat", "exit", ";"}


def signed(number: int) -> int:
    """Return a number as a cell of 64 bits holds it."""
    return (number + CELL // 2) % CELL - CELL // 2


class MiniForth:
    """The interpreter over the memory of a machine; allocations begin at `free`."""

    def __init__(self, memory: bytearray, free: int) -> None:
        self.memory = memory
        self.free = free
        self.stack: list[int] = []
        self.executed: list[list[Item]] = []
        self.core: dict[str, Item] = {name: name for name in PRIMITIVES}
        self.services: dict[str, Item] = dict.fromkeys(("exit", "read", "write", "open"), "exit-loader")
        self.services["quiesce"] = "slof-quiesce"
        self.order = [self.core]
        self.current = self.core

    def run(self, text: str) -> Program:
        """Interpret a text."""
        tokens = iter(text.lower().split())
        for token in tokens:
            if token == ":":
                name = next(tokens)
                body = self._body(tokens)
                self.current[name] = body
            elif token == "(":
                _skip(tokens)
            elif token == "value":
                self.current[next(tokens)] = Variable(self.stack.pop())
            elif token == "to":
                yield from self._do(self._to(next(tokens)))
            elif token == "'":
                self.stack.append(self._address(self.find(next(tokens))))
            else:
                yield from self._do(self.find(token))

    def call(self, service: str) -> Program:
        """Run a client service of that name; KeyError if there is none."""
        yield from self._do(self.services[service])

    def find(self, token: str) -> Item:
        """Return a word by the present search order, or a hexadecimal number."""
        for vocabulary in reversed(self.order):
            if token in vocabulary:
                return vocabulary[token]
        try:
            return int(token, 16)
        except ValueError:
            raise ForthFailed(f"{token}?") from None

    def _to(self, name: str) -> Store:
        variable = self.find(name)
        assert isinstance(variable, Variable)
        return Store(variable)

    def _address(self, item: Item) -> int:
        """Return an execution token for a word: the index of the word in `executed`."""
        self.executed.append([item])
        return len(self.executed) - 1

    def _body(self, tokens: Iterator[str]) -> list[Item]:
        body: list[Item] = []
        marks: list[int] = []
        for token in tokens:
            # A vocabulary may define a word `exit` of its own. No other control word can be hidden.
            control = token in CONTROL and not (token == "exit" and "exit" in self.order[-1])
            if token == "(":
                _skip(tokens)
            elif token == "to":
                body.append(self._to(next(tokens)))
            elif not control:
                body.append(self.find(token))
            elif token == ";":
                return body
            else:
                _compile(token, body, marks)
        raise ForthFailed("a word without its end")

    def _do(self, item: Item) -> Program:
        match item:
            case int():
                self.stack.append(signed(item))
            case Variable():
                self.stack.append(item.number)
            case Store():
                item.variable.number = self.pop()
            case list():
                yield from self._word(item)
            case str():
                yield from PRIMITIVES[item](self) or ()

    def _word(self, body: list[Item]) -> Program:
        at = 0
        while at < len(body):
            item = body[at]
            at += 1
            if not isinstance(item, Jump):
                yield from self._do(item)
            elif item.always or not self.pop():
                at = item.to

    def pop(self) -> int:
        if not self.stack:
            raise ForthFailed("the stack is empty")
        return self.stack.pop()


def _skip(tokens: Iterator[str]) -> None:
    for token in tokens:
        if token == ")":
            return


def _compile(token: str, body: list[Item], marks: list[int]) -> None:
    """Compile a control word; `marks` are the places of open branches and loops."""
    here = len(body)
    match token:
        case "if" | "while":
            marks.append(here)
            body.append(Jump(0, always=False))
        case "else":
            body[marks.pop()] = Jump(here + 1, always=False)
            marks.append(here)
            body.append(Jump(0, always=True))
        case "then":
            place = marks.pop()
            jump = body[place]
            assert isinstance(jump, Jump)
            body[place] = jump._replace(to=here)
        case "begin":
            marks.append(here)
        case "repeat":
            leave, start = marks.pop(), marks.pop()
            body.append(Jump(start, always=True))
            body[leave] = Jump(here + 1, always=False)
        case "exit":
            body.append(Jump(1 << 30, always=True))


def _binary(function: Callable[[int, int], int]) -> Callable[[MiniForth], None]:
    def word(forth: MiniForth) -> None:
        right, left = forth.pop(), forth.pop()
        forth.stack.append(signed(function(left, right)))

    return word


def _shuffle(count: int, *order: int) -> Callable[[MiniForth], None]:
    """Return a word that reorders the upper `count` numbers of the stack.

    `order` has the old places of the new numbers. Place 0 is the lowest.
    """

    def word(forth: MiniForth) -> None:
        given = [forth.pop() for _ in range(count)][::-1]
        forth.stack += [given[place] for place in order]

    return word


def _store(size: int) -> Callable[[MiniForth], None]:
    def word(forth: MiniForth) -> None:
        at, value = forth.pop(), forth.pop()
        forth.memory[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big")

    return word


def _fetch(size: int) -> Callable[[MiniForth], None]:
    def word(forth: MiniForth) -> None:
        at = forth.pop()
        number = int.from_bytes(forth.memory[at : at + size], "big")
        forth.stack.append(signed(number) if size == 8 else number)

    return word


def _alloc(forth: MiniForth) -> None:
    size = forth.pop()
    # The block does not begin at the start of a page, so the text has to align it.
    forth.stack.append(forth.free + 0x10)
    forth.free += size + 0x20


def _erase(forth: MiniForth) -> None:
    size, at = forth.pop(), forth.pop()
    forth.memory[at : at + size] = bytes(size)


def _move(forth: MiniForth) -> None:
    size, to, at = forth.pop(), forth.pop(), forth.pop()
    forth.memory[to : to + size] = forth.memory[at : at + size]


def _pick(forth: MiniForth) -> None:
    forth.stack.append(forth.stack[-1 - forth.pop()])


def _negate_bits(forth: MiniForth) -> None:
    forth.stack.append(~forth.pop())


def _is_zero(forth: MiniForth) -> None:
    forth.stack.append(-(forth.pop() == 0))


def _call_c(forth: MiniForth) -> Program:
    """Do what the machine code of the text does: make an h-call with the registers in memory.

    The text has no other machine code.
    """
    code, _, _, registers = forth.pop(), forth.pop(), forth.pop(), forth.pop()
    words = b"".join(word.to_bytes(4, "big") for word in MACHINE_CODE)
    assert forth.memory[code : code + len(words)] == words
    block = forth.memory[registers : registers + 80]
    answer = yield tuple(int.from_bytes(block[at : at + 8], "big") for at in range(0, 80, 8))
    for number, value in enumerate(answer):
        at = registers + RESULTS - REGISTERS + 8 * number
        forth.memory[at : at + 8] = value.to_bytes(8, "big")
    forth.stack.append(0)


def _execute(forth: MiniForth) -> Program:
    (item,) = forth.executed[forth.pop()]
    yield from forth._do(item)


def _also(forth: MiniForth) -> None:
    forth.order.append(forth.order[-1])


def _client_voc(forth: MiniForth) -> None:
    forth.order[-1] = forth.services


def _definitions(forth: MiniForth) -> None:
    forth.current = forth.order[-1]


def _previous(forth: MiniForth) -> None:
    forth.order.pop()


def _exit_loader(_forth: MiniForth) -> None:
    raise AssertionError("a word of the client interface in the place of Forth's own")


def _nothing(_forth: MiniForth) -> None:
    pass


PRIMITIVES: dict[str, Callable[[MiniForth], Program | None]] = {
    "+": _binary(lambda left, right: left + right),
    "-": _binary(lambda left, right: left - right),
    "*": _binary(lambda left, right: left * right),
    "and": _binary(lambda left, right: left & right),
    "min": _binary(min),
    "max": _binary(max),
    "=": _binary(lambda left, right: -(left == right)),
    ">": _binary(lambda left, right: -(left > right)),
    "0=": _is_zero,
    "invert": _negate_bits,
    "dup": _shuffle(1, 0, 0),
    "drop": _shuffle(1),
    "2drop": _shuffle(2),
    "swap": _shuffle(2, 1, 0),
    "nip": _shuffle(2, 1),
    "rot": _shuffle(3, 1, 2, 0),
    "-rot": _shuffle(3, 2, 0, 1),
    "pick": _pick,
    "!": _store(8),
    "l!": _store(4),
    "w!": _store(2),
    "c!": _store(1),
    "@": _fetch(8),
    "w@": _fetch(2),
    "alloc-mem": _alloc,
    "erase": _erase,
    "move": _move,
    "flushcache": _shuffle(2),
    "call-c": _call_c,
    "execute": _execute,
    "also": _also,
    "client-voc": _client_voc,
    "definitions": _definitions,
    "previous": _previous,
    "exit-loader": _exit_loader,
    "slof-quiesce": _nothing,
    "hex": _nothing,
}
