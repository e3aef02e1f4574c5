"""What is measured of a trained network."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

import keras_amm
from examples.paper.data.arrays import Images
from keras_amm.report import MarginReport

# Attacks and predicts so many images at a time.
_BATCH_SIZE = 250


def attack() -> keras_amm.FastMinimumNorm:
    """The attack that measures margins, the tightest of the library: FMN from DeepFool's points."""
    return keras_amm.FastMinimumNorm(30, start=keras_amm.DeepFool(), from_logits=True)


def measure(
    network: keras.Model, train: Images, measured: Images, radius: float | None, num_attacked: int
) -> dict[str, Any]:
    """Error, margins and what shows a collapse.

    Args:
        network: `keras.Model` with logits.
        train: the images that it was trained on.
        measured: the images of which the error is measured.
        radius: float, of the robust accuracy; None for half of this network's own median margin.
        num_attacked: int, the first images of `measured` whose margins are measured.

    Returns:
        A dictionary that JSON can hold.
    """
    attacked = tuple(measured[:num_attacked])
    report = keras_amm.evaluate_margins(network, attacked, attack(), batch_size=_BATCH_SIZE, verbose=0)
    predictions = _predictions(network, measured.x)
    return {
        "images": len(measured),
        "error_percent": 100.0 * float(np.mean(predictions != measured.y)),
        "largest_predicted_share": largest_share(predictions),
        "largest_label_share": largest_share(measured.y),
        **margins(report, report.median / 2 if radius is None else radius),
        "training_accuracy": float(np.mean(_predictions(network, train.x) == train.y)),
        "measuring_seconds": report.seconds,
        "attack": report.attack,
    }


def in_brief(found: Mapping[str, Any]) -> str:
    """What `measure` found, in a few words."""
    return f"error {found['error_percent']:.2f} %, margin {found['margin']:.4f}"


def margins(report: MarginReport, radius: float) -> dict[str, Any]:
    """What a report says, in numbers; nothing is claimed of a correct image whose attack failed: its margin is 0."""
    return {
        "attacked_images": len(report),
        "margin": report.margin,
        "signed_mean": report.signed_mean,
        "margin_mean": report.mean,
        "margin_median": report.median,
        "attack_success": report.success_rate,
        "robust_radius": radius,
        "robust_accuracy": float(report.robust_accuracy(radius)),
    }


def _predictions(network: keras.Model, x: np.ndarray) -> np.ndarray:
    return network.predict(x, batch_size=_BATCH_SIZE, verbose=0).argmax(axis=1)


def largest_share(classes: np.ndarray) -> float:
    """The part of the most frequent class: 1 for the predictions of a constant classifier."""
    return float(np.bincount(classes).max() / len(classes))
