"""A margin report in a few lines, and the round radii at which it says how accurate the classifier stays."""

import math
from typing import TYPE_CHECKING

import numpy as np

from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from keras_amm.report import MarginReport

_QUANTILES = (0.05, 0.25, 0.75, 0.95)


def text_of(report: "MarginReport", radii: TensorLike | None) -> str:
    """The lines of a report, with its robust accuracy at some radii [n], or at round ones for None."""
    quantiles = zip(_QUANTILES, np.quantile(report.margins.astype("float64"), _QUANTILES), strict=True)
    wrong = int(np.sum(~report.correct))
    lines = [
        f"Margins of {report.model_name or 'the model'} on {len(report):,} image{'s' if len(report) > 1 else ''}",
        _line("accuracy", f"{report.accuracy:.2%}", f"{wrong} misclassified"),
        _line("mean margin", f"{report.margin:.4f}", "0 where misclassified or the attack failed"),
        _line("median margin", f"{report.margin_median:.4f}"),
        f"  quantiles        {'  '.join(f'{level:.0%}: {value:.4f}' for level, value in quantiles)}",
        _line("signed mean", f"{report.signed_mean:.4f}", "misclassified: minus the distance to the label"),
        _line("paper's mean", f"{report.mean:.4f}", "all images, from the predicted class"),
        _line("attack success", f"{report.success_rate:.2%}"),
    ]
    if bounded := int(np.sum(report.bounded_by_data)):
        note = f"{bounded:,}: on the way to another image, a boundary is nearer than the attack's"
        lines.append(_line("bounded by data", f"{bounded / len(report):.2%}", note))
    chosen = round_radii_of(report) if radii is None else np.ravel(radii)
    if len(chosen):
        shares = zip(chosen, report.robust_accuracy(chosen), strict=True)
        lines.append(f"  robust accuracy  {'  '.join(f'{radius:g}: {share:.2%}' for radius, share in shares)}")
    lines.append(_line("seconds", f"{report.seconds:.2f}"))
    if report.attack:
        lines.append(f"  attack           {', '.join(f'{name}={value}' for name, value in report.attack.items())}")
    if report.units:
        lines.append(f"  units            {report.units}")
    return "\n".join(lines)


def robust_accuracy(report: "MarginReport", radii: TensorLike) -> np.ndarray:
    """What `MarginReport.robust_accuracy` returns; a ValueError where a radius is negative or NaN."""
    radii = np.asarray(radii, dtype="float64")
    if not np.all(radii >= 0.0):
        raise ValueError(f"Radii must not be negative. Received: radii={radii!r}.")
    reached, given_up = (
        np.sort(report.norms[report.correct & mask].astype("float64")) for mask in (report.success, ~report.success)
    )
    robust = reached.size - np.searchsorted(reached, radii, side="right")
    robust = robust + given_up.size - np.searchsorted(given_up, radii, side="left")
    return np.asarray(robust / len(report), dtype="float64")


def round_radii_of(report: "MarginReport") -> list[float]:
    """Three round radii about the median margin of the images that have one; none if no image has."""
    margins = report.margins[np.isfinite(report.margins) & (report.margins > 0.0)]
    return round_radii(float(np.median(margins))) if margins.size else []


def round_radii(margin: float) -> list[float]:
    """The number of the series 1, 2, 5, 10, ... that is nearest to a positive margin, between its neighbours.

    Example:
    >>> keras_amm.report_summary.round_radii(0.84), keras_amm.report_summary.round_radii(230.0)
    ([0.5, 1.0, 2.0], [100.0, 200.0, 500.0])
    """
    power = math.floor(math.log10(margin))
    series = [float(f"{digit}e{power + i}") for i in (-1, 0, 1) for digit in (1, 2, 5)]
    nearest = min(range(len(series)), key=lambda i: abs(math.log(series[i] / margin)))
    return series[nearest - 1 : nearest + 2]


def _line(title: str, value: str, note: str = "") -> str:
    return f"  {title:<16}{value:>8}{f'  ({note})' if note else ''}"
