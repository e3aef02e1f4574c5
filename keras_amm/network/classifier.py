"""What the margin needs to know of a network: its logits, in inference mode and in float32."""

import copy
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

from keras_amm.execution.checks import Check
from keras_amm.execution.xla import in_xla
from keras_amm.network.batch_statistics import Statistics, has_batch_statistics, normalising_by, recorded_statistics
from keras_amm.network.heads import raw_output
from keras_amm.network.inputs import images_for, require_class_scores, require_classifier, takes_integers, unwrapped
from keras_amm.network.kernels.convolution import cheap_gradient_convolution
from keras_amm.network.kernels.half_precision import float32_properties, require_usable_gradients
from keras_amm.network.kernels.input_dtype import uncast_functional, uncast_sequential
from keras_amm.network.kernels.max_pool import elementwise_max_pool
from keras_amm.network.kernels.moments import twice_differentiable_moments
from keras_amm.network.kernels.replaced import replaced
from keras_amm.network.layers import is_piecewise_linear
from keras_amm.network.pixel_units import Deviation, from_pixel_units, to_pixel_units
from keras_amm.network.structures import input_key, only_entry
from keras_amm.network.training_mode import computes_in, is_same_in_training
from keras_amm.typing import Tensor, TensorLike


class Classifier:
    """A view of a Keras model as the function from images to logits that an attack sees.

    With a deviation, these images are in pixel units: those of the model times the deviation by which they were
    divided. `inputs` makes them, and the model gets them divided again. The norm says how far apart two of them are.

    Args:
        model: `keras.Model` or `AMMModel`, a built single-input classifier.
        from_logits: whether its output is logits (True), or probabilities of
            a softmax or sigmoid (False); None finds out.
        deviation: by what the model's images were divided, one number or one per channel; None for 1.
        norm: the name of the norm in which distances are measured.

    Attributes:
        model: the Keras model, without the `AMMModel` around it.
        from_logits: as given.
        deviation: as given.
        statistics: by what its BatchNormalization layers normalise in place of their moving statistics, if not empty.
        norm: as given.
        dtype: str, that of images and logits: float64 for a float64 model, float32 for all others.
        is_dense: whether no weight has over two axes, as in a network without convolutions.
        is_deterministic: whether a pass in training mode gives the logits that the attack needs.
        is_piecewise_linear: whether the logits are known to have no second derivative with respect to the image.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it is no single-input classifier, is not built, or is quantised to float8; or there is a deviation,
            and its input is of whole numbers.
    """

    def __init__(
        self, model: Any, from_logits: bool | None = None, deviation: Deviation | None = None, norm: str = "l2"
    ) -> None:
        model = unwrapped(model)
        require_classifier(model)
        require_usable_gradients(model)
        self.model = model
        if deviation is not None and takes_integers(model):
            raise ValueError(
                "`deviation` is for images that were divided by it before they reach the model, and this model takes "
                f"whole numbers. Expected: no deviation. Received: deviation={deviation}, model {model.name!r}."
            )
        self.from_logits = from_logits
        self.deviation = deviation
        self.statistics: Statistics = []
        self.norm = norm
        self._key = input_key(model)
        self.dtype = "float64" if model.compute_dtype == "float64" else "float32"
        self.is_dense = all(len(weight.shape) <= 2 for weight in model.weights)
        self.is_deterministic = is_same_in_training(model) and computes_in(model, self.dtype)
        self.is_piecewise_linear = is_piecewise_linear(model)

    def in_batch(self, statistics: Statistics) -> "Classifier":
        """The same view of the network as it is while it is trained on one batch, with the statistics of that batch."""
        view = copy.copy(self)
        view.statistics = statistics
        return view

    @property
    def sources(self) -> list[Tensor]:
        """The tensors among the statistics, on which the logits depend as on weights; a tape has to watch them."""
        return [value for _, value in self.statistics]

    def in_batch_of(self, x: Tensor) -> "Classifier":
        """`in_batch` for the images [B, ...] of this view, by one more pass over them; no layer's state changes."""
        if not has_batch_statistics(self.model):
            return self
        with recorded_statistics() as statistics, keras.StatelessScope():
            self.output(x, training=True)
        return self.in_batch(statistics)

    def inputs(self, x: TensorLike) -> Tensor:
        """Images as `predict` takes them, as this view takes them: float [B, ...], in pixel units.

        Where the model's input is of whole numbers, they are whole numbers.
        """
        x = images_for(self.model, x, self.dtype)
        if takes_integers(self.model):
            return tf.cast(tf.cast(x, self.model.inputs[0].dtype), self.dtype)
        return to_pixel_units(x, self.deviation)

    def for_model(self, x: Tensor) -> Tensor:
        """Images [B, ...] that this view takes, or their differences, as the model takes them."""
        return from_pixel_units(x, self.deviation)

    def __call__(self, x: Tensor) -> Tensor:
        """The logits [B, C] alone."""
        return self.logits(x)[0]

    def logits(self, x: Tensor) -> tuple[Tensor, list[Check]]:
        """Logits [B, C] in float32 (float64 for a float64 model), and the checks that their values must pass."""
        return self.read(self.output(x))

    def output(self, x: Tensor, training: bool = False) -> Tensor:
        """The model's output [B, units] for images, in float32 and, if not told otherwise, in inference mode."""
        pooling = {"max_pool": elementwise_max_pool} if in_xla() else {}
        with (
            replaced(keras.Layer, **float32_properties),
            replaced(Functional, **uncast_functional),
            replaced(keras.Sequential, **uncast_sequential),
            replaced(tf.nn, moments=twice_differentiable_moments, convolution=cheap_gradient_convolution, **pooling),
            normalising_by(self.statistics),
        ):
            x = self.for_model(x)
            return only_entry(self.model(x if self._key is None else {self._key: x}, training=training))

    def read(self, output: Tensor) -> tuple[Tensor, list[Check]]:
        """The logits [B, C] behind an output of the model, and the checks that its values must pass."""
        output = only_entry(output)
        if not keras.ops.is_tensor(output):
            raise ValueError(
                f"Expected a classifier with one output. Received: model {self.model.name!r} with output of type "
                f"{type(output).__name__}."
            )
        require_class_scores(tuple(output.shape), self.model.name)
        raw, checks = raw_output(self.model, output, self.from_logits)
        logits = tf.cast(raw, self.dtype)
        if output.shape[1] == 1:
            # One unit z tells two classes apart, as the logits (0, z) do.
            logits = tf.concat([tf.zeros_like(logits), logits], axis=1)
        checks.append(
            Check(
                tf.reduce_all(tf.math.is_finite(logits)),
                "The classifier's logits must be finite. Got NaN or infinity: look at its weights and learning rate.",
            )
        )
        return logits, checks
