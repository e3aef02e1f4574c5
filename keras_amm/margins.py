"""Measuring margins over a whole data set."""

import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.arguments import require_whole
from keras_amm.deepfool import DeepFool
from keras_amm.execution.checks import clear_errors, enforce
from keras_amm.measuring.batches import LabelledBatches, describe, hint_of_pair, labelled_batches
from keras_amm.network.classifier import Classifier, unwrapped
from keras_amm.network.labels import class_indices
from keras_amm.network.layers import input_rescaling
from keras_amm.report import MarginReport
from keras_amm.search.linearisation import clean_pass

# Per model, so that measuring after every epoch compiles once.
_compiled: Any = weakref.WeakKeyDictionary()


class _Measured(NamedTuple):
    """One batch's share of the report, each [B]."""

    norms: Any
    predictions: Any
    labels: Any
    success: Any


def evaluate_margins(
    model: keras.Model,
    data: Any,
    attack: DeepFool | None = None,
    batch_size: int | None = None,
    verbose: str | int = "auto",
) -> MarginReport:
    """Measure the input-space margin of a classifier on labelled images.

    Every image is attacked untargeted, from the class predicted for it, and a
    misclassified one also towards its label. Sample weights are not used.

    Args:
        model: single-input `keras.Model` classifier or `AMMModel`, built. Its
            weights and metrics are left alone.
        data: a pair (x, y) of arrays or tensors, x [n, ...] of any numeric
            dtype; or a `tf.data.Dataset` or `keras.utils.PyDataset` of
            batches (x, y) or (x, y, sample_weight). A `tf.data.Dataset` of
            single images is batched. y: class indices [n] or [n, 1], or
            class probabilities [n, C] (one-hot or smoothed).
        attack: `DeepFool`; None for the default: 6 steps, 10 candidates. For
            distances nearer the true ones, `DeepFool(50, refine_steps=10)`.
        batch_size: int, the most images attacked at a time; None for 128 of
            arrays and single images, and for a dataset's batches as they come.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line at the end, 0 for silence.

    Returns:
        A `MarginReport`, with its norms in the units of the images given.

    Raises:
        TypeError: the model is not a Keras model, or the attack not a `DeepFool`.
        ValueError: the data are empty, infinite, without labels, or not fit for the model.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> report = keras_amm.evaluate_margins(model, (np.random.rand(8, 2), np.arange(8) % 3), verbose=0)
    >>> report.norms.shape
    (8,)

    Reference: Section 4.4 and Tables 3-7 of the paper.
    """
    if attack is not None and not isinstance(attack, DeepFool):
        raise TypeError(
            "`attack` must be a keras_amm.DeepFool or None. "
            f"Received: attack of type {type(attack).__name__}.{hint_of_pair(attack)}"
        )
    if batch_size is not None:
        require_whole("batch_size", batch_size, 1)
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}.")
    attack = attack or default_attack(model)
    # Margins are those of the wrapped classifier, in training and here.
    model = unwrapped(model)
    classifier = Classifier(model, attack.from_logits)
    batches = labelled_batches(data, model, batch_size)

    start = time.perf_counter()
    measured, signed = _measure_all(classifier, attack, batches, verbose=1 if verbose == "auto" else int(verbose))
    if not measured:
        raise ValueError(f"There are no images to measure. Received: empty data, {describe(data)}.")
    return MarginReport(
        **{name: np.concatenate([getattr(part, name) for part in measured]) for name in _Measured._fields},
        signed=signed,
        seconds=time.perf_counter() - start,
        attack=attack.get_config(),
        model_name=model.name,
        units=_units(model),
    )


def default_attack(model: Any) -> DeepFool:
    """The attack of a model for which none is given.

    Args:
        model: `keras.Model`; of an `AMMModel`, it is known whether the output is logits.

    Returns:
        A `DeepFool`, in all else the default, so that margins can be compared.

    Example:
    >>> keras_amm.margins.default_attack(keras.Sequential()).max_iterations
    6
    """
    return DeepFool(from_logits=getattr(getattr(model, "attack", None), "from_logits", None))


def _measure_all(
    classifier: Classifier, attack: DeepFool, batches: LabelledBatches, verbose: int
) -> tuple[list[_Measured], np.ndarray]:
    measured: list[_Measured] = []
    misclassified = _Misclassified(classifier, attack)
    total, count, done = 0.0, 0, 0
    bar = keras.utils.Progbar(batches.number, verbose=verbose, stateful_metrics=["margin"], unit_name="batch")
    for parts in batches.batches:
        for x, y in parts:
            part = _measure(classifier, attack, x, y)
            misclassified.add(x, part.labels, np.flatnonzero(part.predictions != part.labels), first=count)
            measured.append(part)
            total, count = total + float(np.sum(part.norms, dtype="float64")), count + len(part.norms)
            # A large batch moves the bar once, at its end; its mean moves with every slice.
            bar.update(done, [("margin", total / count)], finalize=False)
        done += 1
    if not measured:
        return [], np.zeros(0)
    signed = misclassified.sign(np.concatenate([part.norms for part in measured]))
    bar.target = done
    bar.update(done, [("margin", total / count)], finalize=True)
    return measured, signed


def _measure(classifier: Classifier, attack: DeepFool, x: Any, y: Any) -> _Measured:
    x, y = classifier.inputs(x), tf.convert_to_tensor(y)
    run = _compile(classifier.model, attack, x, y)
    with clear_errors():
        return _Measured(*(part.numpy() for part in run(x, y)))


def _compile(model: keras.Model, attack: DeepFool, x: Any, y: Any) -> Any:
    """The measurement of one batch of any size, compiled once per model, attack and kind of batch."""
    signature = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in (x, y)]

    def make(reference: Any) -> Any:
        def run(x: Any, y: Any) -> _Measured:
            return _measure_batch(reference(), attack, x, y)

        return tf.function(run, input_signature=signature, autograph=False)

    return _once(model, attack, tuple(signature), make)


def _once(model: keras.Model, attack: DeepFool, kind: Any, make: Callable[[Any], Any]) -> Any:
    """What `make` makes of a weak reference to the model; a strong one would keep its own entry alive for ever."""
    key = (type(attack), tuple(attack.get_config().items()), kind, *map(id, model.weights))
    made = _compiled.setdefault(model, {})
    if key not in made:
        made[key] = make(weakref.ref(model))
    return made[key]


def _measure_batch(model: Any, attack: DeepFool, x: Any, y: Any) -> _Measured:
    classifier = Classifier(model, attack.from_logits)
    clean = clean_pass(classifier, x)
    labels, checks = class_indices(y, clean.logits.shape[1])
    with tf.control_dependencies(enforce(checks)):
        labels = tf.identity(labels)
    found = attack.perturb_from(classifier, clean)
    predictions = tf.argmax(clean.logits, axis=1, output_type=tf.int32)
    return _Measured(found.norm, predictions, labels, found.success)


class _Misclassified:
    """Misclassified images on their way to their labels, gathered until they fill a batch: they are few."""

    def __init__(self, classifier: Classifier, attack: DeepFool) -> None:
        self._model = classifier.model
        # The label is the one class they aim at: more candidates would be as many copies of its gradient.
        config = {**attack.get_config(), "num_candidates": 2}
        self._attack = _once(self._model, attack, "towards labels", lambda _: type(attack).from_config(config))
        self._waiting: list[tuple[Any, Any, Any]] = []
        self._found: list[tuple[Any, Any]] = []

    def add(self, x: Any, labels: np.ndarray, index: np.ndarray, first: int) -> None:
        """Images `index` of a batch that began at the data set's image number `first`."""
        if index.size:
            self._waiting.append((tf.gather(x, index), labels[index], first + index))
        if sum(len(position) for *_, position in self._waiting) >= len(labels):
            self._attack_waiting()

    def sign(self, norms: np.ndarray) -> np.ndarray:
        """Norms [n], with minus the distance to the label where misclassified."""
        self._attack_waiting()
        signed = norms.copy()
        for position, distance in self._found:
            signed[position] = -distance
        return signed

    def _attack_waiting(self) -> None:
        if self._waiting:
            x, labels, position = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
            self._found.append((position, self._attack.perturb(self._model, x, labels).norm.numpy()))
            self._waiting = []


def _units(model: keras.Model) -> str:
    rescaling = [layer.name for layer in input_rescaling(model)]
    if not rescaling:
        return "l2, in the units of the images given"
    return f"l2, in the units of the images given, before the model's own rescaling ({', '.join(rescaling)})"
