"""Interprets untrusted pickles, an instruction at a time, on plain-data values (see gan.foreign.pickle_values).

Python's own unpickler is never started: it would import and call whatever a file names.
"""

import io
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from gan.foreign.pickle_values import (
    KEY_TYPES,
    MAPPINGS,
    NESTED,
    REBUILD,
    Array,
    Global,
    Record,
    RefusedError,
    Storage,
    allowed,
    build_array,
    check_dtype_state,
    is_record,
    shown,
)

MAX_OPERATIONS = 5_000_000  # a large checkpoint has some 50 thousand


class Budget:
    """How much a file of so many bytes may cost."""

    def __init__(self, size: int) -> None:
        self.operations, self.bytes = MAX_OPERATIONS, 2 * size + 2**20

    def spend(self, operations: int = 0, copied: int = 0) -> None:
        """Raises RefusedError when a file wants more work or memory than an honest one needs."""
        self.operations -= operations
        self.bytes -= copied
        if self.operations < 0:
            raise RefusedError(f"has more than {MAX_OPERATIONS} pickle instructions")
        if self.bytes < 0:
            raise RefusedError("grows to a multiple of its size when it is read")


class Machine:
    """Carries out one pickle from a stream, up to its STOP."""

    def __init__(
        self,
        stream: io.BytesIO,
        budget: Budget,
        *,
        reference: Callable[[Any], Storage] | None = None,  # resolves a reference to a storage outside of the pickle
        nested: Callable[[bytes], Any] | None = None,  # reads a torch file inside of the pickle
    ) -> None:
        self.stream, self.budget, self.reference, self.nested = stream, budget, reference, nested
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.stream):
            self.budget.spend(operations=1)
            name = opcode.name
            if name == "STOP":
                return self.pop()
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            else:
                named = "" if argument is None else f" {shown(argument)}"
                raise RefusedError(f"holds the pickle instruction {name}{named}, which is refused")
        raise RefusedError("ends too early")

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise RefusedError("is damaged: a pickle instruction lacks its operand")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        position = self.marks.pop()
        items = self.stack[position:]
        del self.stack[position:]
        return items

    def top(self, kind: type) -> Any:
        """The value on top, which must be of a kind that can be added to."""
        value = self.pop()
        if not isinstance(value, kind):
            raise RefusedError(f"adds items to {_describe(value)}, which is refused")
        self.stack.append(value)
        return value

    def push_tuple(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, KEY_TYPES):
                raise RefusedError(f"holds a dict whose key is {_describe(key)}, which is refused")
            target[key] = value

    def find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("names something by other than text")
        self.stack.append(allowed(module, name))

    def call(self) -> None:
        """REDUCE and NEWOBJ: what is called must be on the list."""
        args, target = self.pop(), self.pop()
        if not isinstance(target, Global) or not isinstance(args, tuple):
            raise RefusedError(f"calls {_describe(target)}, which is refused")
        if target.name == NESTED:
            if self.nested is None or len(args) != 1 or not isinstance(args[0], bytes):
                raise RefusedError(f"holds {NESTED} where it does not belong")
            self.stack.append(self.nested(args[0]))
        elif target.name in REBUILD:
            self.budget.spend(copied=sum(len(a) for a in args if isinstance(a, str | bytes | list | tuple)))
            self.stack.append(REBUILD[target.name](*args))
        elif target.name in MAPPINGS and not args:
            self.stack.append({})
        elif is_record(target.name):
            self.stack.append(Record(target.name, args))
        else:
            raise RefusedError(f"calls {shown(target.name)}, which is refused")

    def build(self) -> None:
        """BUILD: state is stored, or checked; nothing is called."""
        state, target = self.pop(), self.pop()
        if isinstance(target, Record) and isinstance(state, dict):
            target.state.update(state)
            self.budget.spend(copied=len(state))
        elif isinstance(target, Array):
            build_array(target, state)
        elif isinstance(target, np.dtype):
            check_dtype_state(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):  # a dict's attributes are of no use here
            raise RefusedError(f"sets the state of {_describe(target)}, which is refused")
        self.stack.append(target)

    def refer(self) -> None:
        """BINPERSID: a storage in the same torch file."""
        key = self.pop()
        if self.reference is None:
            raise RefusedError("refers to something outside of it (a persistent id)")
        self.stack.append(self.reference(key))


def _describe(value: Any) -> str:
    return shown(value.name) if isinstance(value, Global | Record) else f"a {type(value).__name__}"


def _append(machine: Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)


def _dict(machine: Machine, pairs: list[Any]) -> None:
    machine.stack.append({})
    machine.set_items(pairs)


def _extend_set(machine: Machine, items: list[Any]) -> None:
    target = machine.top(set)
    if not all(isinstance(item, KEY_TYPES) for item in items):
        raise RefusedError("holds a set of something else than plain values")
    target.update(items)


def _swapped(machine: Machine) -> tuple[Any, Any]:
    name, module = machine.pop(), machine.pop()
    return module, name


def _put(machine: Machine, index: int) -> None:
    machine.memo[index] = _peek(machine)


def _peek(machine: Machine) -> Any:
    value = machine.pop()
    machine.stack.append(value)
    return value


_LITERALS = {  # instructions that push their argument
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_ACTIONS: dict[str, Callable[[Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "NONE": lambda m, _: m.stack.append(None),
    "NEWTRUE": lambda m, _: m.stack.append(True),
    "NEWFALSE": lambda m, _: m.stack.append(False),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.pop_to_mark(),
    "DUP": lambda m, _: m.stack.append(_peek(m)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _put),
    "MEMOIZE": lambda m, _: _put(m, len(m.memo)),
    **{name: lambda m, index: m.stack.append(m.memo[index]) for name in ("GET", "BINGET", "LONG_BINGET")},
    "EMPTY_TUPLE": lambda m, _: m.push_tuple(0),
    "TUPLE1": lambda m, _: m.push_tuple(1),
    "TUPLE2": lambda m, _: m.push_tuple(2),
    "TUPLE3": lambda m, _: m.push_tuple(3),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "LIST": lambda m, _: m.stack.append(m.pop_to_mark()),
    "APPEND": lambda m, _: _append(m, [m.pop()]),
    "APPENDS": lambda m, _: _append(m, m.pop_to_mark()),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "DICT": lambda m, _: _dict(m, m.pop_to_mark()),
    "SETITEM": lambda m, _: m.set_items(list(reversed([m.pop(), m.pop()]))),
    "SETITEMS": lambda m, _: m.set_items(m.pop_to_mark()),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "ADDITEMS": lambda m, _: _extend_set(m, m.pop_to_mark()),
    "GLOBAL": lambda m, name: m.find(*name.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.find(*_swapped(m)),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.refer(),
}
