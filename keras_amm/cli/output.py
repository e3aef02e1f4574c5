"""The files that a command writes. Whether they can be written is tried before anything is measured."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keras_amm.cli.errors import raising_command_error


class Results:
    """The files that a command may write, by their names, into one folder, which is made if there is none."""

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self.folder = pathlib.Path(folder)
        with raising_command_error("There is no folder for the results:", OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        with raising_command_error("The results could not be written:", OSError):
            for name in names:
                _try(self.folder / name)

    def write(self, writers: Mapping[str, Callable[[pathlib.Path], Any]]) -> None:
        """Write each file by the function under its name; print which were written, and which replaced another."""
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
    """Raise the OSError that writing the file would raise, and leave everything as it was."""
    was_there = path.exists()
    # Opened to append, a file keeps its content.
    with path.open("ab"):
        pass
    if not was_there:
        path.unlink()
