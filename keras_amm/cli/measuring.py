"""Measuring margins from the command line: progress, the same images for all models, and an early end."""

import contextlib
import sys
import time
from typing import NamedTuple

import keras

from keras_amm.cli.errors import CommandError, raising_command_error
from keras_amm.cli.loading import Request
from keras_amm.measuring.measurer import Measurer
from keras_amm.report import MarginReport

_SECONDS_BETWEEN_LINES = 30.0


class Measurement(NamedTuple):
    """What was measured, and what ended it.

    Attributes:
        reports: dictionary from names of models to `MarginReport`, all of the same images.
        images: string, what the images are, and what was done to their pixels.
        ended_by: the exception that ended it early; None for none.
    """

    reports: dict[str, MarginReport]
    images: str
    ended_by: BaseException | None


def measure(request: Request) -> Measurement:
    """Measure the margins of models on the same images, with progress on stderr.

    Args:
        request: what to measure.

    Returns:
        What was measured; all of it unless it `ended_by` Ctrl-C or an exception.

    Raises:
        CommandError: there is nothing to measure, or the first images do not fit a model.

    Example:
    >>> from keras_amm.cli import pixels
    >>> from keras_amm.cli import images
    >>> from keras_amm.cli import loading
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> points = images.Images((np.random.rand(6, 2), np.arange(6) % 3), 6, False, "points")
    >>> measured = keras_amm.cli.measuring.measure(loading.Request(
    ...     {"a": model}, points, pixels.Pixels(1.0, (0.5,)), {"a": keras_amm.DeepFool()}, batch_size=4))
    >>> len(measured.reports["a"]), measured.images
    (6, '6 images of points; pixels - 0.5')
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
                for name, measurer in measurers.items():
                    pixels = request.pixels(x, request.models[name])
                    with _refusing_unfit():
                        measurer.add(pixels, y)
                progress.add(len(y), [(name, measurer.mean) for name, measurer in measurers.items()])
            for measurer in measurers.values():
                # Here, where Ctrl-C is caught.
                measurer.sign()
        # Whatever it is, it must not cost what has been measured; the command raises it again.
        except (Exception, KeyboardInterrupt) as error:
            if not all(map(len, measurers.values())):
                raise
            ended_by = error
            progress.interrupt()
    # The images that all models have seen: tests are paired.
    number = min(map(len, measurers.values()))
    if not number:
        raise CommandError(f"There are no images in {images.description}.")
    with _refusing_unfit():
        reports = {name: measurer.report(number) for name, measurer in measurers.items()}
    for name, report in reports.items():
        # Names of files tell models apart, names within them need not.
        report.model_name = name
    whole = f" of {images.number:,}" if images.number and number < images.number else ""
    return Measurement(reports, f"{number:,}{whole} images of {images.description}; {request.pixels}", ended_by)


def raise_early_end(measured: Measurement) -> None:
    """Say that a measurement ended early, if it did, and raise what ended it.

    Args:
        measured: what was measured.

    Raises:
        BaseException: what ended the measurement, if anything did.

    Example:
    >>> keras_amm.cli.measuring.raise_early_end(keras_amm.cli.measuring.Measurement({}, "", None))
    """
    if measured.ended_by is not None:
        print("The measurement ended early: this is of the images that were measured.")
        raise measured.ended_by


def _refusing_unfit() -> contextlib.AbstractContextManager[None]:
    # A ValueError is how the library refuses data; --debug shows one that is not.
    return raising_command_error("The data or the model are not fit to be measured:", ValueError)


class _Progress:
    """A bar on a terminal, and else a line now and then, for logs."""

    def __init__(self, target: int | None, models: list[str]) -> None:
        self._target, self._done, self._told = target, 0, time.perf_counter()
        bar = keras.utils.Progbar(target, stateful_metrics=models, unit_name="image") if sys.stderr.isatty() else None
        self._bar = bar

    def add(self, number: int, means: list[tuple[str, float]]) -> None:
        self._done += number
        if self._bar is not None:
            self._bar.add(number, means)
        elif time.perf_counter() - self._told > _SECONDS_BETWEEN_LINES:
            print(f"{self._done:,} of {'?' if self._target is None else format(self._target, ',')} images", flush=True)
            self._told = time.perf_counter()

    def interrupt(self) -> None:
        if self._bar is not None:
            print()
