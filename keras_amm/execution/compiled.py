"""Functions of a model and a batch, compiled once and kept for as long as they are right.

A compiled function goes stale, so that another one takes its place, with another setting, with another
kind of batch (the shape of one image, or a dtype), and for a model whose list of weights has changed, as
it does when a layer is exchanged. The values of weights may change: they are read whenever the function
runs. What a layer computed from data into a constant, as `Normalization.adapt` does, is not noticed.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import keras
import tensorflow as tf

from keras_amm.typing import Tensor


class CompiledPerModel:
    """Functions compiled once per model, setting and kind of batch; they are dropped together with their model.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> compiled, traced = keras_amm.execution.compiled.CompiledPerModel(), []
    >>> for size in (1, 5):
    ...     x = tf.ones((size, 2))
    ...     y = compiled.get(model, "plain", lambda model, x: traced.append(x.shape) or model(x), [x])(x)
    >>> y.shape, traced
    (TensorShape([5, 3]), [TensorShape([None, 2])])
    """

    def __init__(self) -> None:
        self._entries: Any = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(
        self, model: keras.Model, setting: Hashable, run: Callable[..., Any], batch: list[Tensor]
    ) -> Callable[..., Any]:
        """`run(model, *batch)` as a compiled function of the batch, whose tensors may have any number of samples.

        Of several calls that agree in model, setting and kind of batch, the first one's `run` counts: what
        it uses beside its arguments must follow from the setting, and must not hold the model itself.
        """
        signature = [tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in batch]
        key, weights = (setting, *signature), model.weights
        with self._lock:
            of_model = self._entries.setdefault(model, {})
            known, function = of_model.get(key, ([], None))
            if function is None or not _are_same(known, weights):
                # A strong reference to the model would keep its entry alive for ever.
                reference = weakref.ref(model)
                function = tf.function(
                    lambda *batch: run(reference(), *batch), input_signature=signature, autograph=False
                )
                of_model[key] = [weakref.ref(weight) for weight in weights], function
        return function


def _are_same(references: list[Any], weights: list[Any]) -> bool:
    return len(references) == len(weights) and all(
        reference() is weight for reference, weight in zip(references, weights, strict=True)
    )
