"""The records: one JSON file of each cell, arm and seed."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
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


class OtherSettingsError(ValueError):
    """A record is of a cell or an arm that has been changed since."""


def settings(key: Key) -> dict[str, Any]:
    """What a record of this key must have been made with, of JSON's types."""
    made_with = {"cell": dataclasses.asdict(CELLS[key.cell]), "arm": {**ARMS[key.arm].settings}}
    return json.loads(json.dumps(made_with))


def read(key: Key, folder: pathlib.Path) -> Record | None:
    """The record of a key; None if there is none.

    Raises:
        OtherSettingsError: it was made with other settings.
    """
    path = key.path(folder)
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    if different := [name for name, value in settings(key).items() if record["settings"][name] != value]:
        raise OtherSettingsError(
            f"{path} was made with other settings of its {' and '.join(different)}. Remove it, and it is made again. "
            f"Received: {record['settings'][different[0]]}, expected: {settings(key)[different[0]]}."
        )
    return record


def read_all(keys: Iterable[Key], folder: pathlib.Path) -> dict[Key, Record]:
    """The records that are there, by key."""
    found = {key: read(key, folder) for key in keys}
    return {key: record for key, record in found.items() if record is not None}
