"""Measuring margins from the command line: progress, the same images for all models, and an early end."""

import contextlib
import sys
import time
from typing import NamedTuple

import keras
import numpy as np

from keras_amm.cli.errors import CommandError, raising_command_error
from keras_amm.cli.loading import Request
from keras_amm.cli.models import num_classes
from keras_amm.cli.pixels import require_within_bounds
from keras_amm.measuring.measurer import Measurer
from keras_amm.measuring.notes import notes_on
from keras_amm.report import MarginReport

_SECONDS_BETWEEN_LINES = 30.0
_MOST_CLASSES_LISTED = 20


class Measurement(NamedTuple):
    """What was measured, and what ended it.

    Attributes:
        reports: by the models' names, the `MarginReport` of each, all of the same images in the order of the data.
        images: what the images are, and what was done to their pixels.
        classes: how many images of each class were measured.
        ended_by: the exception that ended it early; None for none.
    """

    reports: dict[str, MarginReport]
    images: str
    classes: str
    ended_by: BaseException | None


def measure(request: Request) -> Measurement:
    """Measure the margins of models on the same images, with progress on stderr.

    Ctrl-C or an exception ends it early, and then the images measured so far count.

    Example:
    >>> from keras_amm.cli import images, loading, measuring, pixels
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> points = images.Images((np.random.rand(6, 2), np.arange(6) % 3), 6, False, "points")
    >>> measured = measuring.measure(loading.Request(
    ...     {"a": model}, points, pixels.Pixels(1.0, (0.5,)), {"a": keras_amm.DeepFool()}, batch_size=4))
    >>> measured.images, measured.classes
    ('6 images of points; pixels - 0.5', '2 of class 0, 2 of class 1, 2 of class 2')
    """
    images = request.images
    ended_by: BaseException | None = None
    with _refusing_unfit():
        measurers = {name: Measurer(model, request.attacks[name]) for name, model in request.models.items()}
    # Keras prints progress on stdout, where the results go.
    with contextlib.redirect_stdout(sys.stderr):
        progress = _Progress(images.number, [*measurers])
        try:
            for x, y in images.batches(request.batch_size):
                require_within_bounds(x, request.bounds)
                for name, measurer in measurers.items():
                    pixels = request.pixels(x, request.models[name])
                    with _refusing_unfit():
                        measurer.add(pixels, y)
                progress.add(len(y), [measurer.margin for measurer in measurers.values()])
            for measurer in measurers.values():
                # `report` would do it too, but here Ctrl-C is caught.
                measurer.measure_waiting()
        # Whatever the failure is, what has been measured is kept; the command raises the failure again at its end.
        except (Exception, KeyboardInterrupt) as error:
            if not all(map(len, measurers.values())):
                raise
            ended_by = error
            progress.interrupt()
    # The images that all models have seen, since tests are paired.
    number = min(map(len, measurers.values()))
    if not number:
        raise CommandError(f"There are no images in {images.description}.")
    with _refusing_unfit():
        positions = images.in_order_of_data(number)
        reports = {name: measurer.report(positions) for name, measurer in measurers.items()}
    for name, report in reports.items():
        # Names of files tell models apart, names within them need not.
        report.model_name = name
        for note in notes_on(report):
            print(f"keras-amm: {name}: {note}", file=sys.stderr)
    whole = f" of {images.number:,}" if images.number and number < images.number else ""
    description = f"{number:,}{whole} images of {images.description}; {request.pixels}"
    return Measurement(reports, description, _count_classes(request, next(iter(reports.values()))), ended_by)


def raise_early_end(measured: Measurement) -> None:
    """Say that a measurement ended early and what was measured by then, and raise what ended it, if anything did."""
    if measured.ended_by is not None:
        print(
            "The measurement ended early. These results are of the images measured by then, in a random order: "
            f"{measured.classes}."
        )
        raise measured.ended_by


def _count_classes(request: Request, report: MarginReport) -> str:
    """How many images of each class a report is of, in words."""
    names = request.images.class_names or []
    known = [num_classes(model) or 0 for model in request.models.values()]
    counts = np.bincount(report.labels, minlength=max(len(names), *known))
    if len(counts) > _MOST_CLASSES_LISTED:
        return f"{counts.min():,} to {counts.max():,} of each of {len(counts):,} classes"
    names = [*names, *(f"class {k}" for k in range(len(names), len(counts)))]
    return ", ".join(f"{count:,} of {name}" for count, name in zip(counts, names, strict=True))


def _refusing_unfit() -> contextlib.AbstractContextManager[None]:
    """Turn a ValueError, by which the library refuses data, into a `CommandError`; --debug shows the original."""
    return raising_command_error("The data or the model are not fit to be measured:", ValueError)


class _Progress:
    """A progress bar on a terminal, and a line now and then elsewhere; both show the mean margin of each model."""

    def __init__(self, target: int | None, models: list[str]) -> None:
        self._target, self._done, self._told = target, 0, time.perf_counter()
        self._titles = [f"mean margin of {name}" for name in models] if len(models) > 1 else ["mean margin"]
        self._bar = None
        if sys.stderr.isatty():
            self._bar = keras.utils.Progbar(target, stateful_metrics=self._titles, unit_name="image")

    def add(self, number: int, means: list[float]) -> None:
        """Count `number` more images, with which the models' means are these."""
        self._done += number
        titled = list(zip(self._titles, means, strict=True))
        if self._bar is not None:
            self._bar.add(number, titled)
        elif time.perf_counter() - self._told > _SECONDS_BETWEEN_LINES:
            whole = "" if self._target is None else f" of {self._target:,}"
            figures = ", ".join(f"{title} {mean:.4f}" for title, mean in titled)
            print(f"{self._done:,}{whole} images: {figures}", flush=True)
            self._told = time.perf_counter()

    def interrupt(self) -> None:
        """Leave the line of the bar."""
        if self._bar is not None:
            print()
