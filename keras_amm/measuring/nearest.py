"""The images nearest to a decision boundary, to be looked at."""

from typing import Any, NamedTuple

import keras
import numpy as np

from keras_amm.deepfool import DeepFool
from keras_amm.network.classifier import Classifier
from keras_amm.report import MarginReport


class PerturbedImages(NamedTuple):
    """Images with the perturbations that change their prediction.

    Attributes:
        images: float array [k, ...].
        deltas: float array [k, ...], their perturbations.
        norms: float array [k], the margins.
        labels: integer array [k], the ground truth.
        predictions: integer array [k], the predicted classes.
        perturbed: integer array [k], the predicted classes of the perturbed images.
    """

    images: np.ndarray
    deltas: np.ndarray
    norms: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    perturbed: np.ndarray


class NearestImages:
    """Keeps the images of the smallest margins while a data set passes by.

    Images whose attack failed have no known margin and are left out; and so is
    what is no picture, [height, width] or [height, width, 1 or 3].

    Args:
        number: int, how many to keep.

    Example:
    >>> model = keras.Sequential([keras.Input((2, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> x, y = np.random.rand(8, 2, 2), np.arange(8) % 3
    >>> report = keras_amm.evaluate_margins(model, (x, y), verbose=0)
    >>> nearest = keras_amm.measuring.nearest.NearestImages(3)
    >>> nearest.add(x, report)
    >>> found = nearest.perturb(model, keras_amm.DeepFool())
    >>> bool(np.all(found.norms <= np.median(report.norms)))
    True
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept: list[np.ndarray] = []

    def add(self, x: Any, report: MarginReport) -> None:
        """Look at more images.

        Args:
            x: images [n, ...].
            report: what was measured of them.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[0.5], signed=[0.5], predictions=[1], labels=[1],
        ...     success=[True])
        >>> keras_amm.measuring.nearest.NearestImages(3).add(np.zeros((1, 2, 2)), report)
        """
        shape = np.shape(x)[1:]
        if len(shape) != 2 and shape[2:] not in ((1,), (3,)):
            return
        candidates = np.flatnonzero(report.success)
        index = candidates[np.argsort(report.norms[candidates], kind="stable")[: self._number]]
        if not index.size:
            return
        images = np.stack([np.asarray(x[i]) for i in index])
        found = [images, report.norms[index], report.labels[index], report.predictions[index]]
        if self._kept:
            found = [np.concatenate(both) for both in zip(self._kept, found, strict=True)]
        order = np.argsort(found[1], kind="stable")[: self._number]
        self._kept = [array[order] for array in found]

    def perturb(self, model: keras.Model, attack: DeepFool) -> PerturbedImages | None:
        """Attack the images kept once more, for their perturbations.

        Args:
            model: the classifier that was measured.
            attack: the `DeepFool` that it was measured with.

        Returns:
            `PerturbedImages`, the smallest margin first; None if there are none.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> keras_amm.measuring.nearest.NearestImages(3).perturb(model, keras_amm.DeepFool()) is None
        True
        """
        if not self._kept:
            return None
        images, norms, labels, predictions = self._kept
        classifier = Classifier(model, attack.from_logits)
        x = classifier.inputs(images)
        deltas = attack.perturb(model, x).delta
        perturbed = np.argmax(classifier(x + deltas), axis=1)
        return PerturbedImages(x.numpy(), deltas.numpy(), norms, labels, predictions, perturbed)
