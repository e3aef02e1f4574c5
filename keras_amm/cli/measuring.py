"""Measuring margins in pieces, so that Ctrl-C or a failure loses only the last."""

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_amm.cli.datasets import Images
from keras_amm.cli.refusal import Refusal, refusing
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
        ended_by: the exception that ended it early; None for none.
    """

    reports: dict[str, MarginReport]
    ended_by: BaseException | None


def measure(
    models: Mapping[str, keras.Model],
    images: Images,
    prepare: Callable[..., Any],
    attacks: Mapping[str, DeepFool],
    batch_size: int,
) -> Measured:
    """Measure the margins of models on the same images, with progress on stderr.

    Args:
        models: the classifiers by name.
        images: the images, read once.
        prepare: makes of pixels and a model what the model takes.
        attacks: the attack of each model.
        batch_size: int, the most images attacked at a time.

    Returns:
        What was measured; all of it unless it `ended_by` Ctrl-C or an exception.

    Raises:
        Refusal: there is nothing to measure, or the first images do not fit a model.

    Example:
    >>> from keras_amm.cli.datasets import Images
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> images = Images((np.random.rand(6, 2), np.arange(6) % 3), 6, False, "points")
    >>> measured = keras_amm.cli.measuring.measure(
    ...     {"a": model}, images, lambda x, model: x, {"a": keras_amm.DeepFool()}, batch_size=4)
    >>> len(measured.reports["a"])
    6
    """
    parts: list[list[MarginReport]] = []
    ended_by: BaseException | None = None
    # Keras prints progress on stdout, where the results go.
    with contextlib.redirect_stdout(sys.stderr):
        progress = _Progress(images.number)
        try:
            for x, y in _pieces(images.batches(batch_size)):
                # All models or none: tests are paired.
                parts.append(
                    [
                        _measure(model, (prepare(x, model), y), attacks[name], batch_size)
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
        raise Refusal(f"There are no images in {images.description}.")
    reports = {name: _join(name, column) for name, column in zip(models, zip(*parts, strict=True), strict=True)}
    return Measured(reports, ended_by)


def _measure(model: keras.Model, data: Any, attack: DeepFool, batch_size: int) -> MarginReport:
    # A ValueError is how the library refuses data; --debug shows one that is not.
    with refusing("The data or the model are not fit to be measured:", ValueError):
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
