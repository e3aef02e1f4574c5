"""What the margin needs to know of a network: its logits, in inference mode and in float32."""

from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.execution.xla import in_xla
from keras_amm.network.inputs import images_for, require_class_scores, require_classifier, unwrapped
from keras_amm.network.kernels.convolution import cheap_gradient_convolution
from keras_amm.network.kernels.half_precision import HALF_PRECISION, float32_properties
from keras_amm.network.kernels.max_pool import elementwise_max_pool
from keras_amm.network.kernels.moments import twice_differentiable_moments
from keras_amm.network.kernels.replaced import replaced
from keras_amm.network.layers import is_piecewise_linear, is_same_in_training
from keras_amm.network.structures import input_key, only_entry
from keras_amm.typing import Tensor, TensorLike


class Classifier:
    """A view of a Keras model as the function from images to logits that DeepFool attacks.

    Args:
        model: `keras.Model` or `AMMModel`, a built single-input classifier.
        from_logits: whether its output is logits (True), or probabilities of
            a softmax (False); None finds out.

    Attributes:
        model: the Keras model, without the `AMMModel` around it.
        from_logits: as given.
        dtype: str, that of images and logits: float64 for a float64 model, float32 for all others.
        is_dense: whether no weight has over two axes, as in a network without convolutions.
        is_deterministic: whether a pass in training mode gives the logits that the attack needs.
        is_piecewise_linear: whether the logits are known to have no second derivative with respect to the image.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it is no single-input classifier, or is not built.
    """

    def __init__(self, model: Any, from_logits: bool | None = None) -> None:
        model = unwrapped(model)
        require_classifier(model)
        self.model = model
        self.from_logits = from_logits
        self._key = input_key(model)
        self.dtype = "float64" if model.compute_dtype == "float64" else "float32"
        self.is_dense = all(len(weight.shape) <= 2 for weight in model.weights)
        self.is_deterministic = is_same_in_training(model)
        self.is_piecewise_linear = is_piecewise_linear(model)

    def inputs(self, x: TensorLike) -> Tensor:
        """Images as a float tensor [B, ...] in the shape that the model takes."""
        return images_for(self.model, x, self.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """The logits [B, C] alone."""
        return self.logits(x)[0]

    def logits(self, x: Tensor) -> tuple[Tensor, list[Check]]:
        """Logits [B, C] in float32 (float64 for a float64 model), and the checks that their values must pass."""
        kernels = {"max_pool": elementwise_max_pool} if in_xla() else {"convolution": cheap_gradient_convolution}
        with (
            replaced(keras.Layer, **float32_properties),
            replaced(tf.nn, moments=twice_differentiable_moments, **kernels),
        ):
            return self.read(self.model(x if self._key is None else {self._key: x}, training=False))

    def read(self, output: Tensor) -> tuple[Tensor, list[Check]]:
        """The logits [B, C] behind an output of the model, and the checks that its values must pass."""
        output = only_entry(output)
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

    def _undo_softmax(self, output: Tensor) -> tuple[Tensor, list[Check]]:
        if self.from_logits:
            return output, []
        # Keras keeps the logits with the output of a softmax, for its own losses.
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
                "or other activation are no distribution and have no one predicted class.",
                (tf.reduce_sum(output, axis=1)[0],),
                got="Got a row of sum",
            )
        ]


def _are_probabilities(output: Tensor) -> Tensor:
    """Whether all rows of [B, C] are distributions, a scalar boolean tensor."""
    total = tf.reduce_sum(tf.cast(output, tf.float32), axis=1)
    near_one = tf.reduce_all(tf.abs(total - 1.0) < (1e-2 if output.dtype.name in HALF_PRECISION else 1e-4))
    return tf.logical_and(near_one, tf.reduce_min(output) >= 0)
