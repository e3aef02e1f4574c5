"""What the user can mend: one line, and no traceback."""

import contextlib
import importlib.util
from collections.abc import Iterator


class CommandError(Exception):
    r"""Something given to a command is not fit for it; the message says what, and how to mend it.

    Args:
        message: string; line breaks become spaces.

    Example:
    >>> str(keras_amm.cli.errors.CommandError("No such\nfile."))
    'No such file.'
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextlib.contextmanager
def raising_command_error(before: str, *expected: type[BaseException]) -> Iterator[None]:
    """Turn the exceptions that unfit input is known to raise into a `CommandError`.

    Args:
        before: string, words before the exception's message.
        *expected: exception types. All others are bugs, and pass.

    Raises:
        CommandError: one of the expected exceptions was raised.

    Example:
    >>> with keras_amm.cli.errors.raising_command_error("Reading failed:", OSError):
    ...     pass
    """
    try:
        yield
    except expected as error:
        raise CommandError(f"{before} {error}") from error


def first_line(error: BaseException) -> str:
    r"""The first line of an exception's message; others list much that helps nobody.

    Args:
        error: the exception.

    Returns:
        String.

    Example:
    >>> keras_amm.cli.errors.first_line(ValueError("No such name.\nThere are: ..."))
    'No such name.'
    """
    return (str(error).strip().splitlines() or [""])[0]


def require(*packages: str) -> None:
    """Refuse to begin what cannot be finished without a package.

    Args:
        *packages: strings, names to import.

    Raises:
        CommandError: one of them is not installed.

    Example:
    >>> keras_amm.cli.errors.require("numpy")
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandError(f"This needs {', '.join(missing)}, not installed: pip install 'keras-amm[cli]'.")
