"""What follows from the norms, predictions and labels of a margin report: the margin of each image, and figures."""

from typing import Any

import numpy as np


class MarginFigures:
    """The arrays of a `MarginReport` of n images, and its figures of merit.

    Attributes:
        norms, signed, predictions, labels, success, attack_norms, attack: as the `MarginReport` takes them.

    Example:
    >>> report = keras_amm.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.25],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> report.margins, len(report)
    (array([1.5, 0. ], dtype=float32), 2)
    """

    norms: np.ndarray
    signed: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    success: np.ndarray
    attack_norms: np.ndarray
    attack: dict[str, Any]

    def __len__(self) -> int:
        """The number of images."""
        return int(self.norms.size)

    @property
    def correct(self) -> np.ndarray:
        """Boolean array [n], whether the prediction is the label."""
        return np.asarray(self.predictions == self.labels)

    @property
    def bounded_by_data(self) -> np.ndarray:
        """Boolean array [n], whether the data showed a boundary nearer than the attack's."""
        return np.asarray(self.norms < self.attack_norms)

    @property
    def margins(self) -> np.ndarray:
        """Float array [n], the norm where the prediction is right and its attack succeeded, and 0 elsewhere."""
        return np.asarray(np.where(self.correct & self.success, self.norms, np.float32(0.0)))

    @property
    def margin(self) -> float:
        """The mean of `margins` over all images: what `fit` shows as `margin` and `MarginLogger` as `val_margin`."""
        return float(np.mean(self.margins, dtype="float64"))

    @property
    def margin_median(self) -> float:
        """The median of `margins` over all images."""
        return float(np.median(self.margins))

    @property
    def signed_mean(self) -> float:
        """The mean of `signed` over all images, in which a correct image whose attack failed counts as 0."""
        failed = self.correct & ~self.success
        return float(np.mean(np.where(failed, np.float32(0.0), self.signed), dtype="float64"))

    @property
    def mean(self) -> float:
        """The paper's average: the mean norm over all images, whether the prediction is right or not."""
        return float(np.mean(self.norms, dtype="float64"))

    @property
    def median(self) -> float:
        """The median norm over all images, whether the prediction is right or not."""
        return float(np.median(self.norms))

    @property
    def accuracy(self) -> float:
        """The fraction of images that are correctly classified."""
        return float(np.mean(self.correct))

    @property
    def error(self) -> float:
        """The fraction of images that are misclassified."""
        return float(np.mean(~self.correct))

    @property
    def most_predicted_share(self) -> float:
        """The fraction of images that have the most frequent prediction; near 1 where a classifier collapses."""
        return float(np.max(np.unique(self.predictions, return_counts=True)[1]) / len(self))

    @property
    def norm_name(self) -> str:
        """The norm of all distances, `"l2"` or `"linf"`."""
        return str(self.attack.get("norm", "l2"))

    @property
    def success_rate(self) -> float:
        """The fraction of images whose attack changed the prediction."""
        return float(np.mean(self.success))
