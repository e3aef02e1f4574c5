"""The report of the smallest norms that several attacks found for the same images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_amm.report import MarginReport

# What all of the attacks have in common; `MarginReport.norm_name` reads the norm.
_SHARED = ("deviation", "bounds", "norm")


def arguments(reports: "Sequence[MarginReport]") -> dict[str, Any]:
    """The arguments of the report of the smallest norms of reports that can be compared."""
    first = reports[0]
    success = np.any([report.success for report in reports], axis=0)
    norms, attack_norms = (
        _smallest([getattr(report, name) for report in reports], [report.success for report in reports])
        for name in ("norms", "attack_norms")
    )
    # Of a misclassified image it is minus the distance to the label. It is 0 where an attack could not move, and so
    # says nothing where another one could.
    to_label = np.array([report.signed for report in reports])
    is_stuck = (to_label == 0.0) & np.any(to_label < 0.0, axis=0)
    nearest_to_label = np.fmax.reduce(np.where(is_stuck, -np.inf, to_label))
    return {
        "norms": norms,
        "signed": np.where(first.correct, norms, nearest_to_label),
        "predictions": first.predictions,
        "labels": first.labels,
        "success": success,
        "attack_norms": attack_norms,
        "seconds": sum(report.seconds for report in reports),
        "attack": {
            "name": "the smallest of several",
            "attacks": [text for report in reports for text in _in_words(report.attack)],
            **{name: first.attack[name] for name in _SHARED if name in first.attack},
        },
        "model_name": first.model_name,
        "units": first.units,
    }


def _smallest(norms: list[np.ndarray], success: list[np.ndarray]) -> np.ndarray:
    """The smallest norm [n] of the attacks that succeeded, and of all where none did.

    Example:
    >>> keras_amm.report_smallest._smallest(
    ...     [np.array([1.0, 3.0]), np.array([0.5, 2.0])], [np.array([True, False]), np.array([False, False])])
    array([1., 2.])
    """
    counts = np.array(success) | ~np.any(success, axis=0)
    return np.asarray(np.fmin.reduce(np.where(counts, norms, np.inf)))


def _in_words(attack: dict[str, Any]) -> list[str]:
    """An attack with the arguments that are its own, or the attacks of a report that is the smallest of several."""
    if "attacks" in attack:
        return [*attack["attacks"]]
    own = {name: value for name, value in attack.items() if name not in ("name", *_SHARED)}
    return [f"{attack.get('name', 'DeepFool')}({', '.join(f'{name}={value!r}' for name, value in own.items())})"]
