"""The records: one JSON file of each cell, arm and seed."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .arms import ARMS
from .cells import CELLS

FOLDER = pathlib.Path("results/helps")
Record = Mapping[str, Any]


class Key(NamedTuple):
    """Which training a record is of, and whether it was measured on test images."""

    cell: str
    arm: str
    seed: int
    test: bool = False

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """Where its record is."""
        return folder / f"{self.cell}.{self.arm}.{'test.' if self.test else ''}seed-{self.seed}.json"

    @classmethod
    def of(cls, path: pathlib.Path) -> "Key":
        """The key of the record in a file.

        Raises:
            RecordError: its name is not that of a record of today's cells and arms.
        """
        match = re.fullmatch(r"([\w-]+)\.([\w-]+)\.(test\.)?seed-(\d+)\.json", path.name)
        if match is None or match[1] not in CELLS or match[2] not in ARMS:
            raise RecordError(f"Expected a record of one of the cells and arms. Received: {path}.")
        return cls(match[1], match[2], int(match[4]), match[3] is not None)


class RecordError(ValueError):
    """A file is not a record of a cell and an arm as they are."""


def settings(key: Key) -> dict[str, Any]:
    """What a record of this key must have been made with, of JSON's types."""
    made_with = {"cell": dataclasses.asdict(CELLS[key.cell]), "arm": {**ARMS[key.arm].settings}}
    return json.loads(json.dumps(made_with))


def read(key: Key, folder: pathlib.Path) -> Record | None:
    """The record of a key; None if there is none.

    Raises:
        RecordError: it was made with other settings.
    """
    path = key.path(folder)
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    if different := [name for name, value in settings(key).items() if record["settings"][name] != value]:
        raise RecordError(
            f"{path} was made with other settings of its {' and '.join(different)}. Remove it, and it is made again. "
            f"Received: {record['settings'][different[0]]}, expected: {settings(key)[different[0]]}."
        )
    return record


def read_all(folder: pathlib.Path) -> dict[Key, Record]:
    """All records in a folder, which need not be there.

    Raises:
        RecordError: a file is not a record, or was made with other settings.
    """
    keys = [Key.of(path) for path in sorted(folder.glob("*"))]
    return {key: record for key in keys if (record := read(key, folder)) is not None}
