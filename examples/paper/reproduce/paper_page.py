"""A Markdown page of every cell of the paper: its value, ours, and a verdict; how many are filled stands at its top."""

import itertools
import re
from collections.abc import Sequence

from . import comparison
from .markdown import number, table
from .paper_cells import Entry
from .verdicts import AS_IN_THE_PAPER, DIFFERS, NOT_RUN, VERDICTS

_HEADER = """\
# Beside the paper: every cell

Made by `examples/beside_the_paper.py` from the records in `results/` and the paper's numbers in
`examples/paper/reproduce/paper_values.csv`.

{sentence}

A cell is a number: an error, or a margin where the paper gives one; or a curve, a point or a panel of a figure. A
training that several tables and figures show fills a cell in each. Of several trainings the longest counts. Errors are
in percent of the test images, margins mean DeepFool norms, both means ± standard deviations over seeds; with one seed
there is none. MIN is searched with `screening=0.3`, which hardly ever changes what it selects
([speed](margins.md#shortcuts-of-the-search)).

- **as in the paper**: within {deviations:g} of the paper's standard deviations; where it gives a bound, or only says
  which method errs least, that holds.
- **near**: the paper gives no deviation, and ours is within {margin:.0%} of its number.
- **differs**: neither of these, and something is known that sets the training apart, which is named.
- **open**: neither of these, and the cause is not known ([discussion](mnist_discussion.md)); or the paper only says
  which method errs least, and no other was run there, so that there is nothing to compare ours with.
- **not run**: there is no record.

"""
_TITLES = {
    "Table 1": "aggregation and shrinkage, MNIST",
    "Table 2": "high order gradients, MNIST",
    "Table 3": "MNIST",
    "Table 4": "CIFAR-10",
    "Table 5": "CIFAR-100",
    "Table 6": "SVHN",
    "Table 7": "ImageNet",
    "Figure 1": "linear classifiers on toy data",
    "Figure 2": "aggregation and shrinkage, error over epochs; the last is compared",
    "Figure 3": "high order gradients, error over epochs; the last is compared",
    "Figure 4": "fewer training images",
    "Figure 5": "random labels",
}
_NOTES = {
    "Table 4": "The paper does not tell its λ, c and d. How ours came about, and the library's default beside MIN+EXP, "
    "is [on a page of its own](cifar10.md). Margins of ResNet-20 are of the first 1,000 test images, "
    "and its reference is of the two starts from which MIN+EXP was trained.",
}
_NAMES = {
    **dict.fromkeys([f"Table {n}" for n in range(1, 8)], ("network", "training")),
    **dict.fromkeys(("Figure 1", "Figure 2", "Figure 3"), ("training",)),
    "Figure 4": ("images", "training"),
    "Figure 5": ("random labels", "training"),
}


def render(found: Sequence[Entry]) -> str:
    """The page's text."""
    places = {place: list(group) for place, group in itertools.groupby(found, lambda entry: entry.place)}
    header = _HEADER.format(sentence=sentence(found), deviations=comparison.DEVIATIONS, margin=comparison.MARGIN)
    heads = ("", "cells", "filled", "at the paper's epochs", *VERDICTS)
    summary = table(heads, [_counts(place, group) for place, group in places.items()])
    sections = (f"\n## {place}: {_TITLES[place]}\n\n{_note(place)}{_section(group)}" for place, group in places.items())
    return f"{header}{summary}{''.join(sections)}"


def sentence(found: Sequence[Entry]) -> str:
    """How many cells are filled, in a sentence or two."""
    cells, filled, at_epochs, as_in_the_paper, near, differ, are_open, _ = map(int, _counts("", found)[1:])
    alike = [entry for entry in found for verdict in entry.verdicts if verdict.kind == AS_IN_THE_PAPER]
    alike_at_epochs = sum(entry.is_at_the_papers_epochs for entry in alike)
    runs = {run for entry in found if entry.ours for run in entry.ours.runs}
    return (
        f"**Of the paper's {cells} cells {filled} are filled, {at_epochs} of them at its number of epochs**, by "
        f"{len(runs)} runs. {as_in_the_paper} are as in the paper, {alike_at_epochs} of these at its number of epochs; "
        f"{near} are near, {differ} differ for a cause that is named, and {are_open} are open."
    )


def quoted(text: str, found: Sequence[Entry]) -> str:
    """A text with the sentence as it is now, in place of the one that it quotes."""
    return re.sub(r"\*\*Of the paper's \d+ cells.*? are open\.", sentence(found), text, flags=re.DOTALL)


def _counts(place: str, group: Sequence[Entry]) -> list[str]:
    kinds = [verdict.kind for entry in group for verdict in entry.verdicts]
    filled = [entry.is_at_the_papers_epochs for entry in group for verdict in entry.verdicts if verdict.kind != NOT_RUN]
    return [place, *map(str, (len(kinds), len(filled), sum(filled), *map(kinds.count, VERDICTS)))]


def _note(place: str) -> str:
    return f"{_NOTES[place]}\n\n" if place in _NOTES else ""


def _section(group: Sequence[Entry]) -> str:
    """The rows of one table or figure; the columns of margins are there where the paper gives one."""
    has_margins = any(entry.paper.margin is not None for entry in group)
    heads = [*_NAMES[group[0].place], "the paper", "ours", "verdict"]
    heads += ["the paper's margin", "ours", "verdict"] if has_margins else ["our margin"]
    return table([*heads, "epochs", "seeds"], [_row(entry, has_margins) for entry in _without_repetition(group)])


def _without_repetition(group: Sequence[Entry]) -> list[Entry]:
    """The rows, and below them one for all points of a figure at which a training was not run."""
    points: dict[tuple[str, str], list[Entry]] = {}
    for entry in filter(_is_point_not_run, group):
        points.setdefault((entry.names[1], entry.said), []).append(entry)
    merged = [
        entries[0]._replace(names=(", ".join(entry.names[0] for entry in entries), training))
        for (training, _), entries in points.items()
    ]
    return [*itertools.filterfalse(_is_point_not_run, group), *merged]


def _is_point_not_run(entry: Entry) -> bool:
    """Whether a point of a figure was not run, and the paper gives no number for it."""
    return entry.place in ("Figure 4", "Figure 5") and entry.ours is None and entry.paper.error is None


def _row(entry: Entry, has_margins: bool) -> list[str]:
    paper, ours = entry.paper, entry.ours
    error = f"{paper.bound}{number(paper.error, paper.deviation, '%')}"
    said = ", ".join(filter(None, (error, entry.said)))
    cells = [*entry.names, said, entry.found or (number(ours.error, ours.error_deviation, "%") if ours else "")]
    cells.append(_verdict(entry, 0))
    margin = number(ours.margin, ours.margin_deviation) if ours else ""
    if has_margins:
        cells += [number(paper.margin, None), margin, _verdict(entry, 1) if len(entry.verdicts) > 1 else ""]
    else:
        cells.append(margin)
    length = f"{ours.epochs}" if entry.is_at_the_papers_epochs else f"{ours.epochs} of {entry.epochs}" if ours else ""
    return [*cells, length, f"{ours.seeds}" if ours else ""]


def _verdict(entry: Entry, index: int) -> str:
    kind, reason = entry.verdicts[index]
    text = f"**{kind}**" if kind == DIFFERS else kind
    return f"{text}: {reason}" if reason else text
