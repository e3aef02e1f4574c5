"""Measuring margins batch by batch: the one way to measure, of functions, callbacks and the command line."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.attack import Attack, changed
from keras_amm.deepfool import DeepFool
from keras_amm.execution.checks import as_value_errors, enforce
from keras_amm.execution.compiled import CompiledPerModel
from keras_amm.measuring.data_bound import SeenImages, bound
from keras_amm.measuring.nearest import NearestImages, PerturbedImages
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import own_attack, unwrapped
from keras_amm.network.layers import input_rescaling
from keras_amm.report import MarginReport
from keras_amm.search.linearisation import clean_pass
from keras_amm.typing import Tensor, TensorLike

# Shared by all measurers, so that measuring after every epoch compiles once. The cache of an attack would not do:
# each measurer may make an attack of its own.
_compiled = CompiledPerModel()


class _BatchMargins(NamedTuple):
    """The margins of one batch, arrays [B], named as in `MarginReport`.

    Until a misclassified image is attacked towards its label, its entry in `signed` is not yet the final one.
    """

    norms: np.ndarray
    signed: np.ndarray
    predictions: np.ndarray
    labels: np.ndarray
    success: np.ndarray
    attack_norms: np.ndarray

    def sum_of_margins(self) -> float:
        """The sum of what `MarginReport.margins` will be."""
        counts = (self.predictions == self.labels) & self.success
        return float(np.sum(self.norms[counts], dtype="float64"))


class _Misclassified(NamedTuple):
    """The misclassified images [m, ...] of a batch, still to be attacked towards their labels [m].

    `signed` is the array of their batch, and `positions` [m] are their places in it, for the negated distances.
    """

    images: Tensor
    labels: np.ndarray
    signed: np.ndarray
    positions: np.ndarray


class Measurer:
    """Measures the margins of one classifier, batch by batch, and bounds them by the data.

    When adding a batch fails or is interrupted, none of that batch counts, and
    `report` is of the batches before it.

    Args:
        model: `keras.Model` classifier or `AMMModel`, built.
        attack: `Attack`; None for the default of the model.
        num_nearest: int, how many images of the smallest margins to keep.

    Attributes:
        classifier: the `Classifier` that is measured.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> measurer = keras_amm.measuring.measurer.Measurer(model)
    >>> for seed in range(2):
    ...     measurer.add(np.random.rand(5, 2), np.arange(5) % 3)
    >>> len(measurer), len(measurer.report())
    (10, 10)
    """

    def __init__(self, model: keras.Model, attack: Attack | None = None, num_nearest: int = 0) -> None:
        self._attack = default_attack(model) if attack is None else _adapted(attack, model)
        # An AMMModel is measured by the classifier that it wraps, as in training.
        self._model = unwrapped(model)
        self.classifier = self._attack.classifier(self._model)
        self._attack_on_labels = self._attack.for_labels()
        self._batches: list[_BatchMargins] = []
        self._waiting: list[_Misclassified] = []
        # By the shape of an image.
        self._seen: dict[tuple[int, ...], SeenImages] = {}
        self._nearest = NearestImages(num_nearest)
        self._sum_of_margins = 0.0
        self._seconds = 0.0

    def __len__(self) -> int:
        """The number of images added."""
        return sum(len(batch.norms) for batch in self._batches)

    @property
    def margin(self) -> float:
        """The mean margin of the images added, as `MarginReport.margin` has it."""
        return self._sum_of_margins / len(self)

    def add(self, x: TensorLike, y: TensorLike) -> None:
        """Measure one batch: images x [B, ...] with labels y, class indices [B] or probabilities [B, C]."""
        start = time.perf_counter()
        images = self.classifier.inputs(x)
        margins, deltas = self._search(images, tf.convert_to_tensor(y))
        waiting = [*self._waiting]
        wrong = np.flatnonzero(margins.predictions != margins.labels)
        if wrong.size:
            waiting.append(_Misclassified(tf.gather(images, wrong), margins.labels[wrong], margins.signed, wrong))
        # Misclassified images are usually few, so they wait until they fill a batch.
        if sum(len(part.labels) for part in waiting) >= len(margins.norms):
            self._search_labels(waiting)
            waiting = []
        self._nearest.add(
            x,
            deltas,
            norms=margins.norms,
            labels=margins.labels,
            predictions=margins.predictions,
            success=margins.success,
        )
        # From here on the batch counts. An interruption before leaves the report as it was.
        self._waiting = waiting
        self._batches.append(margins)
        self._seen_like(images).add(images.numpy(), margins.predictions)
        self._sum_of_margins += margins.sum_of_margins()
        self._seconds += time.perf_counter() - start

    def measure_waiting(self) -> None:
        """Attack the misclassified images that still wait towards their labels; `report` begins with this."""
        start = time.perf_counter()
        self._search_labels(self._waiting)
        self._waiting = []
        self._seconds += time.perf_counter() - start

    def report(self, positions: np.ndarray | None = None) -> MarginReport:
        """The report of all images added, or of those at `positions` among them; there must be one or more."""
        self.measure_waiting()
        chosen = slice(None) if positions is None else positions
        arrays = [np.concatenate(column)[chosen] for column in zip(*self._batches, strict=True)]
        return MarginReport(
            **_BatchMargins(*arrays)._asdict(),
            seconds=self._seconds,
            attack=_described(self._attack),
            model_name=self._model.name,
            units=_units(self.classifier),
        )

    def nearest(self) -> PerturbedImages | None:
        """The images of the smallest margins with their perturbations, the smallest first; None for none."""
        return self._nearest.perturbed(self.classifier)

    def _seen_like(self, images: Tensor) -> SeenImages:
        """The images of this shape that were added before."""
        shape = tuple(images.shape[1:])
        return self._seen.setdefault(shape, SeenImages(shape, images.dtype.name))

    def _search(self, images: Tensor, y: Tensor) -> tuple[_BatchMargins, Tensor]:
        """The margins of a batch, and its perturbations [B, ...]."""
        seen = self._seen_like(images)
        images = tf.concat([images, seen.images], axis=0)
        *found, deltas = self._run(_search_untargeted, self._attack, images, y, tf.constant(seen.classes))
        norms, predictions, labels, success, of_attack = (part.numpy() for part in found)
        return _BatchMargins(norms, norms.copy(), predictions, labels, success, of_attack), deltas

    def _search_labels(self, waiting: list[_Misclassified]) -> None:
        """Attack misclassified images towards their labels, and write the distances into their batches."""
        # Images of one size make a batch.
        for size in {tuple(part.images.shape[1:]) for part in waiting}:
            parts = [part for part in waiting if tuple(part.images.shape[1:]) == size]
            images = tf.convert_to_tensor(np.concatenate([part.images for part in parts]))
            labels = tf.convert_to_tensor(np.concatenate([part.labels for part in parts]))
            distances = self._run(_distances_to_labels, self._attack_on_labels, images, labels).numpy()
            ends = np.cumsum([len(part.labels) for part in parts])
            for part, distance in zip(parts, np.split(distances, ends[:-1]), strict=True):
                part.signed[part.positions] = -distance

    def _run(self, search: Callable[..., Any], attack: Attack, *batch: Tensor) -> Any:
        """What `search(attack, model, *batch)` finds, compiled once."""
        setting = (search, *attack.setting)
        with as_value_errors():
            return _compiled.get(self._model, setting, functools.partial(search, attack), [*batch])(*batch)


def default_attack(model: Any) -> DeepFool:
    """The attack for a model if none is given; an `AMMModel` knows its output, and the deviation and norm of images."""
    # Its other settings are the defaults, so that the margins of different models can be compared.
    own = own_attack(model)
    return DeepFool(
        from_logits=getattr(own, "from_logits", None),
        deviation=getattr(own, "deviation", None),
        norm=getattr(own, "norm", "l2"),
    )


def _adapted(attack: Attack, model: Any) -> Attack:
    """The attack, with an `AMMModel`'s own `from_logits` and `deviation` where it has none itself."""
    own = own_attack(model)
    names = [name for name in ("from_logits", "deviation") if own is not None and getattr(attack, name) is None]
    taken = {name: getattr(own, name) for name in names if getattr(own, name) is not None}
    return changed(attack, **taken) if taken else attack


def _search_untargeted(
    attack: Attack, model: keras.Model, images: Tensor, y: Tensor, classes: Tensor
) -> tuple[Tensor, ...]:
    """Norms, predictions, labels, success, and the norms of the attack, each [B], and perturbations [B, ...].

    Images are those to be measured [B, ...], followed by others [M, ...] that are predicted as `classes` [M].
    """
    classifier, x = attack.classifier(model), images[: tf.shape(y)[0]]
    clean = clean_pass(classifier, x)
    labels, checks = clean.class_indices(y)
    with tf.control_dependencies(enforce(checks)):
        labels = tf.identity(labels)
    found = attack.perturb_from(classifier, clean)
    predictions = tf.argmax(clean.logits, axis=1, output_type=tf.int32)
    bounded = bound(classifier, x, predictions, found, images, tf.concat([predictions, classes], axis=0))
    return bounded.norm, predictions, labels, found.success, found.norm, bounded.delta


def _distances_to_labels(attack: Attack, model: keras.Model, x: Tensor, labels: Tensor) -> Tensor:
    """The norms [m] that lead misclassified images x [m, ...] to their labels [m]."""
    classifier = attack.classifier(model)
    return attack.perturb_from(classifier, clean_pass(classifier, x), labels).norm


def _described(attack: Attack) -> dict[str, Any]:
    """An attack's arguments in JSON's types; its name, unless it is the default, and of another attack its text."""
    arguments = {name: getattr(attack, name) for name in attack.get_config()}
    arguments = {name: repr(value) if isinstance(value, Attack) else value for name, value in arguments.items()}
    if attack.bounds is not None:
        arguments["bounds"] = list(attack.bounds)
    return arguments if type(attack) is DeepFool else {"name": type(attack).__name__, **arguments}


def _units(classifier: Classifier) -> str:
    """A note on the units of the norms."""
    rescaling = [layer.name for layer in input_rescaling(classifier.model)]
    units = f"{classifier.norm}, in the units of the images given"
    if classifier.deviation is not None:
        units = f"{classifier.norm}, in pixel units: the images given times their deviation, {classifier.deviation}"
    return f"{units}, before the model's own rescaling ({', '.join(rescaling)})" if rescaling else units
