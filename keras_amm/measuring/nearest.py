"""The images nearest to a decision boundary, to show them to a person."""

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_amm.network.classifier import Classifier
from keras_amm.network.pixel_units import to_pixel_units
from keras_amm.typing import Tensor, TensorLike


class PerturbedImages(NamedTuple):
    """Images with the perturbations that change their prediction, both in the units of the norms.

    Attributes:
        images: float array [k, ...]; of several sizes, smaller ones are filled up with zeros.
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
    """Keeps the images of the smallest margins, and their perturbations, as batch after batch is added.

    Images whose attack failed are left out, because their margin is not known. So are inputs that
    cannot be shown: a picture has the shape [height, width] or [height, width, 1 or 3].

    Args:
        number: int, how many to keep.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        # Image, perturbation, norm, label and prediction of each, the smallest norm first.
        self._kept: list[tuple[np.ndarray, np.ndarray, float, int, int]] = []

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
        """Add a batch of images x [B, ...], as they were given, and what was found for them, [B, ...] or [B]."""
        shape = np.shape(x)[1:]
        if len(shape) != 2 and shape[2:] not in ((1,), (3,)):
            return
        candidates = np.flatnonzero(success)
        index = candidates[np.argsort(norms[candidates], kind="stable")[: self._number]]
        if not index.size:
            return
        images = [np.asarray(x[i]) for i in index]
        found = zip(
            images, tf.gather(deltas, index).numpy(), norms[index], labels[index], predictions[index], strict=True
        )
        by_norm = operator.itemgetter(2)
        self._kept = sorted([*self._kept, *found], key=by_norm)[: self._number]

    def perturbed(self, classifier: Classifier) -> PerturbedImages | None:
        """The images kept, the smallest margin first, with the classes of the perturbed ones; None if none is kept."""
        if not self._kept:
            return None
        images, deltas, norms, labels, predictions = zip(*self._kept, strict=True)
        x = [classifier.inputs(image[None]) for image in images]
        deltas = [np.asarray(to_pixel_units(delta, classifier.deviation)) for delta in deltas]
        classes = [np.argmax(classifier(each + delta)[0]) for each, delta in zip(x, deltas, strict=True)]
        return PerturbedImages(
            _stacked([each[0].numpy() for each in x]),
            _stacked(deltas),
            *map(np.array, (norms, labels, predictions, classes)),
        )


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of one number of axes as one; where sizes differ, with zeros after what is smaller, to be looked at."""
    size = np.max([array.shape for array in arrays], axis=0)
    return np.stack(
        [np.pad(array, [(0, most - own) for most, own in zip(size, array.shape, strict=True)]) for array in arrays]
    )
