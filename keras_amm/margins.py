"""Measuring margins over a whole data set."""

import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.checks import clear_errors, enforce
from keras_amm.classifier import Classifier, as_images
from keras_amm.deepfool import DeepFool
from keras_amm.labels import class_indices
from keras_amm.report import MarginReport

_DEFAULT_BATCH_SIZE = 128

# Per model, so that measuring after every epoch compiles once.
_compiled: Any = weakref.WeakKeyDictionary()


class _Source(NamedTuple):
    """Batches of (x, y) and how many there will be; None if unknown."""

    batches: Iterable[tuple[Any, Any]]
    number: int | None


class _Measured(NamedTuple):
    """One batch's share of the report, each [B]."""

    norms: Any
    signed: Any
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
        raise TypeError(f"`attack` must be a keras_amm.DeepFool or None. Received: attack={attack!r}.")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(
            f"`batch_size` must be a whole number of at least 1, or None. Received: batch_size={batch_size!r}."
        )
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}.")
    attack = attack or _default_attack(model)
    # Margins are those of the wrapped classifier, in training and here.
    model = getattr(model, "base_model", model)
    classifier = Classifier(model, attack.from_logits)
    source = _source(data, model, batch_size)

    start = time.perf_counter()
    measured = _measure_all(classifier, attack, source, batch_size, verbose=1 if verbose == "auto" else int(verbose))
    if not measured:
        raise ValueError(f"There are no images to measure. Received: empty data, {_describe(data)}.")
    return MarginReport(
        **{name: np.concatenate([getattr(part, name) for part in measured]) for name in _Measured._fields},
        seconds=time.perf_counter() - start,
        attack=attack.get_config(),
        model_name=model.name,
        units=_units(model),
    )


def _default_attack(model: Any) -> DeepFool:
    # Whether the output is logits is known of an AMMModel; all else is the default, to be comparable.
    return DeepFool(from_logits=getattr(getattr(model, "attack", None), "from_logits", None))


def _measure_all(
    classifier: Classifier, attack: DeepFool, source: _Source, batch_size: int | None, verbose: int
) -> list[_Measured]:
    measured: list[_Measured] = []
    total, count, done = 0.0, 0, 0
    bar = keras.utils.Progbar(source.number, verbose=verbose, stateful_metrics=["margin"], unit_name="batch")
    for x, y in source.batches:
        x, y = _arrays(x, y)
        for part_x, part_y in _slices(x, y, batch_size):
            part = _measure(classifier, attack, part_x, part_y)
            measured.append(part)
            total, count = total + float(np.sum(part.norms, dtype="float64")), count + len(part.norms)
            # A large batch moves the bar once, at its end; its mean moves with every slice.
            bar.update(done, [("margin", total / count)], finalize=False)
        done += 1
    if measured:
        bar.target = done
        bar.update(done, [("margin", total / count)], finalize=True)
    return measured


def _measure(classifier: Classifier, attack: DeepFool, x: Any, y: Any) -> _Measured:
    x, y = classifier.inputs(x), tf.convert_to_tensor(y)
    run = _compile(classifier.model, attack, x, y)
    with clear_errors():
        return _Measured(*(part.numpy() for part in run(x, y)))


def _compile(model: keras.Model, attack: DeepFool, x: Any, y: Any) -> Any:
    """The measurement of one batch of any size, compiled once per model, attack and kind of batch."""
    signature = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in (x, y)]
    key = (type(attack), tuple(attack.get_config().items()), *signature)
    compiled = _compiled.setdefault(model, {})
    if key not in compiled:
        # A strong reference to the model would keep its entry alive for ever.
        reference = weakref.ref(model)

        def run(x: Any, y: Any) -> _Measured:
            return _measure_batch(reference(), attack, x, y)

        compiled[key] = tf.function(run, input_signature=signature, autograph=False)
    return compiled[key]


def _measure_batch(model: Any, attack: DeepFool, x: Any, y: Any) -> _Measured:
    logits, _ = Classifier(model, attack.from_logits).logits(x)
    labels, checks = class_indices(y, logits.shape[1])
    with tf.control_dependencies(enforce(checks)):
        labels = tf.identity(labels)
    predictions = tf.argmax(logits, axis=1, output_type=tf.int32)
    found = attack.perturb(model, x)
    wrong = tf.where(predictions != labels)

    # The label is the one class they aim at: more candidates would be as many copies of its gradient.
    targeted = type(attack).from_config({**attack.get_config(), "num_candidates": 2})

    def towards_labels() -> Any:
        index = wrong[:, 0]
        distance = targeted.perturb(model, tf.gather(x, index), tf.gather(labels, index)).norm
        return tf.tensor_scatter_nd_update(found.norm, wrong, -distance)

    signed = tf.cond(tf.size(wrong) > 0, towards_labels, lambda: found.norm)
    return _Measured(found.norm, signed, predictions, labels, found.success)


def _source(data: Any, model: keras.Model, batch_size: int | None) -> _Source:
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, model, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError(f"Margins need a finite data set. Received: an infinite {type(data).__name__}.")
        return _Source((_labelled(data[i], data) for i in range(data.num_batches)), data.num_batches)
    return _from_arrays(data, batch_size or _DEFAULT_BATCH_SIZE)


def _from_dataset(data: Any, model: keras.Model, batch_size: int | None) -> _Source:
    x, y = _labelled(data.element_spec, data)
    inputs = getattr(model, "inputs", None)
    rank, expected = getattr(x, "shape", tf.TensorShape(None)).rank, inputs and len(inputs[0].shape)
    # A subclassed model does not say its rank, but a single label has none.
    if getattr(y, "shape", tf.TensorShape(None)).rank == 0 or (rank and expected and rank == expected - 1):
        data = data.batch(batch_size or _DEFAULT_BATCH_SIZE)
    number = int(data.cardinality())
    if number == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"Margins need a finite data set; take(n) makes one. Received: {_describe(data)}, which repeats for ever."
        )
    return _Source((_labelled(element, data) for element in data), number if number >= 0 else None)


def _from_arrays(data: Any, batch_size: int) -> _Source:
    x, y = _arrays(*_labelled(data, data))
    return _Source(_slices(x, y, batch_size), -(-int(x.shape[0]) // batch_size))


def _arrays(x: Any, y: Any) -> tuple[Any, Any]:
    """Images and labels as arrays or tensors of equal lengths."""
    x = x if hasattr(x, "shape") else as_images(x)
    y = y if hasattr(y, "shape") else np.asarray(y)
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise ValueError(
            "Images and labels must be equally many. "
            f"Received: x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}."
        )
    return x, y


def _slices(x: Any, y: Any, size: int | None) -> Iterator[tuple[Any, Any]]:
    """A batch in parts of bounded size; nothing of an empty one."""
    number = int(y.shape[0])
    size = size or max(number, 1)
    for start in range(0, number, size):
        yield x[start : start + size], y[start : start + size]


def _labelled(element: Any, data: Any) -> tuple[Any, Any]:
    """Images and labels of (x, y) or (x, y, sample_weight)."""
    # Iterated, not measured: a named tuple may have a length of its own.
    parts = [*element] if isinstance(element, (tuple, list)) else [element]
    if len(parts) not in (2, 3) or parts[1] is None:
        raise ValueError(
            "Margins are signed by labels, and there are none. Expected: a pair (x, y) of arrays, or a tf.data.Dataset "
            f"or keras.utils.PyDataset of batches (x, y) or (x, y, sample_weight). Received: {_describe(data)}. "
            "keras_amm.DeepFool().perturb(model, x) measures images without labels."
        )
    return parts[0], parts[1]


def _describe(data: Any) -> str:
    if isinstance(data, tf.data.Dataset):
        return f"a data set of {data.element_spec}"
    if isinstance(data, (tuple, list)):
        inside = [*data]
        parts = ", ".join(_describe(part) for part in inside[:3]) + (", ..." if len(inside) > 3 else "")
        return f"a {type(data).__name__} of {len(inside)}: ({parts})"
    if data is None or isinstance(data, (int, float)):
        return repr(data)
    shape = getattr(data, "shape", None)
    return f"{type(data).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")


def _units(model: keras.Model) -> str:
    rescaling = [
        layer.name
        for layer in model._flatten_layers()
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization))
    ]
    if not rescaling:
        return "l2, in the units of the images given"
    return f"l2, in the units of the images given, before the model's own rescaling ({', '.join(rescaling)})"
