"""The images nearest to a decision boundary, to be looked at."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_amm.network.classifier import Classifier
from keras_amm.typing import Tensor, TensorLike


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
    """Keeps the images of the smallest margins, and their perturbations, while a data set passes by.

    Images whose attack failed have no known margin and are left out; and so is
    what is no picture, [height, width] or [height, width, 1 or 3].

    Args:
        number: int, how many to keep.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept: list[np.ndarray] = []

    def add(
        self,
        x: TensorLike,
        deltas: Tensor,
        *,
        norms: np.ndarray,
        labels: np.ndarray,
        predictions: np.ndarray,
        success: np.ndarray,
    ) -> None:
        """Look at more images x [B, ...], as they were given, and at what was found for them, [B, ...] or [B]."""
        shape = np.shape(x)[1:]
        if len(shape) != 2 and shape[2:] not in ((1,), (3,)):
            return
        candidates = np.flatnonzero(success)
        index = candidates[np.argsort(norms[candidates], kind="stable")[: self._number]]
        if not index.size:
            return
        images = np.stack([np.asarray(x[i]) for i in index])
        found = [images, tf.gather(deltas, index).numpy(), norms[index], labels[index], predictions[index]]
        if self._kept:
            found = [np.concatenate(both) for both in zip(self._kept, found, strict=True)]
        order = np.argsort(found[2], kind="stable")[: self._number]
        self._kept = [array[order] for array in found]

    def perturbed(self, classifier: Classifier) -> PerturbedImages | None:
        """The images kept, the smallest margin first, and what the classifier says of them perturbed; None for none."""
        if not self._kept:
            return None
        images, deltas, norms, labels, predictions = self._kept
        x = classifier.inputs(images)
        classes = np.argmax(classifier(x + deltas), axis=1)
        return PerturbedImages(x.numpy(), deltas, norms, labels, predictions, classes)
