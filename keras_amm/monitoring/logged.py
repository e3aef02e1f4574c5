"""What `MarginLogger` adds to the logs: the names, and their values in a report."""

from collections.abc import Sequence

from keras_amm.report import MarginReport

SECONDS = "val_margin_seconds"
_ATTRIBUTES = {
    "val_margin": "margin",
    "val_margin_median": "margin_median",
    "val_signed_margin": "signed_mean",
    "val_paper_margin": "mean",
    "val_attack_success": "success_rate",
    "val_most_predicted_share": "most_predicted_share",
}


def name_of_radius(radius: float) -> str:
    """What the robust accuracy at a radius is called.

    Example:
    >>> keras_amm.monitoring.logged.name_of_radius(0.5)
    'robust_accuracy_0.5'
    """
    return f"robust_accuracy_{radius:g}"


def logged_names(radii: Sequence[float]) -> list[str]:
    """The names of `logged_values`."""
    return [*_ATTRIBUTES, *(f"val_{name_of_radius(radius)}" for radius in radii)]


def logged_values(report: MarginReport, radii: Sequence[float]) -> dict[str, float]:
    """The values of a report by their names in the logs."""
    values = [*(getattr(report, name) for name in _ATTRIBUTES.values()), *report.robust_accuracy(radii).tolist()]
    return dict(zip(logged_names(radii), values, strict=True))
