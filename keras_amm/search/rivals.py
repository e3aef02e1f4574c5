"""What an attack leads away from and what it leads to, and the best perturbation that it has found on the way."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution.gradients import image_gradient
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import finite_images
from keras_amm.search.geometry import expand_to
from keras_amm.search.linearisation import CleanPass, logit_difference
from keras_amm.search.loop import has_reached
from keras_amm.search.norms import Norm, norm_for
from keras_amm.search.path import Path
from keras_amm.typing import Tensor


class Aim(NamedTuple):
    """What an attack on B images is to reach.

    Attributes:
        prediction: int32 tensor [B], the class predicted for the image.
        label: int32 tensor [B], the label; the prediction in an attack without labels.
        correct: boolean tensor [B], whether these are equal.
    """

    prediction: Tensor
    label: Tensor
    correct: Tensor

    def rivals(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Source and target [B] at logits [B, C]; the aim is reached where the target's logit is the larger.

        A correct image is to leave its class for the best other one, a misclassified one to reach its label from there.
        """
        is_label = tf.one_hot(self.label, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
        best = tf.argmax(tf.where(is_label, logits.dtype.min, logits), axis=1, output_type=tf.int32)
        return tf.where(self.correct, self.label, best), tf.where(self.correct, best, self.label)

    def is_reached(self, logits: Tensor) -> Tensor:
        """Whether the aim is reached at logits [B, C], or its boundary exactly; boolean [B]."""
        return has_reached(logits, self.correct, self.label, self.label)

    def lead(self, logits: Tensor) -> Tensor:
        """The target's logit less the source's at logits [B, C]; [B], positive beyond the boundary."""
        return logit_difference(logits, *self.rivals(logits))

    def linearise(self, classifier: Classifier, point: Tensor) -> tuple[Tensor, Tensor]:
        """The target's lead [B] at points [B, ...], and its gradient [B, ...] there."""
        with tf.GradientTape() as tape:
            tape.watch(point)
            g = self.lead(classifier(point))
        return g, image_gradient(tape, g, point)


class Best(NamedTuple):
    """The best perturbation that a search has found.

    Attributes:
        delta: float tensor [B, ...], the smallest one that reaches the aim; while there is none, the last one.
        norm: float tensor [B], its norm; infinite while there is none.
    """

    delta: Tensor
    norm: Tensor

    @property
    def is_found(self) -> Tensor:
        """Whether one reaches the aim, boolean [B]."""
        return self.norm < self.norm.dtype.max

    def or_smaller(self, by: Norm, delta: Tensor, reached: Tensor) -> "Best":
        """The better of this and perturbations [B, ...], of which some have reached the aim, boolean [B]."""
        norm = by.of(delta)
        is_better = reached & (norm < self.norm)
        is_last = ~reached & ~self.is_found
        return Best(
            tf.where(expand_to(is_better | is_last, delta), delta, self.delta),
            tf.where(is_better, norm, self.norm),
        )


def none_yet(x: Tensor) -> Best:
    """What is found before a search of images x [B, ...]: nothing, after no perturbation."""
    return Best(tf.zeros_like(x), tf.fill(tf.shape(x)[:1], tf.constant(float("inf"), x.dtype)))


def aim(clean: CleanPass, labels: Tensor | None) -> Aim:
    """The aim for each image: to leave its class, or with labels [B], where it is misclassified, to reach its label."""
    prediction = tf.argmax(clean.logits, axis=1, output_type=tf.int32)
    if labels is None:
        return Aim(prediction, prediction, tf.ones_like(prediction, tf.bool))
    return Aim(prediction, labels, tf.equal(prediction, labels))


def path_to(
    classifier: Classifier, clean: CleanPass, aim: Aim, delta: Tensor, iterations: Tensor, success: Tensor
) -> Path:
    """What an attack found, without its steps: perturbations [B, ...] and so on, [B]."""
    source, target = aim.rivals(classifier(clean.x + delta))
    return Path(
        x=clean.x,
        delta=delta,
        norm=norm_for(classifier).of(delta),
        prediction=aim.prediction,
        correct=aim.correct,
        source=source,
        target=target,
        iterations=iterations,
        success=success,
        searched=tf.ones_like(success),
        w=None,
        g=None,
        targets=None,
        sources=None,
        checks=[finite_images(clean.x), *clean.checks],
    )
