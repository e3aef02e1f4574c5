"""Loops whose rounds are graphs of their own."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def as_round(body: Callable[..., Any]) -> Callable[..., Any]:
    """A function of tensors that is called in each round of a `tf.while_loop`, as a graph that is not merged into it.

    TensorFlow merges a loop's operations into the graph around it, which has a cycle then. In which order it visits
    them to replace them by oneDNN's faster ones is a matter of chance there, and the gradient of a max pooling is
    replaced only if the pooling was before it. Without that, a training step of LeNet takes a quarter longer.
    """
    if tf.executing_eagerly():
        return body
    return tf.function(body, autograph=False, experimental_attributes={"_noinline": True})
