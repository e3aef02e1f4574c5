"""What the paper reports, number by number: `paper_values.csv` was typed from its Tables 1 to 7 and its text."""

import csv
import functools
import pathlib
from typing import NamedTuple


class Paper(NamedTuple):
    """What the paper reports; None where it gives no number.

    Attributes:
        error: percent of the test images.
        deviation: its standard deviation over five runs.
        margin: mean DeepFool norm on the test images.
        bound: "<" or ">" where the text only says that the error is below or above `error`.
    """

    error: float | None = None
    deviation: float | None = None
    margin: float | None = None
    bound: str = ""


class Row(NamedTuple):
    """A row of a table, or a point of a figure.

    Attributes:
        place: "Table 3" or "Figure 4".
        training: as the paper calls it.
        network: as the paper calls it.
        value: of a figure, the number of training images or of random labels.
        augmentation: of the training images.
        paper: `Paper`.
        arm: our name of the way of training.
        model: our name of the network; empty where there is none here.
        remark: what else the paper says of the number.
    """

    place: str
    training: str
    network: str
    value: int | None
    augmentation: str
    paper: Paper
    arm: str
    model: str
    remark: str


@functools.cache
def rows() -> tuple[Row, ...]:
    """All rows, in the paper's order."""
    path = pathlib.Path(__file__).with_name("paper_values.csv")
    with path.open(newline="") as file:
        return tuple(_row(line) for line in csv.DictReader(file))


def _row(line: dict[str, str]) -> Row:
    number = {name: float(line[name]) if line[name] else None for name in ("error", "deviation", "margin")}
    return Row(
        line["place"],
        line["row"],
        line["network"],
        int(line["value"]) if line["value"] else None,
        line["augmentation"],
        Paper(**number, bound=line["bound"]),
        line["arm"],
        line["model"],
        line["remark"],
    )


def printed(place: str, arm: str, model: str = "mlp-800", value: int | None = None) -> Paper:
    """What the paper reports of one training.

    Args:
        place: "Table 3" or "Figure 4".
        arm: our name of the way of training.
        model: our name of the network.
        value: of a figure, the number of training images or of random labels.

    Returns:
        `Paper`, without numbers where it gives none.

    Example:
    >>> printed("Table 3", "min-exp", "lenet-mnist")
    Paper(error=0.56, deviation=0.02, margin=2.21, bound='')
    """
    found = [row.paper for row in rows() if (row.place, row.arm, row.model, row.value) == (place, arm, model, value)]
    return found[0] if found else Paper()
