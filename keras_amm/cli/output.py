"""The files that a command writes: tried before anything is measured, written after."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keras_amm.cli.errors import raising_command_error


class Results:
    """The files of a command, in one folder, which is made where there is none.

    Args:
        folder: its path.
        names: the names of all files that may be written.

    Raises:
        CommandError: one of them could not be written.

    Example:
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> results = keras_amm.cli.output.Results(folder, ["a.txt"])
    >>> results.write({"a.txt": lambda path: path.write_text("a")})
    Wrote ...a.txt
    >>> results.write({"a.txt": lambda path: path.write_text("b")})
    Wrote ...a.txt
    Replaced what was there before: a.txt
    """

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self.folder = pathlib.Path(folder)
        with raising_command_error("There is no folder for the results:", OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        with raising_command_error("The results could not be written:", OSError):
            for name in names:
                _try(self.folder / name)

    def write(self, writers: Mapping[str, Callable[[pathlib.Path], Any]]) -> None:
        """Write files, and print which, and which of them were there before.

        Args:
            writers: by name of the file, what writes it to a path.

        Raises:
            CommandError: a file cannot be written. Those before it are.
        """
        written, replaced = [], []
        try:
            with raising_command_error("The results cannot be written:", OSError):
                for name, write in writers.items():
                    path = self.folder / name
                    was_there = path.exists()
                    write(path)
                    written.append(str(path))
                    replaced += [name] if was_there else []
        finally:
            if written:
                print(f"Wrote {', '.join(written)}")
            if replaced:
                print(f"Replaced what was there before: {', '.join(replaced)}")


def _try(path: pathlib.Path) -> None:
    was_there = path.exists()
    # To append leaves what is there as it is.
    with path.open("ab"):
        pass
    if not was_there:
        path.unlink()
