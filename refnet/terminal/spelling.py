"""Settings in messages, with two spellings: ``batch=16`` for a Python caller, ``--batch 16`` for the command."""

import re
import shlex
from pathlib import PurePath

from refnet.terminal.printable import printable

# Control characters, which a printable name cannot contain.
_START, _BETWEEN, _END = "\x1d", "\x1e", "\x1f"
_SETTING = re.compile(f"{_START}([^{_START}{_END}]*){_BETWEEN}([^{_START}{_END}]*){_END}")
_NAME_ALONE = object()


def setting(name: str, value: object = _NAME_ALONE) -> str:
    """Return a setting for a message, in both spellings: ``batch=16`` for Python and ``--batch 16`` for the command."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, PurePath):
        value = str(value)
    if value is _NAME_ALONE:
        argument = name
    else:
        argument = f"{name}={value!r}"
        if isinstance(value, bool):
            flag = flag if value else f"--no-{flag[2:]}"
        else:
            items = value if isinstance(value, list | tuple) else [value]
            flag += f" {shlex.quote(','.join(map(str, items)))}"
    return f"{_START}{printable(argument)}{_BETWEEN}{printable(flag)}{_END}"


def quoted_path(path: object) -> str:
    """Return a path as a shell and a command take it; one that begins with a dash, like a flag, as ``./-x``."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def with_arguments(message: str) -> str:
    """Return the message as a Python caller reads it."""
    return _SETTING.sub(r"\1", message)


def with_flags(message: str) -> str:
    """Return the message as a user of the command reads it."""
    return _SETTING.sub(r"\2", message)
