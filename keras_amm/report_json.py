"""Margin reports as standard JSON, in which NaN is null and infinities are strings."""

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_amm.report import MarginReport

# A report's arrays and their dtypes.
ARRAYS = {
    "norms": "float32",
    "signed": "float32",
    "predictions": "int64",
    "labels": "int64",
    "success": "bool",
    "attack_norms": "float32",
}
# The names of what a report holds: arrays, and other arguments.
NAMES = tuple(ARRAYS), ("model_name", "units", "seconds", "attack")
# What files of earlier versions do not have: the norms then.
_LATER = ("attack_norms",)
_FORMAT = {"format": "keras_amm.MarginReport", "version": 1}


def arrays_of(given: dict[str, Any]) -> dict[str, np.ndarray]:
    """A report's arrays by name, of their dtypes; a ValueError if they are empty or unequal. None is `norms`."""
    arrays = {name: np.asarray(values, ARRAYS[name]) for name, values in given.items() if values is not None}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or arrays["norms"].ndim != 1 or not arrays["norms"].size:
        expected = "arrays of one axis and equal lengths, of one image or more"
        raise ValueError(f"A report needs {expected}. Received: {shapes}.")
    return {name: arrays.get(name, arrays["norms"]) for name in given}


def joined(reports: "Sequence[MarginReport]") -> dict[str, Any]:
    """The arguments of one report of what several say; a ValueError if there are none, or of different attacks."""
    if not reports or any(report.attack != reports[0].attack for report in reports):
        received = f"{len(reports)} reports, of attacks {[report.attack for report in reports[:3]]}"
        raise ValueError(f"Reports of one attack can be joined, one report or more. Received: {received}.")
    arrays, others = NAMES
    return {
        **{name: np.concatenate([getattr(report, name) for report in reports]) for name in arrays},
        **{name: getattr(reports[0], name) for name in others},
        "seconds": sum(report.seconds for report in reports),
    }


def dumps(arrays: dict[str, np.ndarray], *, model_name: str, units: str, seconds: float, attack: dict[str, Any]) -> str:
    """The JSON of a report: of its arrays [n] by name, and of its other arguments.

    Example:
    >>> arrays = {"norms": np.array([0.1, np.nan, np.inf], "float32"), "labels": np.array([3, 1, 0])}
    >>> keras_amm.report_json.dumps(arrays, model_name="mlp", units="l2", seconds=1.5, attack={})
    '{... "units": "l2", "seconds": 1.5, "attack": {}, "norms": [0.1, null, "inf"], "labels": [3, 1, 0]}'
    """
    content = {
        **_FORMAT,
        "model_name": model_name,
        "units": units,
        "seconds": _number(seconds),
        "attack": attack,
        **{name: _plain(array) for name, array in arrays.items()},
    }
    return json.dumps(content, allow_nan=False)


def read(source: str | os.PathLike[str]) -> dict[str, Any]:
    """A report's arguments, of its JSON or of the path of its file; a ValueError where it is not a report's."""
    if isinstance(source, str) and source.lstrip().startswith(("{", "[")):
        text = source
    else:
        with open(source, encoding="utf-8") as file:
            text = file.read()
    content = json.loads(text)
    if not isinstance(content, dict) or any(content.get(key) != value for key, value in _FORMAT.items()):
        raise ValueError(f"Expected the JSON of a margin report, version 1. Received: {text[:80]!r}.")
    needed = [name for name in ARRAYS if name not in _LATER]
    missing = sorted(set(needed) - set(content))
    if missing:
        raise ValueError(f"The JSON of a margin report must hold {needed}. Missing: {missing}.")
    return {
        **{name: content.get(name) for name in ARRAYS},
        **{
            name: [_float(value) for value in content[name]] for name in ("norms", "signed", *_LATER) if name in content
        },
        "seconds": _float(content.get("seconds", 0.0)),
        "attack": content.get("attack"),
        "model_name": content.get("model_name", ""),
        "units": content.get("units", ""),
    }


def _plain(array: np.ndarray) -> list[Any]:
    return [_number(value) for value in array] if array.dtype == np.float32 else array.tolist()


def _number(value: Any) -> float | str | None:
    """A float as standard JSON has it, in the fewest digits that give it back."""
    if not np.isfinite(value):
        return None if np.isnan(value) else str(float(value))
    short = float(str(value))
    return short if type(value)(short) == value else float(value)


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)
