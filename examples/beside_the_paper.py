"""Every cell of the paper's Tables 1 to 7 and Figures 1 to 5 beside what the records have of it, on one page.

    python examples/beside_the_paper.py

writes `docs/results/beside_the_paper.md` from the records in `results`, of `reproduce.py` (`results/records`) and of
`cifar10.py` (`results/cifar10`), and renews the count of filled cells that README.md quotes. It trains nothing.
"""

import pathlib

from absl import app, flags

from paper.reproduce import paper_page
from paper.reproduce.paper_cells import entries
from paper.reproduce.records import RecordError

_RESULTS = flags.DEFINE_string("results", "results", "folder of the records")
_PAGE = flags.DEFINE_string("page", "docs/results/beside_the_paper.md", "Markdown file to write")
_README = flags.DEFINE_string("readme", "README.md", "Markdown file that quotes the count; empty for none")


def main(argv: list[str]) -> None:
    """Write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    results = pathlib.Path(_RESULTS.value)
    if not results.is_dir():
        raise app.UsageError(f"There is no folder {results}: name that of the records with --results.")
    try:
        found = entries(results)
        page = pathlib.Path(_PAGE.value)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(paper_page.render(found))
        if _README.value:
            readme = pathlib.Path(_README.value)
            readme.write_text(paper_page.quoted(readme.read_text(), found))
        print(f"{paper_page.sentence(found)}\nSaved {page}")
    except (RecordError, OSError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    app.run(main)
