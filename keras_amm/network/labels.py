"""Labels in any of Keras's forms, as class indices."""

import numbers
from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.network.structures import given_entries, only_entry
from keras_amm.typing import Tensor, TensorLike


def binary_class_indices(y: TensorLike) -> tuple[Tensor, list[Check]]:
    """The class, 0 or 1, of each label of a classifier with one output unit, and the checks of the labels' values.

    Args:
        y: probabilities of class 1, [B] or [B, 1] (0 or 1, or smoothed), or -1 and 1, as hinge losses take them.

    Example:
    >>> indices, _ = keras_amm.network.labels.binary_class_indices([-1.0, 1.0])
    >>> indices.numpy()
    array([0, 1], dtype=int32)
    """
    y = _one_array(y)
    if y.shape.rank != 1 and not (y.shape.rank == 2 and y.shape[1] == 1):
        raise ValueError(
            "Labels of a classifier with one output unit must be 0 or 1, of shape [batch] or [batch, 1]. "
            f"Received: labels of shape {y.shape}."
        )
    values = tf.cast(tf.reshape(y, [-1]), tf.float32)
    is_signed = tf.reduce_any(values < 0)
    outside = tf.where(is_signed, tf.abs(values) != 1.0, tf.logical_not((values >= 0) & (values <= 1)))
    check = Check(
        tf.logical_not(tf.reduce_any(outside)),
        "Labels of a classifier with one output unit must be 0 or 1, or -1 or 1, or probabilities of class 1; "
        "regression targets have no margin.",
        (_first(values, outside),),
        got="Got labels such as",
    )
    return tf.cast(values > 0.5, tf.int32), [check]


def class_indices(y: TensorLike, num_classes: int) -> tuple[Tensor, list[Check]]:
    """The class of each label, int32 [B], and the checks that the values of the labels must pass.

    Args:
        y: whole numbers [B] or [B, 1] of any numeric dtype, or class probabilities [B, C] (one-hot,
            smoothed or mixed), which stand for their most probable class; or [B, C] of -1 and a single 1; or a
            dictionary of one of these.
        num_classes: int, the number C of the classifier's outputs.

    Example:
    >>> indices, _ = keras_amm.network.labels.class_indices([[0.1, 0.9], [0.8, 0.2]], num_classes=2)
    >>> indices.numpy()
    array([1, 0], dtype=int32)
    """
    y = _one_array(y)
    shape = y.shape
    if shape.rank == 1 or (shape.rank == 2 and shape[1] == 1):
        return _from_integers(tf.reshape(y, [-1]), num_classes)
    if shape.rank == 2 and shape[1] == num_classes:
        return _from_probabilities(y)
    is_known = shape.rank is not None and None not in shape.as_list()[1:]
    advice = "" if is_known else " Tell the sizes that are not known: `tf.ensure_shape` does, in the data set's `map`."
    raise ValueError(
        f"Labels must be class indices of shape [batch] or [batch, 1], or class probabilities of shape "
        f"[batch, {num_classes}] for a classifier of {num_classes} outputs. Received: labels of shape {shape}."
        f"{advice}"
    )


def checks_of_labels(model: keras.Model, y: TensorLike) -> list[Check]:
    """The checks of labels for a model whose number of outputs is known before it runs; else, of a subclass, none.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> [bool(check.ok) for check in keras_amm.network.labels.checks_of_labels(model, [0, 3])]
    [False]
    """
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return []
    units = outputs[0].shape[-1]
    return (binary_class_indices(y) if units == 1 else class_indices(y, units))[1]


def target_probabilities(y: TensorLike, label_smoothing: float = 0.0) -> Tensor:
    """The probabilities, float32 [B] in [0.5, 1], that labels of two classes want of their class; 1 if not smoothed.

    Args:
        y: labels as `binary_class_indices` or, with two classes, `class_indices` take them.
        label_smoothing: by how much the loss smooths them besides, as Keras's losses do.

    Example:
    >>> keras_amm.network.labels.target_probabilities([[0.75, 0.25], [0.0, 1.0]], label_smoothing=0.5).numpy()
    array([0.625, 0.75 ], dtype=float32)
    """
    values = tf.cast(_one_array(y), tf.float32)
    if values.shape.rank == 2 and values.shape[1] == 2:
        target = tf.reduce_max(values, axis=1)
    else:
        values = tf.reshape(values, [-1])
        target = tf.where((values > 0.0) & (values < 1.0), tf.maximum(values, 1.0 - values), tf.ones_like(values))
    return target * (1.0 - label_smoothing) + label_smoothing / 2.0


def label_smoothing_of(loss: Any) -> float:
    """By how much what `compile` takes as a loss smooths the labels; 0 if it does not, or none can be told.

    Example:
    >>> keras_amm.network.labels.label_smoothing_of(keras.losses.BinaryCrossentropy(label_smoothing=0.1))
    0.1
    >>> keras_amm.network.labels.label_smoothing_of("binary_crossentropy")
    0.0
    """
    parts = given_entries(loss)
    smoothing = getattr(parts[0], "label_smoothing", None) if len(parts) == 1 else None
    return float(smoothing) if isinstance(smoothing, numbers.Real) else 0.0


def _one_array(y: TensorLike) -> Tensor:
    """Labels as one tensor; a ValueError if there are none or several arrays."""
    if y is None:
        raise ValueError(
            "Margins towards the ground truth need labels. Received: y=None. Pass (x, y), or a "
            "data set that yields (x, y)."
        )
    y = only_entry(y)
    if isinstance(y, dict) or (
        isinstance(y, (list, tuple)) and any(keras.ops.is_tensor(part) for part in keras.tree.flatten(y))
    ):
        raise ValueError(
            f"Expected one array of labels for the one output of the classifier. Received: y of type "
            f"{type(y).__name__} with {len(keras.tree.flatten(y))} arrays."
        )
    return tf.convert_to_tensor(y)


def _from_integers(y: Tensor, num_classes: int) -> tuple[Tensor, list[Check]]:
    checks = []
    if y.dtype.is_floating:
        is_whole = tf.reduce_all(tf.equal(y, tf.floor(y)))
        checks.append(
            Check(
                is_whole,
                "Labels must be whole numbers, the indices of the classes.",
                (_first(y, y != tf.floor(y)),),
                got="Got labels such as",
            )
        )
    elif not (y.dtype.is_integer or y.dtype.is_bool):
        raise ValueError(
            f"Labels must be numbers, the indices of the classes. Received: labels of dtype {y.dtype.name}."
        )
    # 64 bits, so that a large label cannot wrap around into the range.
    indices = tf.cast(y, tf.int64)
    outside = tf.logical_or(indices < 0, indices >= num_classes)
    checks.append(
        Check(
            tf.logical_not(tf.reduce_any(outside)),
            f"Labels must lie in 0..{num_classes - 1}, the classifier's outputs.",
            (_first(indices, outside),),
            got="Got labels such as",
        )
    )
    # Labels outside the range would make later operations fail first, with worse messages than that of the check.
    return tf.cast(tf.clip_by_value(indices, 0, num_classes - 1), tf.int32), checks


def _from_probabilities(y: Tensor) -> tuple[Tensor, list[Check]]:
    values = tf.cast(y, tf.float32)
    total = tf.reduce_sum(values, axis=1)
    is_distribution = (tf.abs(total - 1.0) < 1e-2) & (tf.reduce_min(values, axis=1) >= 0.0)
    # Hinge losses take -1 for every class but the label's.
    is_signed = tf.reduce_all(tf.abs(values) == 1.0, axis=1) & (total == 2.0 - values.shape[1])
    bad = tf.logical_not(is_distribution | is_signed)
    check = Check(
        tf.logical_not(tf.reduce_any(bad)),
        "Labels with one column per class must be class probabilities (one-hot or smoothed): not negative and "
        "of sum 1; regression targets have no margin.",
        (_first(total, bad),),
        got="Got a row of sum",
    )
    return tf.argmax(values, axis=1, output_type=tf.int32), [check]


def _first(values: Tensor, mask: Tensor) -> Tensor:
    """The first value under the mask (any value where the mask is empty), without a dynamic shape."""
    # One value is appended, because a replica's part of a batch may be empty.
    values, mask = tf.pad(values, [[0, 1]]), tf.pad(mask, [[0, 1]], constant_values=True)
    return tf.gather(values, tf.argmax(tf.cast(mask, tf.int32)))
