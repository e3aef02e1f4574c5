"""Writes docs/results/helps.md from the records, and from nothing else.

python -m benchmarks.helps.report
python -m benchmarks.helps.report --records=other/folder --page=other.md
"""

import pathlib
import sys

from absl import app, flags

from .page import page
from .records import FOLDER, RecordError, read_all

_RECORDS = flags.DEFINE_string("records", str(FOLDER), "Folder of the records.")
_PAGE = flags.DEFINE_string("page", "docs/results/helps.md", "Page to write.")


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    try:
        records = read_all(pathlib.Path(_RECORDS.value))
    except RecordError as error:
        sys.exit(str(error))
    pathlib.Path(_PAGE.value).write_text(page(records))


if __name__ == "__main__":
    app.run(main)
