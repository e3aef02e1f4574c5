"""TensorBoard summaries of margins."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_amm import plots
from keras_amm.measuring.nearest import PerturbedImages
from keras_amm.monitoring.logged import name_of_radius
from keras_amm.report import MarginReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MarginSummaries:
    """Writes margin reports for TensorBoard, into the folder `margins` of a log directory.

    The folder is apart from those of `keras.callbacks.TensorBoard`, so that the
    two may share a log directory. What an earlier run wrote stays.

    Args:
        log_dir: path of the log directory; made when something is written.
        class_names: sequence of strings, the names of the classes; None for their indices.
        axis: string, what TensorBoard's horizontal axis counts.
        radii: floats, radii in the norm of the margins, at which the robust accuracy is a scalar.

    Raises:
        ImportError: tensorboard or matplotlib is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        class_names: Sequence[str] | None = None,
        axis: str = "epoch",
        radii: Sequence[float] = (),
    ) -> None:
        try:
            import matplotlib  # noqa: F401
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "Summaries for TensorBoard need tensorboard and matplotlib, and one is not installed: "
                f"pip install tensorboard matplotlib. ({error}) Without log_dir margins are measured and logged alike."
            ) from error
        self._folder = os.path.join(os.fspath(log_dir), "margins")
        self._class_names = class_names
        self._axis = axis
        self._radii = radii
        self._writer: Any = None
        self._first: tuple[int, MarginReport] | None = None

    def write(self, report: MarginReport, nearest: PerturbedImages | None, step: int) -> None:
        """Write all summaries of one measurement at a step of the horizontal axis; `nearest` are images to show."""
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        self._first = self._first or (step, report)
        # keras.callbacks.TensorBoard may have set a condition under which no summary is recorded.
        with self._writer.as_default(step=step), tf.summary.record_if(True):
            _write_scalars(report, self._radii)
            self._write_classes(report)
            _write_histograms(report)
            tf.summary.image(
                "robust_accuracy", _pixels(self._curves(report, step)), description=_CURVE.format(norm=report.norm_name)
            )
            if nearest is not None:
                tf.summary.image("smallest_margins", _pixels(self._grid(nearest, report.norm_name)), description=_GRID)
        self._writer.flush()

    def require_names(self, num_classes: int) -> None:
        """Raise a ValueError if one of the classes has no name."""
        plots.style.class_name(num_classes - 1, self._class_names)

    def close(self) -> None:
        """Close the file; a later `write` begins another one beside it."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write_classes(self, report: MarginReport) -> None:
        for label in np.unique(report.labels):
            mean = np.mean(report.margins[report.labels == label], dtype="float64")
            name = plots.style.class_name(label, self._class_names)
            tf.summary.scalar(f"margin_by_class/{name}", mean, description=_CLASS)

    def _curves(self, report: MarginReport, step: int) -> "Figure":
        first_step, first = self._first or (step, report)
        reports = {f"{self._axis} {step}": report}
        if first_step != step:
            reports[f"{self._axis} {first_step}"] = first
        return plots.robust_accuracy(reports)

    def _grid(self, nearest: PerturbedImages, norm: str) -> "Figure":
        return plots.perturbation_grid(
            nearest.images,
            nearest.deltas,
            nearest.predictions,
            nearest.perturbed,
            labels=nearest.labels,
            class_names=self._class_names,
            norm=norm,
            # TensorBoard shows images in a small size.
            columns=4,
        )


# In the descriptions, {norm} is that of the distances.
_SCALARS = {
    "mean": ("margin", "Mean margin over all images, 0 where misclassified or the attack failed: val_margin."),
    "median": ("margin_median", "Median of the same margins: val_margin_median."),
    "signed_mean": ("signed_mean", "The same mean, but misclassified images count minus the distance to their label."),
    "paper_mean": ("mean", "The paper's average: mean {norm} norm over all images, from the predicted class."),
    "attack_success": ("success_rate", "Fraction of images whose prediction the attack changed."),
    "accuracy": ("accuracy", "Fraction of the measured images that are correctly classified."),
    "most_predicted_share": (
        "most_predicted_share",
        "Fraction of the measured images that have the most frequent prediction. It is near 1 where a classifier "
        "collapses.",
    ),
    "seconds": ("seconds", "How long this measurement took, in seconds."),
}
_CLASS = "Mean margin over all images of this label, 0 where misclassified or the attack failed."
_CORRECT = "Margins of the correctly classified images: {norm} norms from the predicted class."
_WRONG = "How far misclassified images are from their label: {norm} norms towards it."
_ROBUST = "Fraction of images correctly classified and not led astray by the attack within the {norm} radius."
_CURVE = (
    "Fraction of images correctly classified and not led astray by the attack within a {norm} radius, now and when "
    "this logger first measured. An attack finds upper bounds of the distances, so this is no certificate."
)
_GRID = "The images of the smallest margins: clean, the attack's perturbation, perturbed."


def _write_scalars(report: MarginReport, radii: Sequence[float]) -> None:
    for name, (attribute, description) in _SCALARS.items():
        described = description.format(norm=report.norm_name)
        tf.summary.scalar(f"margin/{name}", getattr(report, attribute), description=described)
    for radius, share in zip(radii, report.robust_accuracy(radii), strict=True):
        tf.summary.scalar(f"margin/{name_of_radius(radius)}", share, description=_ROBUST.format(norm=report.norm_name))


def _write_histograms(report: MarginReport) -> None:
    finite = np.isfinite(report.signed)
    for name, mask, description in (("correct", report.correct, _CORRECT), ("misclassified", ~report.correct, _WRONG)):
        described = description.format(norm=report.norm_name)
        tf.summary.histogram(f"margin/{name}", np.abs(report.signed[mask & finite]), description=described)


def _pixels(figure: "Figure") -> np.ndarray:
    """A figure as uint8 array [1, height, width, 4]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[np.newaxis]
