"""Measuring margins in pieces, so that Ctrl-C or a failure loses only the last."""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_amm.cli.errors import CommandError, raising_command_error
from keras_amm.cli.loading import Request
from keras_amm.deepfool import DeepFool
from keras_amm.margins import evaluate_margins
from keras_amm.report import MarginReport

# Larger pieces cost less per image; with smaller ones less is lost.
_SECONDS_PER_PIECE = 2.0
_MAX_BATCHES_PER_PIECE = 32
_SECONDS_BETWEEN_LINES = 30.0


class Measured(NamedTuple):
    """What was measured, and what ended it.

    Attributes:
        reports: dictionary from names to `MarginReport`, all of the same images.
        images: string, what the images are, and what was done to their pixels.
        ended_by: the exception that ended it early; None for none.
    """

    reports: dict[str, MarginReport]
    images: str
    ended_by: BaseException | None


def measure(request: Request) -> Measured:
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
    models, images = request.models, request.images
    parts: list[list[MarginReport]] = []
    ended_by: BaseException | None = None
    # Keras prints progress on stdout, where the results go.
    with contextlib.redirect_stdout(sys.stderr):
        progress = _Progress(images.number)
        try:
            for x, y in _pieces(images.batches(request.batch_size)):
                # All models or none: tests are paired.
                parts.append(
                    [
                        _measure(model, (request.pixels(x, model), y), request.attacks[name], request.batch_size)
                        for name, model in models.items()
                    ]
                )
                progress.add(len(y), [(name, part.mean) for name, part in zip(models, parts[-1], strict=True)])
        # Whatever it is, it must not cost what has been measured; the command raises it again.
        except (Exception, KeyboardInterrupt) as error:
            if not parts:
                raise
            ended_by = error
            progress.interrupt()
    if not parts:
        raise CommandError(f"There are no images in {images.description}.")
    reports = {name: _join(name, column) for name, column in zip(models, zip(*parts, strict=True), strict=True)}
    number = sum(len(column[0]) for column in parts)
    whole = f" of {images.number:,}" if images.number and number < images.number else ""
    return Measured(reports, f"{number:,}{whole} images of {images.description}; {request.pixels}", ended_by)


def raise_early_end(measured: Measured) -> None:
    """Say that a measurement ended early, if it did, and raise what ended it.

    Args:
        measured: what was measured.

    Raises:
        BaseException: what ended the measurement, if anything did.

    Example:
    >>> keras_amm.cli.measuring.raise_early_end(keras_amm.cli.measuring.Measured({}, "", None))
    """
    if measured.ended_by is not None:
        print("The measurement ended early: this is of the images that were measured.")
        raise measured.ended_by


def _measure(model: keras.Model, data: Any, attack: DeepFool, batch_size: int) -> MarginReport:
    # A ValueError is how the library refuses data; --debug shows one that is not.
    with raising_command_error("The data or the model are not fit to be measured:", ValueError):
        return evaluate_margins(model, data, attack, batch_size=batch_size, verbose=0)


def _pieces(batches: Iterator[tuple[Any, Any]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches joined into pieces that take some seconds each."""
    number = 1
    while piece := list(itertools.islice(batches, number)):
        start = time.perf_counter()
        yield tuple(np.concatenate(part) for part in zip(*piece, strict=True))  # type: ignore[misc]
        if time.perf_counter() - start < _SECONDS_PER_PIECE:
            number = min(2 * number, _MAX_BATCHES_PER_PIECE)


def _join(name: str, parts: tuple[MarginReport, ...]) -> MarginReport:
    report = MarginReport.concatenate(parts)
    # Names of files tell models apart, names within them need not.
    report.model_name = name
    return report


class _Progress:
    """A bar on a terminal, and else a line now and then, for logs."""

    def __init__(self, target: int | None) -> None:
        self._target, self._done, self._told = target, 0, time.perf_counter()
        self._bar = keras.utils.Progbar(target, unit_name="image") if sys.stderr.isatty() else None

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
