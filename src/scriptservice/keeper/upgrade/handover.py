"""The hand-over: the keeper's state in a file in memory, which the next program reads.

The keeper's present program calls ``write_state`` and then ``exec_next_program``. The next program
calls ``read_state``. Before the exec, a separate process with the next program's code calls
``run_check``, which tells whether that code accepts the state. The format has a version. A program
accepts a state only if the program knows each field of the state.
"""

import contextlib
import json
import os
import sys
import types
import typing
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from typing import Any

from scriptservice.keeper.config import KeeperConfig
from scriptservice.keeper.life.kept_command import KeptCommand
from scriptservice.keeper.spawn.new_process import SCRIPT_DESCRIPTOR
from scriptservice.keeper.system.identity import Identity
from scriptservice.keeper.upgrade_state import KeeperState
from scriptservice.protocol.frames import SpawnSpec
from scriptservice.protocol.journal_format import Kind

FORMAT = 1
_NAME = "scriptservice keeper"
_NOT_OF_THAT_TYPE: Any = object()


class HandoverError(Exception):
    """A hand-over cannot be accepted; the message gives the reason."""


def encode_state(state: KeeperState) -> bytes:
    """Return a state in the format of the hand-over."""
    document = {"what": _NAME, "format": FORMAT, "table": _plain(state)}
    return json.dumps(document, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Return a value as JSON has it; dataclasses and named tuples become dictionaries."""
    if is_dataclass(value) or hasattr(value, "_fields"):
        return {name: _plain(getattr(value, name)) for name in _defaults(type(value))}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _defaults(kind: Any) -> dict[str, bool]:
    """Return for each field of a dataclass or a named tuple whether it has a default."""
    if is_dataclass(kind):
        return {
            each.name: each.default is not MISSING or each.default_factory is not MISSING
            for each in fields(kind)
        }
    return {name: name in kind._field_defaults for name in kind._fields}


def decode_state(data: bytes) -> KeeperState:
    """Return the state that `encode_state` of this or an earlier release encoded.

    Raises:
        HandoverError: the data is not a hand-over, or this release does not know its contents.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        message = f"cannot read the hand-over: {error}"
        raise HandoverError(message) from error
    if not isinstance(document, dict) or document.get("what") != _NAME:
        message = "cannot read the hand-over: it was not written by a keeper"
        raise HandoverError(message)
    if document.get("format") != FORMAT:
        message = f"cannot take a hand-over of format {document.get('format')}, only {FORMAT}"
        raise HandoverError(message)
    state = _load(KeeperState, document.get("table"), "table")
    assert isinstance(state, KeeperState)  # noqa: S101 - for the type checker
    return state


def _load(hint: Any, value: Any, where: str) -> Any:
    """Convert a value to the type that a hint describes; dictionaries become dataclasses.

    Args:
        hint: the type of a field of `KeeperState`, or of a class that `KeeperState` contains.
        value: a value that `json` decoded.
        where: the path of the value in the hand-over, for messages.

    Raises:
        HandoverError: the value, or a value inside it, does not have the type that is required.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    result = _NOT_OF_THAT_TYPE
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        result = _load_fields(hint, value, where)
    elif isinstance(hint, type) and issubclass(hint, StrEnum) and value in set(hint):
        result = hint(value)
    elif origin is types.UnionType:
        (other,) = (each for each in arguments if each is not type(None))
        result = None if value is None else _load(other, value, where)
    elif origin is list and isinstance(value, list):
        result = [_load(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value)]
    elif origin is tuple and isinstance(value, list) and len(value) == len(arguments):
        pairs = zip(arguments, value, strict=True)
        result = tuple(_load(kind, item, where) for kind, item in pairs)
    elif origin is dict and isinstance(value, dict):
        result = {key: _load(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    elif hint is float and type(value) in (int, float):
        result = float(value)
    elif hint is Any or (origin is None and type(value) is hint):
        result = value
    if result is not _NOT_OF_THAT_TYPE:
        return result
    message = f"cannot take the hand-over: {where} is {type(value).__name__}, not {hint}"
    raise HandoverError(message)


def _load_fields(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        message = f"cannot take the hand-over: {where} is not an object"
        raise HandoverError(message)
    if kind is KeptCommand:
        try:
            value = KeptCommand.present_fields(value)
        except KeyError as error:
            message = f"cannot take the hand-over: {where} has no {error.args[0]}"
            raise HandoverError(message) from error
    known = _defaults(kind)
    if unknown := value.keys() - known.keys():
        message = f"cannot take the hand-over: {where} has {min(unknown)}, of a newer release"
        raise HandoverError(message)
    for name, is_optional in known.items():
        if name not in value and not is_optional:
            message = f"cannot take the hand-over: {where} has no {name}"
            raise HandoverError(message)
    hints = typing.get_type_hints(kind)
    return kind(**{name: _load(hints[name], value[name], f"{where}.{name}") for name in value})


def check_state(state: KeeperState) -> None:
    """Check a state: build each object that can be built from the state without a side effect.

    Raises:
        ValueError: this release does not know a value in the state.
        TypeError: this release does not know a field in the state, or needs another field.
    """
    KeeperConfig(**state.config)
    Identity(**state.identity)
    for spec_fields in state.waiting:
        SpawnSpec(**spec_fields)
    for record in state.ledger.pending:
        Kind(record.kind)
    if state.tree.mode not in ("cgroup", "walk"):
        message = f"cannot take the hand-over: its process trees are of kind {state.tree.mode}"
        raise ValueError(message)
    if state.child.life is not None:
        b64decode(state.child.life.received, validate=True)
        b64decode(state.child.life.outgoing, validate=True)


def write_state(memory: int, state: KeeperState) -> None:
    """Write a state to a file in memory.

    Args:
        memory: descriptor of the file, which is empty.
        state: the keeper's state.
    """
    rest = memoryview(encode_state(state))
    offset = 0
    while rest:
        written = os.pwrite(memory, rest, offset)
        rest, offset = rest[written:], offset + written


def read_state(memory: int) -> KeeperState:
    """Return the state that `write_state` wrote to a file in memory.

    Args:
        memory: descriptor of the file.

    Raises:
        HandoverError: see `decode_state`.
    """
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(memory, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
    return decode_state(b"".join(parts))


def run_check(memory: int) -> int:
    """Tell whether the code of this program accepts a state.

    The keeper starts a separate process for this function. First the function prints ``loaded``,
    because the process has imported the code. Then it waits for a byte on stdin, which the keeper
    sends when the state is written. Finally the function prints ``taken``, or the reason why the
    state is not accepted.

    Args:
        memory: descriptor of the file in memory that gets the state.

    Returns:
        The exit code: 0 if the state is accepted.
    """
    os.write(1, b"loaded\n")
    if not os.read(0, 1):
        return 1  # The keeper needs no answer any more and has closed the pipe.
    try:
        check_state(read_state(memory))
    except (HandoverError, ValueError, TypeError) as error:
        os.write(1, f"{error}\n".encode())
        return 1
    os.write(1, b"taken\n")
    return 0


@contextlib.contextmanager
def _inherited(descriptors: set[int]) -> Iterator[None]:
    """Let an exec in the block keep these descriptors open; undo this if the exec fails."""
    kept: list[int] = []
    try:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)  # noqa: FBT003
            kept.append(descriptor)
        yield
    finally:
        for descriptor in kept:
            os.set_inheritable(descriptor, False)  # noqa: FBT003


def exec_next_program(memory: int, state: KeeperState) -> None:
    """Execute the program that is now on the disk, in this same process.

    The process keeps its children and the descriptors that the state names.

    Args:
        memory: descriptor of the file in memory that contains the state.
        state: the state that this file contains.

    Raises:
        OSError: the exec failed, and nothing has changed.
    """
    program = sys.executable
    arguments = [program, "-I", "-m", "scriptservice.keeper", "--handover-fd", str(memory)]
    # `SCRIPT_DESCRIPTOR` stays open too. Otherwise another file of the next program could get this
    # number before the next program's spawner reserves the number.
    with _inherited(state.descriptors() | {memory, SCRIPT_DESCRIPTOR}):
        os.execv(program, arguments)  # noqa: S606 - no shell
