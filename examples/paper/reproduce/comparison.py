"""What was measured, compared with what the paper reports: orders, bounds and values."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .experiments import Arm, Cell
from .paper_values import Paper
from .records import Results

# Two errors are close if they differ by fewer percentage points than this, which is about two standard deviations over
# seeds, or ten test images: more seeds could reverse their order.
CLOSE = 0.1
# An error differs from the paper's if it is off by more than so many of the paper's standard deviations,
DEVIATIONS = 2.0
# and a margin if it is off by more than this fraction of the paper's.
MARGIN = 0.1


class Order(NamedTuple):
    """Two errors that the paper puts in an order.

    Attributes:
        one: the first `Results`.
        other: the second.
        lower: bool, whether the first has the lower error in the paper.
        agrees: bool, whether it has the same order here.
        is_close: bool, whether the two errors are nearly equal here.
    """

    one: Results
    other: Results
    lower: bool
    agrees: bool
    is_close: bool


def holds(paper: Paper, error: float) -> bool | None:
    """Whether a bound of the paper's text holds; None where it gives none."""
    if not paper.bound or paper.error is None:
        return None
    return error < paper.error if paper.bound == "<" else error > paper.error


def orders(finished: Sequence[Results], better: Sequence[tuple[Arm, Arm]] = ()) -> Iterator[Order]:
    """The pairs that the paper puts in an order, each once.

    Args:
        finished: all rows of a table or points of a figure that have results.
        better: pairs of arms; the text says that the first errs less than the second in the same place.

    Yields:
        `Order`s, of rows of the same network.
    """
    for one, other in itertools.combinations(finished, 2):
        lower = _is_lower(one.cell, other.cell, better)
        if lower is not None:
            agrees = one.error < other.error if lower else one.error > other.error
            yield Order(one, other, lower, agrees, is_close=abs(one.error - other.error) < CLOSE)


def _is_lower(one: Cell, other: Cell, better: Sequence[tuple[Arm, Arm]]) -> bool | None:
    """Whether the paper has a lower error in one place than in another; None where it does not say."""
    if one.network != other.network:
        return None
    mine, its = one.paper, other.paper
    if None not in (mine.error, its.error) and not (mine.bound or its.bound):
        return mine.error < its.error if mine.error != its.error else None
    if (one.num_train, one.num_random_labels) != (other.num_train, other.num_random_labels):
        return None
    if (one.arm, other.arm) in better:
        return True
    return False if (other.arm, one.arm) in better else None


def differences(finished: Sequence[Results], better: Sequence[tuple[Arm, Arm]] = ()) -> Iterator[str]:
    """A line for each order, bound, error and margin that is not the paper's.

    Args:
        finished: the rows of a table or points of a figure that have results.
        better: see `orders`.

    Yields:
        Strings.
    """
    for one, other, lower, agrees, _ in orders(finished, better):
        if not agrees:
            more = "no less" if lower else "no more"
            yield (
                f"{_name(one)} ({one.error:.2f}%) errs {more} than {_name(other)} ({other.error:.2f}%); "
                f"in the paper it does{_numbers(one.cell.paper, other.cell.paper)}."
            )
    for one in finished:
        paper = one.cell.paper
        if holds(paper, one.error) is False:
            yield f"{_name(one)}: error {one.error:.2f}%, in the paper {paper.bound}{paper.error:.2f}%."
        if paper.deviation is not None and abs(one.error - paper.error) > DEVIATIONS * paper.deviation:
            yield f"{_name(one)}: error {one.error:.2f}%, in the paper {paper.error:.2f}% ± {paper.deviation:.2f}."
        margin = float(np.mean(one.values("margin_mean")))
        if paper.margin is not None and abs(margin / paper.margin - 1.0) > MARGIN:
            yield f"{_name(one)}: margin {margin:.2f}, in the paper {paper.margin:.2f}."


def _numbers(one: Paper, other: Paper) -> str:
    if one.error is None or other.error is None:
        return ""
    return f", {one.bound}{one.error:.2f}% and {other.bound}{other.error:.2f}%"


def _name(results: Results) -> str:
    cell = results.cell
    return ", ".join([cell.network, cell.arm.title, *cell.key[2:]])
