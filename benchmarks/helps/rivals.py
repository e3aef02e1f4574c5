"""What users would take in place of AMM, as small as Keras has it."""

from typing import Any

import keras
import tensorflow as tf

_PGD_STEPS = 7


class SmoothedCrossEntropy(keras.losses.Loss):
    """The cross-entropy of logits [B, C] with class indices [B], smoothed (Szegedy et al. 2016)."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        one_hot = tf.one_hot(tf.cast(tf.reshape(y_true, [-1]), tf.int32), tf.shape(y_pred)[1])
        return keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )


def with_noise(network: keras.Model, deviation: float) -> keras.Model:
    """The same network, its weights shared, with Gaussian noise on the images of the training."""
    inputs = keras.Input(network.input_shape[1:])
    return keras.Model(inputs, network(keras.layers.GaussianNoise(deviation)(inputs)))


class JacobianPenalty(keras.Model):
    """The network of `inputs` and `outputs`, trained with a penalty of its input gradients.

    `strength / 2` times the batch's mean of the squared Frobenius norm of the Jacobian of the logits, estimated by one
    random projection, as Hoffman, Roberts and Yaida (2019) recommend.
    """

    strength: float

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on the loss plus the penalty."""
        x, y = data
        with tf.GradientTape() as tape:
            with tf.GradientTape() as of_images:
                of_images.watch(x)
                logits = self(x, training=True)
                direction = tf.math.l2_normalize(tf.random.normal(tf.shape(logits)), axis=1)
                projection = tf.reduce_sum(logits * direction)
            squares = tf.reduce_sum(of_images.gradient(projection, x) ** 2) / tf.cast(tf.shape(x)[0], tf.float32)
            penalty = self.strength / 2 * logits.shape[1] * squares
            loss = self.compute_loss(x, y, logits) + penalty
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        self._loss_tracker.update_state(loss)
        return self.compute_metrics(x, y, logits)


class AdversarialTraining(keras.Model):
    """The network of `inputs` and `outputs`, trained on PGD's images in place of the clean ones (Madry et al. 2018).

    7 steps of 2.5 / 7 times the radius, from a random start in the l2 ball. Pixels are not clipped, as nowhere here.
    """

    radius: float

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on the attacked images."""
        x, y = data
        return super().train_step((self.attacked(x, y), y))

    def attacked(self, x: Any, y: Any) -> Any:
        """The images [B, ...], at most `radius` away from `x`, where PGD finds the largest loss of the labels [B]."""
        axes = list(range(1, len(x.shape)))
        delta = tf.clip_by_norm(tf.random.normal(tf.shape(x)), self.radius, axes)
        for _ in range(_PGD_STEPS):
            with tf.GradientTape() as tape:
                tape.watch(delta)
                logits = self(x + delta, training=False)
                loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))
            ascent = tf.math.l2_normalize(tape.gradient(loss, delta), axes)
            delta = tf.clip_by_norm(delta + 2.5 / _PGD_STEPS * self.radius * ascent, self.radius, axes)
        return x + delta
