"""Measuring the margins of the same images again and again, while a model is trained."""

from typing import Any, NamedTuple

import keras

from keras_amm.deepfool import DeepFool
from keras_amm.margins import default_attack, evaluate_margins
from keras_amm.measuring.nearest import NearestImages, PerturbedImages
from keras_amm.measuring.samples import FixedSamples
from keras_amm.network.classifier import Classifier
from keras_amm.report import MarginReport


class Measured(NamedTuple):
    """What one measurement found.

    Attributes:
        report: `MarginReport` of all images.
        nearest: `PerturbedImages`, those of the smallest margins; None for none.
    """

    report: MarginReport
    nearest: PerturbedImages | None


class Measurement:
    """The margins of fixed images, by one attack that is compiled once.

    Args:
        model: `keras.Model` classifier or `AMMModel`, built.
        samples: `HeldSamples` or `StreamedSamples`.
        attack: `DeepFool`; None for the default of `keras_amm.evaluate_margins`.
        batch_size: int, the most images attacked at a time; None for the default.
        num_nearest: int, how many images of the smallest margins to return.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> samples = keras_amm.measuring.samples.HeldSamples(np.random.rand(9, 2), np.arange(9) % 3)
    >>> measurement = keras_amm.measuring.measurer.Measurement(model, samples)
    >>> measurement.try_out()
    3
    >>> len(measurement.run().report)
    9
    """

    def __init__(
        self,
        model: keras.Model,
        samples: FixedSamples,
        attack: DeepFool | None = None,
        batch_size: int | None = None,
        num_nearest: int = 0,
    ) -> None:
        self._model = model
        self._samples = samples
        self._attack = attack or default_attack(model)
        self._batch_size = batch_size
        self._num_nearest = num_nearest

    def try_out(self) -> int:
        """Measure the first batch.

        Returns:
            The number of the classifier's outputs.

        Raises:
            TypeError: the model is not a Keras model.
            ValueError: images, labels or model are not fit to be measured.
        """
        x, y = self._samples.first_batch()
        self._evaluate(x, y)
        classifier = Classifier(self._model, self._attack.from_logits)
        return int(classifier(classifier.inputs(x[:1])).shape[1])

    def run(self) -> Measured:
        """Measure all images, and attack the nearest once more.

        Returns:
            `Measured`.
        """
        reports: list[MarginReport] = []
        nearest = NearestImages(self._num_nearest)
        for x, y in self._samples.parts():
            reports.append(self._evaluate(x, y))
            nearest.add(x, reports[-1])
        return Measured(MarginReport.concatenate(reports), nearest.perturb(self._model, self._attack))

    def _evaluate(self, x: Any, y: Any) -> MarginReport:
        return evaluate_margins(self._model, (x, y), self._attack, self._batch_size, verbose=0)
