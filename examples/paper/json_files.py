"""JSON files that are never half written."""

import json
import pathlib
from typing import Any


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write a file by renaming a new one: whoever reads it finds the old content or the new one, never a part."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)


def append_json(path: pathlib.Path, record: Any) -> None:
    """Add a record to the list in a file, which is made if there is none."""
    records = json.loads(path.read_text()) if path.exists() else []
    write_json(path, [*records, record])
