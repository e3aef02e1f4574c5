"""Functions of a model and a batch, compiled once and kept while they are valid.

A new function is compiled for another setting or kind of batch (a dtype, or the size of one image, where the
model's input fixes it), and when the model has changed in what a compiled function takes for constant: its list
of weights, its layers and their attributes, or how it was compiled. New values of the weights need none: the
function reads them whenever it runs.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amm.typing import Tensor


def _attributes_of_keras() -> frozenset[str]:
    """The attributes that Keras uses for itself, and changes while a model is built, trained and saved."""
    image = keras.Input((1,))
    empty = (keras.layers.Layer(), keras.Model(), keras.Sequential(), keras.Model(image, image))
    run = ("history", "optimizer", "stop_training", "stop_evaluating", "stop_predicting", "_eval_epoch_iterator")
    return frozenset(run).union(*map(vars, empty))


_OF_KERAS = _attributes_of_keras()
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
# What is larger is compared by its identity alone.
_MOST_COMPARED = 4096


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
        self._lock = threading.RLock()

    def get(
        self, model: keras.Model, setting: Hashable, run: Callable[..., Any], batch: list[Tensor]
    ) -> Callable[..., Any]:
        """`run(model, *batch)` as a compiled function of the batch, whose tensors may have any number of samples.

        For a model, setting and kind of batch that came before, the function compiled then is returned, and the new
        `run` is ignored. So whatever `run` reads besides its arguments must be part of `setting`. It must not refer to
        the model, which could then never be freed.
        """
        signature = _signature(model, batch)
        key = (setting, *signature)
        with self._lock:
            of_model = self._entries.setdefault(model, {})
            known, function = of_model.get(key, (None, None))
            if function is None or known != _constants(model):
                # A strong reference to the model would keep its entry alive for ever.
                reference = weakref.ref(model)
                function = tf.function(
                    lambda *batch: run(reference(), *batch), input_signature=signature, autograph=False
                )
                if not tf.config.functions_run_eagerly():
                    # Before the constants are noted, since layers may keep what they see while they are traced.
                    function.get_concrete_function()
                of_model[key] = _constants(model), function
        return function


def _signature(model: keras.Model, batch: list[Tensor]) -> list[tf.TensorSpec]:
    """Of images and what belongs to them: any number, and any size in those axes that the model leaves open."""
    images, *others = batch
    size = images.shape[1:]
    expected = model.inputs[0].shape[1:] if getattr(model, "inputs", None) else size
    if len(expected) == len(size):
        size = [None if wanted is None else got for wanted, got in zip(expected, size, strict=True)]
    shapes = [size, *(part.shape[1:] for part in others)]
    return [tf.TensorSpec([None, *shape], part.dtype) for shape, part in zip(shapes, batch, strict=True)]


class _Identity:
    """An object that equals itself alone. It is not kept alive, as it may refer to the model."""

    __slots__ = ("_get",)
    _get: Callable[[], Any]

    def __init__(self, value: Any) -> None:
        try:
            self._get = weakref.ref(value)
        except TypeError:
            self._get = lambda: value

    def __eq__(self, other: object) -> bool:
        mine = self._get()
        return mine is not None and isinstance(other, _Identity) and mine is other._get()

    __hash__ = None  # type: ignore[assignment]


def _constants(model: keras.Model) -> list[Any]:
    """What a compiled function takes for constant of a model, to be compared with the same at another time."""
    found: list[Any] = [_Identity(weight) for weight in model.weights]
    # Keras makes it anew whenever the model is compiled.
    found.append(_comparable(getattr(model, "_compile_config", None)))
    for layer in model._flatten_layers(include_self=True, recursive=True):
        found += [_Identity(layer), layer.trainable, layer.dtype_policy.name]
        found += [(name, _comparable(value)) for name, value in vars(layer).items() if name not in _OF_KERAS]
    return found


def _comparable(value: Any) -> Any:
    """Numbers, texts and small arrays by value, containers by what they hold, all else by identity."""
    if isinstance(value, _PLAIN):
        # 1, 1.0 and True are equal, but make different graphs.
        return type(value), value
    if isinstance(value, keras.Variable) or (isinstance(value, tf.Tensor) and not hasattr(value, "numpy")):
        # Variables are read when the function runs; symbolic tensors are of one tracing, and no constants.
        return None
    if isinstance(value, (np.ndarray, np.generic)) and value.nbytes <= _MOST_COMPARED and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, (list, tuple)):
        return [_comparable(part) for part in value]
    if isinstance(value, dict):
        return [(_comparable(key), _comparable(part)) for key, part in value.items()]
    return _Identity(value)
