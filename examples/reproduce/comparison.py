"""What was measured beside what the paper reports: orders, bounds, values."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from experiments import Paper
from records import Results

# Beyond these a value is told to differ: the paper's standard deviations of an error, a fraction of its margin.
DEVIATIONS = 2.0
MARGIN = 0.1


def holds(paper: Paper, error: float) -> bool | None:
    """Whether a bound of the paper's text holds; None where it gives none."""
    if not paper.bound or paper.error is None:
        return None
    return error < paper.error if paper.bound == "<" else error > paper.error


def orders(one: Results, there: Sequence[Results]) -> Iterator[tuple[Results, bool]]:
    """The rows beside one that the paper has another error for, and whether they differ the same way.

    Args:
        one: `Results`.
        there: all rows of a table.

    Yields:
        Pairs of `Results` of the same network and bool.
    """
    mine = one.cell.paper
    if mine.error is None or mine.bound:
        return
    for other in there:
        paper = other.cell.paper
        comparable = paper.error is not None and not paper.bound and other.cell.network == one.cell.network
        if other is not one and comparable and paper.error != mine.error:
            yield other, (one.error < other.error) == (mine.error < paper.error)


def differences(there: Sequence[Results]) -> Iterator[str]:
    """A line for each order, bound, error and margin that is not the paper's.

    Args:
        there: the rows of a table.

    Yields:
        Strings.
    """
    for one, other in itertools.combinations(there, 2):
        for _, same in orders(one, [other]):
            if not same:
                yield (
                    f"Order not the paper's: {_name(one)} {one.error:.2f}% and {_name(other)} {other.error:.2f}%; "
                    f"paper {one.cell.paper.error:.2f}% and {other.cell.paper.error:.2f}%."
                )
    for one in there:
        paper = one.cell.paper
        if holds(paper, one.error) is False:
            yield f"Does not hold: {_name(one)} {one.error:.2f}%; paper {paper.bound}{paper.error:.2f}%."
        if paper.spread is not None and abs(one.error - paper.error) > DEVIATIONS * paper.spread:
            yield f"Error: {_name(one)} {one.error:.2f}%; paper {paper.error:.2f}% ± {paper.spread:.2f}."
        margin = float(np.mean(one.values("margin_mean")))
        if paper.margin is not None and abs(margin / paper.margin - 1.0) > MARGIN:
            yield f"Margin: {_name(one)} {margin:.2f}; paper {paper.margin:.2f}."


def _name(results: Results) -> str:
    _, *parts = results.cell.key
    return f"{results.cell.network} {', '.join(parts)}"
