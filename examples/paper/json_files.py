"""Files of JSON that no interruption leaves half written."""

import json
import pathlib
from typing import Any


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write a file that is whole at any moment: the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)
