"""What was measured beside what the paper reports: orders, bounds, values."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .experiments import Arm, Cell, Paper
from .records import Results

# Errors that differ by fewer percentage points are in an order that more seeds could turn round: some two standard
# deviations over seeds, and ten test images.
CLOSE = 0.1
# Beyond these a value is told to differ: the paper's standard deviations of an error, a fraction of its margin.
DEVIATIONS = 2.0
MARGIN = 0.1


class Order(NamedTuple):
    """Two errors that the paper puts in an order.

    Attributes:
        other: `Results` that are compared with.
        lower: bool, whether the paper has the lower error in the first.
        agrees: bool, whether it is so here.
        is_close: bool, whether the two are nearly equal here.
    """

    other: Results
    lower: bool
    agrees: bool
    is_close: bool


def holds(paper: Paper, error: float) -> bool | None:
    """Whether a bound of the paper's text holds; None where it gives none."""
    if not paper.bound or paper.error is None:
        return None
    return error < paper.error if paper.bound == "<" else error > paper.error


def orders(one: Results, there: Sequence[Results], better: Sequence[tuple[Arm, Arm]] = ()) -> Iterator[Order]:
    """The rows beside one that the paper puts above or below it.

    Args:
        one: `Results`.
        there: all rows of a table or points of a figure.
        better: pairs of arms; the text says that the first errs less than the second in the same place.

    Yields:
        `Order`s, of rows of the same network.
    """
    for other in there:
        lower = _is_lower(one.cell, other.cell, better) if other is not one else None
        if lower is not None:
            agrees = one.error < other.error if lower else one.error > other.error
            yield Order(other, lower, agrees, is_close=abs(one.error - other.error) < CLOSE)


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


def differences(there: Sequence[Results], better: Sequence[tuple[Arm, Arm]] = ()) -> Iterator[str]:
    """A line for each order, bound, error and margin that is not the paper's.

    Args:
        there: the rows of a table or points of a figure.
        better: see `orders`.

    Yields:
        Strings.
    """
    for one, other in itertools.combinations(there, 2):
        for order in orders(one, [other], better):
            if not order.agrees:
                more = "no less" if order.lower else "no more"
                yield (
                    f"{_name(one)} ({one.error:.2f}%) errs {more} than {_name(other)} ({other.error:.2f}%); "
                    f"in the paper it does{_numbers(one.cell.paper, other.cell.paper)}."
                )
    for one in there:
        paper = one.cell.paper
        if holds(paper, one.error) is False:
            yield f"{_name(one)}: error {one.error:.2f}%, in the paper {paper.bound}{paper.error:.2f}%."
        if paper.spread is not None and abs(one.error - paper.error) > DEVIATIONS * paper.spread:
            yield f"{_name(one)}: error {one.error:.2f}%, in the paper {paper.error:.2f}% ± {paper.spread:.2f}."
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
