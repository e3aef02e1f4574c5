"""What is accepted: which models have a margin in input space, and which images fit them."""

from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.network.structures import only_entry
from keras_amm.typing import Tensor, TensorLike


class ClassifierWrapper:
    """Marks a model as a wrapper: its margins are those of the classifier in its attribute `base_model`.

    The attribute alone does not show that, because many models call their backbone `base_model`, and some have an
    `attack` of another kind.
    """

    base_model: keras.Model
    attack: Any


def unwrapped(model: Any) -> Any:
    """The classifier that an `AMMModel` wraps; any other model itself."""
    return model.base_model if isinstance(model, ClassifierWrapper) else model


def own_attack(model: Any) -> Any:
    """The attack of an `AMMModel`; None of any other model."""
    return model.attack if isinstance(model, ClassifierWrapper) else None


def require_classifier(model: Any, *, must_be_built: bool = True) -> None:
    """Refuse, by a TypeError or ValueError, all but a Keras model with one input and one score per class."""
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
    """Refuse, by a ValueError, the output shape of the model `name` unless it is [batch, units]."""
    if len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"A classifier's output must have shape [batch, classes]. Received: model {name!r} with output of shape "
            f"{shape}."
        )


def as_images(x: TensorLike, dtype: str | None = None) -> Tensor:
    """One array of images [B, ...], alone or in a list or dictionary of one, as a float tensor.

    It is of the given dtype; without one, float32 and float64 stay and all else becomes float32. A TypeError refuses
    what are no numbers.
    """
    x = only_entry(x)
    if isinstance(x, dict) or (isinstance(x, (list, tuple)) and any(keras.ops.is_tensor(part) for part in x)):
        raise ValueError(
            f"A margin in input space needs one array of images. Received: {len(x)} arrays in a {type(x).__name__}."
        )
    x = tf.convert_to_tensor(x)
    if not (x.dtype.is_floating or x.dtype.is_integer or x.dtype.is_bool):
        raise TypeError(
            "Images must be numbers. Expected: an array of integers or floating-point numbers, as "
            f"x.astype('float32') makes of numbers that are written as text. Received: dtype {x.dtype.name}."
        )
    return tf.cast(x, dtype or (x.dtype if x.dtype in (tf.float32, tf.float64) else tf.float32))


def images_for(model: keras.Model, x: TensorLike, dtype: str) -> Tensor:
    """Images as a float tensor [B, ...] in the shape that the model takes."""
    x = as_images(x, dtype)
    if not getattr(model, "inputs", None):
        return x
    # The number of images is left open: a model that was built by a batch of data remembers that batch's size.
    expected = tf.TensorShape([None, *model.input_shape[1:]])
    fitted = _with_or_without_channel(x, expected)
    if not fitted.shape.is_compatible_with(expected):
        raise ValueError(
            f"Images do not fit the model. Expected: shape {tuple(expected)}, for model {model.name!r}. "
            f"Received: shape {tuple(x.shape)}."
        )
    return fitted


def takes_integers(model: keras.Model) -> bool:
    """Whether the model's input is of a dtype of whole numbers; a subclassed model does not say it."""
    return any("float" not in tensor.dtype for tensor in getattr(model, "inputs", None) or ())


def _with_or_without_channel(x: Tensor, expected: Any) -> Tensor:
    """Grayscale images with a last axis of length one, or without it: Keras's models take both."""
    if x.shape.rank is not None and x.shape.rank == expected.rank - 1 and expected[-1] == 1:
        return x[..., None]
    if x.shape.rank is not None and x.shape.rank == expected.rank + 1 and x.shape[-1] == 1:
        return x[..., 0]
    return x


def finite_images(x: Tensor) -> Check:
    """The check that images [B, ...] are numbers."""
    return Check(
        tf.reduce_all(tf.math.is_finite(x)), "Images must be finite. Got NaN or infinity in a batch of images."
    )
