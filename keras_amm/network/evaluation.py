"""All that the best-first search needs of automatic differentiation, with `execution.gradients.weight_gradients`.

`seeds` [R, C] are factors of the logits of R images: a row that is 1 at one class and -1 at another stands for the
difference of these two logits. For another backend than TensorFlow, `evaluate` is to be written again.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_amm.execution.gradients import image_gradient
from keras_amm.network.classifier import Classifier
from keras_amm.typing import Tensor


def evaluate(classifier: Classifier, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The logits [R, C] of images x [R, ...], and the function from seeds to the gradient [R, ...] of each row in x."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits = classifier(x)
    return logits, lambda seeds: image_gradient(tape, logits, x, output_gradients=seeds)


def difference_seeds(source: Tensor, target: Tensor, num_classes: int, dtype: tf.DType) -> Tensor:
    """The seeds [R, C] of the logit of the target class [R] minus that of the source class [R].

    Example:
    >>> keras_amm.network.evaluation.difference_seeds(tf.constant([2]), tf.constant([0]), 3, tf.float32).numpy()
    array([[ 1.,  0., -1.]], dtype=float32)
    """
    return tf.one_hot(target, num_classes, dtype=dtype) - tf.one_hot(source, num_classes, dtype=dtype)
