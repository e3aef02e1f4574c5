"""What a classifier ends in: logits, a softmax over classes, or one sigmoid unit of two classes."""

from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.network.kernels.half_precision import HALF_PRECISION
from keras_amm.typing import Tensor

_LINEAR = (keras.layers.Dense, keras.layers.EinsumDense)


def raw_output(model: keras.Model, output: Tensor, from_logits: bool | None) -> tuple[Tensor, list[Check]]:
    """The output [B, units] before its softmax or sigmoid, if it has one, and the checks that its values must pass."""
    if from_logits:
        return output, []
    is_one_unit = output.shape[1] == 1
    head = "sigmoid" if is_one_unit else "softmax"
    # Keras keeps the logits with the output of a softmax or sigmoid, for its own losses.
    kept = getattr(output, "_keras_logits", None)
    if kept is not None:
        return kept, [_is_sigmoid(model, output, kept) if is_one_unit else _is_softmax(model, output)]
    if from_logits is False:
        raise ValueError(
            f"from_logits=False needs the logits that Keras keeps with the output of a {head}, and the output "
            f"of model {model.name!r} has none. Let it end in a {head} layer or activation, or in logits."
        )
    if is_one_unit and _ends_in_linear_layer(model):
        return output, []
    looks_like_it = _are_fractions(output) if is_one_unit else _are_distributions(output)
    return output, [
        Check(
            # The logits of a few images may happen to look so.
            tf.logical_not(looks_like_it) | (tf.shape(output)[0] < 4),
            f"The output of model {model.name!r} looks like probabilities, and its logits, which "
            f"DeepFool needs, could not be found. Let the model end in a {head} layer or activation, or in "
            "logits, or pass DeepFool(from_logits=True) if these are logits.",
        )
    ]


def _is_softmax(model: keras.Model, output: Tensor) -> Check:
    return Check(
        _are_distributions(output),
        f"The output of model {model.name!r} must be logits or a softmax over classes; rows of a sigmoid "
        "or other activation are no distribution and have no one predicted class.",
        (tf.reduce_sum(output, axis=1)[0],),
        got="Got a row of sum",
    )


def _is_sigmoid(model: keras.Model, output: Tensor, kept: Tensor) -> Check:
    expected = tf.sigmoid(tf.cast(kept, tf.float32))
    return Check(
        tf.reduce_all(tf.abs(tf.cast(output, tf.float32) - expected) < _tolerance(output)),
        f"The one output unit of model {model.name!r} must be a logit or a sigmoid; a softmax of one unit is always 1.",
        (output[0, 0],),
    )


def _are_distributions(output: Tensor) -> Tensor:
    """Whether all rows of [B, C] are distributions, a scalar boolean tensor."""
    total = tf.reduce_sum(tf.cast(output, tf.float32), axis=1)
    near_one = tf.reduce_all(tf.abs(total - 1.0) < _tolerance(output))
    return tf.logical_and(near_one, tf.reduce_min(output) >= 0)


def _are_fractions(output: Tensor) -> Tensor:
    """Whether all of [B, 1] lie in 0..1, a scalar boolean tensor."""
    return tf.logical_and(tf.reduce_min(output) >= 0, tf.reduce_max(output) <= 1)


def _tolerance(output: Tensor) -> float:
    return 1e-2 if output.dtype.name in HALF_PRECISION else 1e-4


def _ends_in_linear_layer(model: Any) -> bool:
    """Whether the output is known to be logits, whatever values it has; not of a subclassed model."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return False
    last = outputs[0]._keras_history.operation
    if isinstance(last, keras.Model):
        return _ends_in_linear_layer(last)
    return isinstance(last, _LINEAR) and last.activation in (None, keras.activations.linear)
