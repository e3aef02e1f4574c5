"""Errors that the user of the command line can mend: shown as one line, without a traceback."""

import contextlib
import importlib.util
from collections.abc import Iterator


class CommandError(Exception):
    """What was given to a command cannot be used. The message, one line, says why and how to go on."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextlib.contextmanager
def raising_command_error(before: str, *expected: type[BaseException]) -> Iterator[None]:
    """Turn the expected exceptions into a `CommandError` that begins with `before`; all others are bugs, and pass."""
    try:
        yield
    except expected as error:
        raise CommandError(f"{before} {error}") from error


def first_line(error: BaseException) -> str:
    """The first line of an exception's message. The lines after it are often long lists of names."""
    return (str(error).strip().splitlines() or [""])[0]


def require(*packages: str) -> None:
    """Raise a `CommandError` if one of these packages is not installed, before any work is done."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"This needs {', '.join(missing)}, not installed: pip install {' '.join(missing)}.")
