"""What `evaluate_margins` measured: arrays, figures of merit, JSON and plots."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_amm import plots, report_json
from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUANTILES = (0.05, 0.25, 0.75, 0.95)


class MarginReport:
    """The input-space margins of a classifier on n labelled images.

    Made by `keras_amm.evaluate_margins`; the constructor serves to put reports
    together from arrays. DeepFool finds *a* nearby point of another class, so
    where it succeeded the norm is an upper bound of the true distance.

    Args:
        norms: float array [n], the norm of the untargeted perturbation from
            the predicted class, in the units of the images. Where the attack
            failed, how far it went, so 0 where the network has no gradient:
            a failed attack is not taken for a large margin. The `margin` that
            an `AMMModel` shows in `fit` follows the same rule.
        signed: float array [n], the norm for correctly classified images, and
            minus the distance to the label for misclassified ones.
        predictions: integer array [n], the predicted classes.
        labels: integer array [n], the ground truth.
        success: boolean array [n], whether the untargeted attack changed the prediction, or the image
            itself is at a boundary, where the two largest logits are equal and the norm is 0.
        seconds: float, how long the measurement took.
        attack: the attack's configuration, of JSON's types; None for an empty one.
        model_name: the classifier's name.
        units: a note on the units of the norms, for `summary` and `plot`.

    Raises:
        ValueError: the arrays are empty, have more than one axis or differ in length.

    Example:
    >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.2],
    ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
    >>> report.mean, report.accuracy
    (1.0, 0.5)

    Reference: the column "Margin" of Tables 3-7, Section 4.4 of the paper: the
    mean of `norms` over all images, whether the prediction is right or not.
    """

    def __init__(
        self,
        *,
        norms: TensorLike,
        signed: TensorLike,
        predictions: TensorLike,
        labels: TensorLike,
        success: TensorLike,
        seconds: float = 0.0,
        attack: dict[str, Any] | None = None,
        model_name: str = "",
        units: str = "",
    ) -> None:
        given = {"norms": norms, "signed": signed, "predictions": predictions, "labels": labels, "success": success}
        arrays = {name: np.asarray(values, dtype=report_json.ARRAYS[name]) for name, values in given.items()}
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) != 1 or arrays["norms"].ndim != 1 or not arrays["norms"].size:
            raise ValueError(
                f"A report needs arrays of one axis and equal lengths, of one image or more. Received: {shapes}."
            )
        self.norms: np.ndarray = arrays["norms"]
        self.signed: np.ndarray = arrays["signed"]
        self.predictions: np.ndarray = arrays["predictions"]
        self.labels: np.ndarray = arrays["labels"]
        self.success: np.ndarray = arrays["success"]
        self.seconds = float(seconds)
        self.attack = dict(attack or {})
        self.model_name = model_name
        self.units = units

    def __len__(self) -> int:
        """The number of images."""
        return int(self.norms.size)

    def __repr__(self) -> str:
        return f"<MarginReport of {len(self)} images: mean {self.mean:.4g}, accuracy {self.accuracy:.4f}>"

    @property
    def correct(self) -> np.ndarray:
        """Boolean array [n], whether the prediction is the label."""
        equal: np.ndarray = self.predictions == self.labels
        return equal

    @property
    def mean(self) -> float:
        """The mean norm over all images, whether the prediction is right or not."""
        return float(np.mean(self.norms, dtype="float64"))

    @property
    def median(self) -> float:
        """The median norm over all images."""
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
    def success_rate(self) -> float:
        """The fraction of images whose attack changed the prediction."""
        return float(np.mean(self.success))

    def robust_accuracy(self, radii: TensorLike) -> np.ndarray:
        """The fraction of images correctly classified and not led astray within a radius.

        An image counts if its prediction is right and its norm is greater than
        the radius. Where the attack failed nothing was found beyond the norm
        either: such an image counts up to its norm and no further. So radius 0
        gives the accuracy. As the norms of successful attacks are upper bounds
        of the distance, the true robust accuracy tends to be lower.

        Args:
            radii: float or array of any shape, l2 radii in the units of the images.

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
        radii = np.asarray(radii, dtype="float64")
        if not np.all(radii >= 0.0):
            raise ValueError(f"Radii must not be negative. Received: radii={radii!r}.")
        reached = np.sort(self.norms[self.correct & self.success].astype("float64"))
        given_up = np.sort(self.norms[self.correct & ~self.success].astype("float64"))
        robust = reached.size - np.searchsorted(reached, radii, side="right")
        robust = robust + given_up.size - np.searchsorted(given_up, radii, side="left")
        return np.asarray(robust / len(self), dtype="float64")

    def summary(self) -> str:
        """The report in a few lines.

        Returns:
            A string of several lines, without a trailing newline.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.25],
        ...     predictions=[3, 1], labels=[3, 2], success=[True, True], model_name="mlp")
        >>> print(report.summary())
        Margins of mlp on 2 images
          accuracy        50.00%  (1 misclassified)
          mean margin     1.0000  (all images, from the predicted class)
          signed mean     0.6250  (misclassified: minus that to the label)
          median          1.0000
          quantiles       5%: 0.5500  25%: 0.7500  75%: 1.2500  95%: 1.4500
          attack success 100.00%
          seconds           0.00
        """
        quantiles = zip(_QUANTILES, np.quantile(self.norms.astype("float64"), _QUANTILES), strict=True)
        lines = [
            f"Margins of {self.model_name or 'the model'} on {len(self):,} image{'s' if len(self) > 1 else ''}",
            f"  accuracy       {self.accuracy:>7.2%}  ({np.sum(~self.correct)} misclassified)",
            f"  mean margin    {self.mean:>7.4f}  (all images, from the predicted class)",
            f"  signed mean    {np.mean(self.signed, dtype='float64'):>7.4f}  (misclassified: minus that to the label)",
            f"  median         {self.median:>7.4f}",
            f"  quantiles       {'  '.join(f'{level:.0%}: {value:.4f}' for level, value in quantiles)}",
            f"  attack success {self.success_rate:>7.2%}",
            f"  seconds        {self.seconds:>7.2f}",
        ]
        if self.attack:
            lines.append(f"  attack          {', '.join(f'{name}={value}' for name, value in self.attack.items())}")
        if self.units:
            lines.append(f"  units           {self.units}")
        return "\n".join(lines)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as standard JSON, from which `from_json` makes an equal one.

        Args:
            path: a file to write as well; None for none.

        Returns:
            The JSON, a string. NaN is null in it, infinities are strings.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[0.1], signed=[0.1], predictions=[3],
        ...     labels=[3], success=[True])
        >>> keras_amm.report.MarginReport.from_json(report.to_json()).norms
        array([0.1], dtype=float32)
        """
        text = report_json.dumps(
            {name: getattr(self, name) for name in report_json.ARRAYS},
            model_name=self.model_name,
            units=self.units,
            seconds=self.seconds,
            attack=self.attack,
        )
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
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
        >>> import pathlib, tempfile
        >>> report = keras_amm.report.MarginReport(norms=[0.1], signed=[0.1], predictions=[3],
        ...     labels=[3], success=[True])
        >>> path = pathlib.Path(tempfile.mkdtemp(), "margins.json")
        >>> text = report.to_json(path)
        >>> keras_amm.report.MarginReport.from_json(path).mean == report.mean
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
        >>> report = keras_amm.report.MarginReport(norms=[0.1], signed=[0.1], predictions=[3],
        ...     labels=[3], success=[True])
        >>> len(keras_amm.report.MarginReport.concatenate([report, report]))
        2
        """
        if not reports or any(report.attack != reports[0].attack for report in reports):
            raise ValueError(
                "Reports of one attack can be joined, one report or more. "
                f"Received: {len(reports)} reports, of attacks {[report.attack for report in reports[:3]]}."
            )
        return cls(
            **{name: np.concatenate([getattr(report, name) for report in reports]) for name in report_json.ARRAYS},
            seconds=sum(report.seconds for report in reports),
            attack=reports[0].attack,
            model_name=reports[0].model_name,
            units=reports[0].units,
        )

    def plot(self, axes: "Sequence[Axes] | None" = None) -> "Figure":
        """Draw the distribution of the margins, and robust accuracy over the radius.

        No window opens: save the figure by `figure.savefig(path)`, or let a notebook show it.

        Args:
            axes: two matplotlib axes to draw into; None for a new figure.

        Returns:
            The matplotlib figure.

        Raises:
            ImportError: matplotlib is not installed.
            ValueError: there are not two axes.

        Example:
        >>> report = keras_amm.report.MarginReport(norms=[1.5, 0.5], signed=[1.5, -0.2],
        ...     predictions=[3, 1], labels=[3, 2], success=[True, True])
        >>> len(report.plot().axes)
        2
        """
        histogram, robustness = plots.style.panels(axes, 2, 5.0, 4.0)
        plots.margin_histogram(self, histogram)
        return plots.robust_accuracy(self, robustness)
