"""What the margin needs to know of a network: its logits, deterministic and in float32."""

from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check, in_xla
from keras_amm.network.kernels.convolution import cheap_gradient_convolution
from keras_amm.network.kernels.half_precision import HALF_PRECISION, float32_properties
from keras_amm.network.kernels.max_pool import elementwise_max_pool
from keras_amm.network.kernels.moments import twice_differentiable_moments
from keras_amm.network.kernels.replaced import replaced

_PIECEWISE_LINEAR = (
    "Dense Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Conv2DTranspose "
    "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D "
    "BatchNormalization Flatten Reshape Permute Activation ReLU LeakyReLU PReLU Dropout SpatialDropout2D "
    "ZeroPadding2D Cropping2D UpSampling2D Rescaling Normalization Add Subtract Average Concatenate Maximum "
    "InputLayer Identity"
).split()
_CONTAINERS = ("Sequential", "Functional")
_LINEAR_ACTIVATIONS = [keras.activations.get(name) for name in ("linear", "relu", "relu6", "leaky_relu", "hard_tanh")]


def require_classifier(model: Any, *, must_be_built: bool = True) -> None:
    """Refuse what has no input-space margin: anything but a single-input classifier.

    Args:
        model: the candidate.
        must_be_built: bool, whether an unbuilt model is refused.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it is not built, takes several inputs, gives several
            outputs, or its output is not one score per class.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> keras_amm.network.classifier.require_classifier(model)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected a Keras model, a single-input classifier. Received: {model!r} of type {type(model).__name__}."
        )
    if not model.built:
        if must_be_built:
            raise ValueError(
                f"The model must be built before margins are computed. Received: model {model.name!r} of class "
                f"{type(model).__name__}, not built. Call it on a batch of images, or model.build(input_shape), first."
            )
        return
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if inputs and len(inputs) != 1:
        raise ValueError(
            f"A margin in input space needs a classifier with one input. Received: model {model.name!r} with "
            f"{len(inputs)} inputs: {[i.name for i in inputs]}."
        )
    if outputs:
        if len(outputs) != 1:
            raise ValueError(
                f"Expected a classifier with one output. Received: model {model.name!r} with {len(outputs)} outputs."
            )
        require_class_scores(tuple(outputs[0].shape), model.name)


def require_class_scores(shape: tuple[int | None, ...], name: str) -> None:
    """Refuse outputs that are not one score per class.

    Args:
        shape: the output's shape, batch first.
        name: the model's name, for the message.

    Raises:
        ValueError: the rank is not 2, or there are fewer than two classes.

    Example:
    >>> keras_amm.network.classifier.require_class_scores((None, 10), "mlp")
    """
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"A classifier's output must have shape [batch, classes]. Received: model {name!r} with output of shape "
            f"{shape}."
        )
    if shape[1] < 2:
        raise ValueError(
            f"A margin needs at least two classes, so two or more output units. Received: model {name!r} with one "
            f"output unit. Give a binary classifier two outputs, a softmax or logits; a regression model has no margin."
        )


class ClassifierWrapper:
    """What marks a model whose margins are those of the classifier at its `base_model`.

    An attribute of that name alone does not: many a model calls its backbone so.
    """

    base_model: keras.Model


def unwrapped(model: Any) -> Any:
    """The classifier whose margins are meant.

    Args:
        model: `keras.Model` or `AMMModel`.

    Returns:
        The wrapped classifier, or `model` itself.

    Example:
    >>> classifier = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> keras_amm.network.classifier.unwrapped(keras_amm.wrap(classifier)) is classifier
    True
    """
    return model.base_model if isinstance(model, ClassifierWrapper) else model


def finite_images(x: Any) -> Check:
    """The check that images are numbers.

    Args:
        x: float tensor [B, ...].

    Returns:
        A `Check`.

    Example:
    >>> bool(keras_amm.network.classifier.finite_images(tf.ones((1, 2))).ok)
    True
    """
    return Check(
        tf.reduce_all(tf.math.is_finite(x)), "Images must be finite. Got NaN or infinity in a batch of images."
    )


class Classifier:
    """A view of a Keras model as the function that DeepFool attacks.

    Args:
        model: `keras.Model`, a single-input classifier, built.
        from_logits: whether its output is logits (True), or probabilities of
            a softmax (False); None finds out.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it is no single-input classifier, or is not built.

    Example:
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    >>> logits, checks = keras_amm.network.classifier.Classifier(model).logits(np.zeros((2, 4), "float32"))
    >>> logits.shape
    TensorShape([2, 3])
    """

    def __init__(self, model: Any, from_logits: bool | None = None) -> None:
        model = unwrapped(model)
        require_classifier(model)
        self.model = model
        self.from_logits = from_logits
        self.dtype = "float64" if model.compute_dtype == "float64" else "float32"
        self.is_dense = all(len(weight.shape) <= 2 for weight in model.weights)
        self.is_deterministic = self._runs_alike_in_training()
        self.is_piecewise_linear = all(_is_piecewise_linear(layer) for layer in model._flatten_layers())

    def inputs(self, x: Any) -> Any:
        """`x` as a float tensor that has a gradient, in the shape that the model takes."""
        x = as_images(x, self.dtype)
        if not getattr(self.model, "inputs", None):
            return x
        # Of any number: a model that was built by a batch of data remembers that batch's size.
        expected = tf.TensorShape([None, *self.model.input_shape[1:]])
        fitted = _with_or_without_channel(x, expected)
        if not fitted.shape.is_compatible_with(expected):
            raise ValueError(
                f"Images do not fit the model. Expected: shape {tuple(expected)}, for model {self.model.name!r}. "
                f"Received: shape {tuple(x.shape)}."
            )
        return fitted

    def __call__(self, x: Any) -> Any:
        """The logits alone."""
        return self.logits(x)[0]

    def logits(self, x: Any) -> tuple[Any, list[Check]]:
        """Logits in inference mode, computed in float32 (float64 for a float64 model).

        Args:
            x: float tensor [B, ...].

        Returns:
            A pair: tensor [B, C], and the checks that its values must pass.

        Raises:
            ValueError: the output's shape is not that of a classifier, or it
                is known to be probabilities whose logits cannot be had.
        """
        kernels = {"max_pool": elementwise_max_pool} if in_xla() else {"convolution": cheap_gradient_convolution}
        with (
            replaced(keras.Layer, **float32_properties),
            replaced(tf.nn, moments=twice_differentiable_moments, **kernels),
        ):
            return self.read(self.model(x, training=False))

    def read(self, output: Any) -> tuple[Any, list[Check]]:
        """Logits behind an output of the model.

        Args:
            output: what the model returned, a tensor [B, C].

        Returns:
            A pair: tensor [B, C], and the checks that its values must pass.

        Raises:
            ValueError: as for `logits`.
        """
        if not keras.ops.is_tensor(output):
            raise ValueError(
                f"Expected a classifier with one output. Received: model {self.model.name!r} with output of type "
                f"{type(output).__name__}."
            )
        require_class_scores(tuple(output.shape), self.model.name)
        logits, checks = self._undo_softmax(output)
        logits = tf.cast(logits, self.dtype)
        checks.append(
            Check(
                tf.reduce_all(tf.math.is_finite(logits)),
                "The classifier's logits must be finite. Got NaN or infinity: look at its weights and learning rate.",
            )
        )
        return logits, checks

    def _runs_alike_in_training(self) -> bool:
        """Whether training mode and half precision change nothing, so that one pass can serve twice."""
        for layer in self.model._flatten_layers():
            if layer.compute_dtype in HALF_PRECISION or (
                layer._call_has_training_arg and type(layer).__name__ not in _CONTAINERS
            ):
                return False
        return True

    def _undo_softmax(self, output: Any) -> tuple[Any, list[Check]]:
        if self.from_logits:
            return output, []
        kept = getattr(output, "_keras_logits", None)
        if kept is None:
            if self.from_logits is False:
                raise ValueError(
                    "from_logits=False needs the logits that Keras keeps with the output of a softmax, and the output "
                    f"of model {self.model.name!r} has none. Let it end in a softmax layer or activation, or in logits."
                )
            return output, [
                Check(
                    # The logits of a few images may happen to sum to one.
                    tf.logical_not(_are_probabilities(output)) | (tf.shape(output)[0] < 4),
                    f"The output of model {self.model.name!r} looks like probabilities, and its logits, which "
                    "DeepFool needs, could not be found. Let the model end in a softmax layer or activation, or in "
                    "logits, or pass DeepFool(from_logits=True) if these are logits.",
                )
            ]
        return kept, [
            Check(
                _are_probabilities(output),
                f"The output of model {self.model.name!r} must be logits or a softmax over classes; rows of a sigmoid "
                "or other activation are no distribution and have no one predicted class. Got a row of sum",
                (tf.reduce_sum(output, axis=1)[0],),
            )
        ]


def as_images(x: Any, dtype: str | None = None) -> Any:
    """Images as a float tensor, which has a gradient.

    Args:
        x: one array or tensor [B, ...] of any numeric dtype.
        dtype: the dtype wanted; None keeps float32 and float64, and makes
            float32 of all else.

    Returns:
        Float tensor; `x` itself if it is one.

    Raises:
        ValueError: `x` is several arrays, the inputs of a multi-input model.

    Example:
    >>> keras_amm.network.classifier.as_images(np.zeros((1, 2, 2), "uint8")).dtype
    tf.float32
    """
    if isinstance(x, dict) and len(x) == 1:
        (x,) = x.values()
    elif isinstance(x, (list, tuple)) and len(x) == 1 and keras.ops.is_tensor(x[0]):
        (x,) = x
    if isinstance(x, dict) or (isinstance(x, (list, tuple)) and any(keras.ops.is_tensor(part) for part in x)):
        raise ValueError(
            f"A margin in input space needs one array of images. Received: {len(x)} arrays in a {type(x).__name__}."
        )
    x = tf.convert_to_tensor(x)
    return tf.cast(x, dtype or (x.dtype if x.dtype in (tf.float32, tf.float64) else tf.float32))


def _with_or_without_channel(x: Any, expected: Any) -> Any:
    """Grayscale images with the last axis of length one, or without it, as Keras's models take both."""
    if x.shape.rank is not None and x.shape.rank == expected.rank - 1 and expected[-1] == 1:
        return x[..., None]
    if x.shape.rank is not None and x.shape.rank == expected.rank + 1 and x.shape[-1] == 1:
        return x[..., 0]
    return x


def _are_probabilities(output: Any) -> Any:
    total = tf.reduce_sum(tf.cast(output, tf.float32), axis=1)
    near_one = tf.reduce_all(tf.abs(total - 1.0) < (1e-2 if output.dtype.name in HALF_PRECISION else 1e-4))
    return tf.logical_and(near_one, tf.reduce_min(output) >= 0)


def _is_piecewise_linear(layer: Any) -> bool:
    """Whether the Hessian of the layer in inference mode is known to be zero."""
    name = type(layer).__name__
    if type(layer).__module__.split(".")[0] != "keras":
        return False
    if name in _CONTAINERS:
        # a Functional model also holds bare operations, such as x * x
        return all(isinstance(part, keras.Layer) for part in getattr(layer, "operations", ()))
    activation = getattr(layer, "activation", None)
    return name in _PIECEWISE_LINEAR and (activation is None or activation in _LINEAR_ACTIVATIONS)
