"""What a number of ours is beside one of the paper's: as in the paper, near, or neither."""

from typing import NamedTuple

from . import comparison
from .paper_values import Paper

AS_IN_THE_PAPER, NEAR, DIFFERS, OPEN, NOT_RUN = VERDICTS = ("as in the paper", "near", "differs", "open", "not run")


class Verdict(NamedTuple):
    """What is made of one cell: one of `VERDICTS`, and why."""

    kind: str
    reason: str = ""


def judge(paper: float | None, deviation: float | None, bound: str, ours: float | None) -> Verdict:
    """The verdict on a number, before its cause is looked for.

    Args:
        paper: the paper's number.
        deviation: its deviation over seeds; without one a number within a tenth of the paper's is only near.
        bound: "<" or ">" where the paper's number is a bound.
        ours: our number; None if it was not run.

    Returns:
        `Verdict`.

    Example:
    >>> judge(0.90, 0.03, "", 0.95).kind, judge(0.90, 0.03, "", 0.97).kind
    ('as in the paper', 'open')
    """
    if ours is None or paper is None:
        return Verdict(NOT_RUN)
    holds = comparison.holds(Paper(paper, bound=bound), ours)
    if holds is not None:
        return Verdict(AS_IN_THE_PAPER if holds else OPEN)
    # As they are printed, and without regard to the last bits.
    off = abs(round(ours, 2) - paper) - 1e-9
    if deviation is None:
        return Verdict(NEAR if off <= comparison.MARGIN * paper else OPEN)
    return Verdict(AS_IN_THE_PAPER if off <= comparison.DEVIATIONS * deviation else OPEN)
