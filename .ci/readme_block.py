"""Print the commands that README.md gives, so that CI runs what a newcomer runs.

Usage: readme_block.py NAME [README]

The block is fenced as bash and follows a line `<!-- ci: NAME -->`:

    <!-- ci: install -->
    ```bash
    pip install -e ".[tests]"
    ```
"""

import re
import sys
from pathlib import Path

_FENCE = re.compile(r"^(?P<marks>`{3,}|~{3,})\s*(?P<language>\w*)\s*$")


def readme_block(text: str, name: str) -> str:
    """The one block marked with the name.

    Args:
        text: Markdown.
        name: the word in the marker.

    Returns:
        The commands, one per line.

    Raises:
        ValueError: there is no such block, or more than one, or it is empty,
            not closed or not bash.
    """
    lines = text.splitlines()
    marker = re.compile(rf"^\s*<!--\s*ci:\s*{re.escape(name)}\s*-->\s*$")
    found = [number for number, line in enumerate(lines) if marker.match(line)]
    if len(found) != 1:
        raise ValueError(f"Expected one marker <!-- ci: {name} -->. Found {len(found)}.")
    following = iter(lines[found[0] + 1 :])
    opening = next((line for line in following if line.strip()), "")
    fence = _FENCE.match(opening)
    if fence is None or fence["language"] not in ("bash", "sh"):
        raise ValueError(f"Expected a block fenced as bash after <!-- ci: {name} -->. Found: {opening!r}.")
    commands = []
    for line in following:
        if line.rstrip() == fence["marks"]:
            break
        commands.append(line)
    else:
        raise ValueError(f"The block after <!-- ci: {name} --> is not closed.")
    if not any(line.strip() for line in commands):
        raise ValueError(f"The block after <!-- ci: {name} --> is empty.")
    return "\n".join(commands) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[2] if len(sys.argv) > 2 else "README.md")
    try:
        sys.stdout.write(readme_block(path.read_text(encoding="utf-8"), sys.argv[1]))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")
