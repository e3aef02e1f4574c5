"""What `evaluate_margins` measured: arrays, figures of merit, JSON and plots."""

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_amm import plots, report_comparison, report_json, report_smallest, report_summary
from keras_amm.report_figures import MarginFigures
from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MarginReport(MarginFigures):
    """The input-space margins of a classifier on n labelled images, made by `evaluate_margins` or from arrays.

    **Choose among models by `margin`**, which counts 0 where an image is misclassified or its attack failed, so that a
    collapse lowers it. **Compare with the paper's tables by `mean`**, which counts every image from the class predicted
    for it. Where an attack succeeded, the norm is an upper bound of the true distance.

    Args:
        norms: float array [n], the norm of the untargeted perturbation from the predicted class, in the units of the
            images. Where the attack failed, how far it went, so 0 where the network has no gradient.
        signed: float array [n], the norm where classified correctly, and minus the distance to the label elsewhere.
        predictions: integer array [n], the predicted classes.
        labels: integer array [n], the ground truth.
        success: boolean array [n], whether the untargeted attack changed the prediction, or the image
            itself is at a boundary, where the two largest logits are equal and the norm is 0.
        attack_norms: float array [n], the norms that the attack found, larger where the data showed a nearer boundary
            on the way to another image; None for `norms`.
        seconds: float, how long the measurement took.
        attack: the attack's configuration, of JSON's types; None for an empty one.
        model_name: the classifier's name.
        units: a note on the units of the norms, for `summary` and `plot`.

    Raises:
        ValueError: the arrays are empty, have more than one axis or differ in length.

    Example:
    >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.25],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> report.margin, report.signed_mean, report.mean, report.accuracy
    (0.75, 0.625, 1.0, 0.5)

    Reference: `mean` is the column "Margin" of Tables 3-7, Section 4.4 of the paper; `margin` counts misclassified
    images as Ding et al. do in "MMA Training" (ICLR 2020).
    """

    def __init__(
        self,
        *,
        norms: TensorLike,
        signed: TensorLike,
        predictions: TensorLike,
        labels: TensorLike,
        success: TensorLike,
        attack_norms: TensorLike | None = None,
        seconds: float = 0.0,
        attack: dict[str, Any] | None = None,
        model_name: str = "",
        units: str = "",
    ) -> None:
        given = {"norms": norms, "signed": signed, "predictions": predictions, "labels": labels, "success": success}
        arrays = report_json.arrays_of({**given, "attack_norms": attack_norms})
        self.norms = arrays["norms"]
        self.signed = arrays["signed"]
        self.predictions = arrays["predictions"]
        self.labels = arrays["labels"]
        self.success = arrays["success"]
        self.attack_norms = arrays["attack_norms"]
        self.seconds = float(seconds)
        self.attack = dict(attack or {})
        self.model_name = model_name
        self.units = units

    def __repr__(self) -> str:
        return f"<MarginReport of {len(self)} images: margin {self.margin:.4g}, accuracy {self.accuracy:.4f}>"

    def robust_accuracy(self, radii: TensorLike) -> np.ndarray:
        """The fraction of images correctly classified and not led astray within a radius.

        An image counts if its prediction is right and its norm is greater than the radius; where the attack failed,
        up to its norm and no further. So radius 0 gives the accuracy. As norms are upper bounds of the distance, the
        true robust accuracy tends to be lower.

        Args:
            radii: float or array of any shape, in the norm and the units of `norms`.

        Returns:
            Float64 array of the shape of `radii`.

        Raises:
            ValueError: a radius is negative or NaN.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, 0.5],
        ...     predictions=[3, 1], labels=[3, 1], success=[True, True])
        >>> report.robust_accuracy([0.0, 1.0, 2.0])
        array([1. , 0.5, 0. ])
        """
        return report_summary.robust_accuracy(self, radii)

    def summary(self, radii: TensorLike | None = None) -> str:
        """The report in a few lines.

        Args:
            radii: floats, at which to say the robust accuracy; None for round ones about the median margin.

        Returns:
            A string of several lines, without a trailing newline.

        Raises:
            ValueError: a radius is negative or NaN.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.25],
        ...     predictions=[3, 1], labels=[3, 2], success=[True, True], model_name="mlp")
        >>> print(report.summary())
        Margins of mlp on 2 images
          accuracy          50.00%  (1 misclassified)
          mean margin       0.7500  (0 where misclassified or the attack failed)
          median margin     0.7500
          quantiles        5%: 0.0750  25%: 0.3750  75%: 1.1250  95%: 1.4250
          signed mean       0.6250  (misclassified: minus the distance to the label)
          paper's mean      1.0000  (all images, from the predicted class)
          attack success   100.00%
          robust accuracy  1: 50.00%  2: 0.00%  5: 0.00%
          seconds             0.00
        """
        return report_summary.text_of(self, radii)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as standard JSON, from which `from_json` makes an equal one.

        Args:
            path: a file to write as well; None for none.

        Returns:
            The JSON, a string. NaN is null in it, infinities are strings.

        Example:
        >>> report = keras_amm.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
        >>> keras_amm.report.MarginReport.from_json(report.to_json()).norms
        array([0.1], dtype=float32)
        """
        arrays, others = ({name: getattr(self, name) for name in each} for each in report_json.NAMES)
        text = report_json.dumps(arrays, **others)
        if path is not None:
            pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> "MarginReport":
        """Read what `to_json` wrote.

        Args:
            source: the JSON itself, or the path of its file.

        Returns:
            A `MarginReport`.

        Raises:
            ValueError: it is not the JSON of a report.

        Example:
        >>> report = keras_amm.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
        >>> keras_amm.report.MarginReport.from_json(report.to_json()).margin == report.margin
        True
        """
        return cls(**report_json.read(source))

    @classmethod
    def concatenate(cls, reports: "Sequence[MarginReport]") -> "MarginReport":
        """One report of what several measured, on other images each, of the same model by the same attack.

        Args:
            reports: one `MarginReport` or more, in the order of the images.

        Returns:
            A `MarginReport` of all images. The seconds add up; all else is the first report's.

        Raises:
            ValueError: there is no report, or they are of different attacks.

        Example:
        >>> report = keras_amm.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
        >>> len(keras_amm.report.MarginReport.concatenate([report, report]))
        2
        """
        return cls(**report_json.joined(reports))

    def compare(self, other: "MarginReport") -> report_comparison.AttackComparison:
        """Whether another attack's report of these images agrees; if not, the model may mask its gradients.

        Args:
            other: what `evaluate_margins` measured by an attack that searches otherwise.

        Returns:
            An `AttackComparison`, which says in words what was found.

        Raises:
            TypeError: it is not a `MarginReport`.
            ValueError: the reports are not of the same images and model, or in different norms.

        Example:
        >>> report = keras_amm.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
        >>> report.compare(report).disagree
        False
        """
        _require_report(other)
        return report_comparison.compare(self, other)

    def smallest(self, *others: "MarginReport") -> "MarginReport":
        """The report of the smallest norm of several attacks on each image, as published margins often are.

        Every norm is an upper bound of the true distance, so the smallest is the nearest to it. Where one attack
        failed, those of the others count; an image of which all failed keeps the smallest of how far they went.

        Args:
            *others: what `evaluate_margins` measured of the same images and model by other attacks.

        Returns:
            A `MarginReport`, of success where any attack succeeded, and in which a misclassified image has the smallest
            of the distances to its label. Its `attack` names them all; the seconds add up.

        Raises:
            TypeError: one of them is not a `MarginReport`.
            ValueError: the reports cannot be compared, as in `compare`.

        Example:
        >>> arrays = dict(predictions=[3, 1], labels=[3, 2], success=[True, True])
        >>> first = keras_amm.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.75], **arrays)
        >>> second = keras_amm.MarginReport(norms=[1.0, 1.0], signed=[1.0, -0.25], **arrays)
        >>> smallest = first.smallest(second)
        >>> smallest.norms, smallest.signed
        (array([1. , 0.5], dtype=float32), array([ 1.  , -0.25], dtype=float32))

        Reference: Ding et al., "MMA Training" (ICLR 2020), whose margins are the smallest of several attacks.
        """
        for other in others:
            _require_report(other)
            report_comparison.require_comparable(self, other)
        return type(self)(**report_smallest.arguments([self, *others]))

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Figure":
        """Draw the distribution of the margins, and robust accuracy over the radius, without opening a window.

        Args:
            axes: two matplotlib axes to draw into; None for a new figure.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there are not two axes.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[0.1], signed=[0.1], predictions=[3], labels=[3], success=[1])
        >>> len(report.plot().axes)
        2
        """
        histogram, robustness = plots.style.panels(axes, 2, 5.0, 4.0)
        plots.margin_histogram(self, histogram)
        return plots.robust_accuracy(self, robustness)


def _require_report(other: Any) -> None:
    if not isinstance(other, MarginReport):
        raise TypeError(
            "Expected a MarginReport, as evaluate_margins makes of another attack. "
            f"Received: {other!r} of type {type(other).__name__}."
        )
