"""A Keras model that trains its classifier for a large margin in input space."""

from typing import Any

import keras
import tensorflow as tf

from keras_amm.arguments import instance_or_default
from keras_amm.attack import Attack, require_attack
from keras_amm.deepfool import DeepFool
from keras_amm.execution.checks import enforce
from keras_amm.execution.delegation import has_own, results_of, warn_of_what_is_not_called
from keras_amm.execution.gradients import weight_gradients
from keras_amm.execution.guarded_update import save_values
from keras_amm.execution.keras_hooks import KerasHooks
from keras_amm.gradient import clipping, metrics
from keras_amm.gradient.current_strength import accuracy_of
from keras_amm.gradient.health import HealthWatch
from keras_amm.gradient.metric_names import metric_names
from keras_amm.gradient.penalty import MarginPenalty, find_penalty
from keras_amm.gradient.searching import require_trainable
from keras_amm.network.batch_statistics import recorded_statistics
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import ClassifierWrapper, as_images, finite_images, require_classifier
from keras_amm.network.labels import checks_of_labels, label_smoothing_of
from keras_amm.regularizer import MarginRegularizer
from keras_amm.regularizer_arguments import for_new_model
from keras_amm.search.linearisation import CleanPass, clean_pass, pass_of
from keras_amm.typing import Tensor, TensorLike


@keras.saving.register_keras_serializable(package="keras_amm")
class AMMModel(ClassifierWrapper, KerasHooks):
    """A classifier whose training step adds the margin penalty to the loss.

    Everything but `fit` and `train_step` is the classifier's: `call`, `predict` and `evaluate` run it alone, and its
    weights are trained in place. A classifier with its own `compute_loss`, `compute_metrics`, metrics, `test_step` or
    `predict_step` keeps them; they see what compiling the AMMModel made. Its own `train_step`, and its own `compile`,
    `fit`, `evaluate`, `predict` and those `_on_batch`, are not called, and a warning says so.

    While training, `fit` shows beside `loss` (all that is minimised): `cross_entropy`, the classifier's loss alone,
    called `classification_loss` where another loss is compiled; `margin_penalty`; `margin`, the mean over all samples
    of their norm, 0 where misclassified or the attack failed, as `MarginReport.margin` (a correct sample that was not
    searched counts by an estimate); `attack_success`, the share of attacked samples that reached a boundary; with
    `gradient="boundary"` also `boundary_cosine`, the mean over the samples that the penalty counts of the cosine
    between perturbation and normal of the boundary, which is 1 at the nearest point; and with a `max_influence` also
    `influence`, what the training error, or with two classes the cross-entropy, leaves of it: the pull on an image at
    the boundary, where 1 is the most by which the cross-entropy pulls. With a numeric strength, of the samples that the
    penalty counts, `at_cap` is the share that has no gradient, because it is at `max_penalty` or its penalty is 0, and
    `at_bound` the share pulled by all of `max_influence`. A metric of the classifier keeps its name, and ours of the
    same name is called `amm_margin` and so on.

    Sample and class weights weigh the compiled loss and metrics, but not the penalty, nor which samples it counts.

    Args:
        base_model: single-input `keras.Model` classifier, with logits, softmax or one sigmoid unit.
        regularizer: `MarginRegularizer`; None for the default. Of one that belongs to another model, a copy is made.
        attack: `DeepFool` or another `Attack`; None for the default.
        **kwargs: arguments of `keras.Model`, such as `name`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the classifier has several inputs or outputs.

    Example:
    >>> model = keras_amm.AMMModel(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> logs = model.fit(np.random.rand(8, 2), np.arange(8) % 3, verbose=0)
    >>> sorted(logs.history)
    ['attack_success', 'boundary_cosine', 'cross_entropy', 'influence', 'loss', 'margin', 'margin_penalty']

    Reference: Equation 7 and Section 4.2 of the paper.
    """

    def __init__(
        self,
        base_model: keras.Model,
        regularizer: MarginRegularizer | None = None,
        attack: Attack | None = None,
        **kwargs: Any,
    ) -> None:
        require_classifier(base_model, must_be_built=False)
        super().__init__(base_model, **kwargs)
        self.regularizer = for_new_model(instance_or_default("regularizer", regularizer, MarginRegularizer))
        warn_of_what_is_not_called(base_model, is_off=self.regularizer.is_off, stacklevel=4)
        require_attack(attack)
        self.attack = require_trainable(attack or DeepFool(), self.regularizer)
        self.regularizer.prepare()
        self._health = HealthWatch()
        self._optional_metrics = metrics.optional_metrics(self.regularizer)
        self._margin_metrics = metrics.margin_metrics(self._optional_metrics)

    def margin_penalty(self, x: TensorLike, y: TensorLike) -> Tensor:
        """The margin penalty of a batch, differentiable with respect to the weights.

        To first order only: its second derivative with respect to the weights is zero.

        Args:
            x: images [B, ...].
            y: labels, indices [B] or [B, 1], or probabilities [B, C]; of one output unit 0 or 1, or -1 or 1.

        Returns:
            Scalar float32 tensor, lambda and 1/B included.

        Raises:
            ValueError: the model is not built, or the batch is not fit for it.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> float(model.margin_penalty(np.ones((4, 2)), np.zeros(4))) >= 0
        True

        Reference: Equation 6.
        """
        step = 0 if getattr(self, "optimizer", None) is None else self.optimizer.iterations
        classifier = self.attack.classifier(self.base_model)
        images = classifier.inputs(x)
        classifier = classifier.in_batch_of(images)
        found = self._find_penalty(classifier, clean_pass(classifier, images), y, step, 1.0)
        return found.differentiable_value(self.trainable_weights, classifier.sources)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on the loss plus the margin penalty; called by `fit`.

        Args:
            data: a batch, (x, y) or (x, y, sample_weight).

        Returns:
            The metrics' values by name.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> logs = model.train_step((tf.ones((4, 2)), tf.zeros(4)))
        >>> "margin" in logs
        True
        """
        if self.regularizer.is_off:
            return super().train_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        images = as_images(x)
        # If `x` is the tensor of images itself, one pass over it may serve the loss and the search.
        is_shared = images is x
        # Checked before the classifier runs, which changes the statistics of a BatchNormalization for good.
        with tf.control_dependencies(enforce([finite_images(images), *checks_of_labels(self.base_model, y)])):
            images = tf.identity(images)
            x = images if is_shared else keras.tree.map_structure(tf.identity, x)
        # Saved before the pass in training mode, which changes those statistics, too.
        saved_values = save_values(self.non_trainable_variables)
        # The tape watches the images and is persistent for the sake of the search, which differentiates the same pass.
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            with recorded_statistics() as statistics:
                y_pred = self(x, training=True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        # Copied now, because the classifier's later passes may add to them.
        extra_losses = list(self.losses)
        classifier = self.attack.classifier(self.base_model).in_batch(statistics)
        clean = _pass_for_search(classifier, images, y_pred, tape, is_shared=is_shared)
        step, scale = self.optimizer.iterations, self.optimizer.scale_loss(tf.ones(()))
        found = self._find_penalty(classifier, clean, y, step, scale)
        found = clipping.clipped(found, classifier, self.regularizer, scale)
        # The penalty depends on the weights through the statistics of the batch, too; the loss's way back serves both.
        seeded = [(scaled_loss, tf.ones_like(scaled_loss)), *found.through_pass(classifier.sources)]
        targets, seeds = zip(*seeded, strict=True)
        weights = self.trainable_weights
        gradients = weight_gradients(tape, list(targets), weights, list(seeds))
        of_loss = clipping.norm_to_remember(tape, scaled_loss, weights, self.regularizer, self.base_model, step, scale)
        self._guarded_update.apply(
            self.optimizer,
            found.added_to(gradients),
            weights,
            [*found.checks, found.finite_gradients()],
            saved_values=saved_values,
            wait_for=loss,
            also=lambda: self._remember(found, clean, y, y_pred, of_loss),
        )
        trackers = [self._loss_tracker, *self._margin_metrics]
        optional, size = self._optional_metrics, tf.shape(images)[0]
        metrics.update(trackers, optional, loss, extra_losses, found.value, found.statistics, size)
        logs = self.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        self._leave_names_to(logs)
        return self._for_reduction({**logs, **results_of(self._training_metrics())})

    def get_config(self) -> dict[str, Any]:
        """The classifier, regularizer and attack, for serialisation.

        Returns:
            A dictionary.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> sorted(model.get_config())
        ['attack', 'base_model', 'dtype', 'name', 'regularizer', 'trainable']
        """
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "base_model": keras.saving.serialize_keras_object(self.base_model),
            "regularizer": keras.saving.serialize_keras_object(self.regularizer),
            "attack": keras.saving.serialize_keras_object(self.attack),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "AMMModel":
        """The model of a configuration.

        Args:
            config: what `get_config` returned.
            custom_objects: classes and functions by name, for the classifier's own.

        Returns:
            An `AMMModel`.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> type(keras_amm.AMMModel.from_config(model.get_config())).__name__
        'AMMModel'
        """
        parts = {
            name: keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            if isinstance(value, dict)
            else value
            for name, value in config.items()
        }
        return cls(**parts)

    def _remember(
        self, found: MarginPenalty, clean: CleanPass, y: TensorLike, y_pred: TensorLike, of_loss: Tensor | None
    ) -> None:
        """Add a batch, and the norm of the loss's gradient, to what the regularizer remembers and what is watched."""
        if self.regularizer.running is not None:
            running, accuracy = self.regularizer.running, accuracy_of(clean, y)
            running.update(found.statistics.median, accuracy, found.gradient_norms)
            if of_loss is not None:
                running.update_loss_gradient(of_loss, clipping.is_trained(running.accuracy_or(accuracy), clean, y))
        self._health.add(found.statistics, clean, y, y_pred)

    def _before_fit(self) -> None:
        self._health.begin()

    def _before_training_function(self) -> None:
        self._health.prepare(self.regularizer, self.attack, self.base_model, self._compiled_loss())

    def _compiled_loss(self) -> Any:
        """What `compile` was given, if the classifier's own `compute_loss` does not take its place."""
        return None if has_own(self.base_model, "compute_loss") else self.loss

    def _after_training_step(self) -> None:
        self._health.tell()

    def _after_fit(self) -> None:
        self._health.end()

    def _own_metrics(self) -> list[keras.metrics.Metric]:
        margin = {id(metric) for metric in getattr(self, "_margin_metrics", [])}
        return [metric for metric in super()._own_metrics() if id(metric) not in margin]

    def _training_metrics(self) -> list[keras.metrics.Metric]:
        if self.regularizer.is_off:
            return []
        names = metric_names(self.loss, self._names_taken, self._optional_metrics)
        for metric, name in zip(self._margin_metrics, names, strict=True):
            metric.name = name
        return list(self._margin_metrics)

    def _find_penalty(
        self, classifier: Classifier, clean: CleanPass, y: TensorLike, step: TensorLike, loss_scale: TensorLike
    ) -> MarginPenalty:
        return find_penalty(
            classifier,
            self.attack,
            self.regularizer,
            clean,
            y,
            self.trainable_weights,
            step=step,
            loss_scale=loss_scale,
            label_smoothing=label_smoothing_of(self._compiled_loss()),
        )


def _pass_for_search(
    classifier: Classifier, images: Tensor, y_pred: Any, tape: tf.GradientTape, *, is_shared: bool
) -> CleanPass:
    """The pass that the search starts from: that of the loss, if it is of these images and computes the same."""
    # The search starts at images in pixel units, and of a float32 network at float32 images, whatever the batch is.
    is_shared = is_shared and classifier.deviation is None and images.dtype == classifier.dtype
    if is_shared and classifier.is_deterministic:
        return pass_of(classifier, images, y_pred, tape)
    return clean_pass(classifier, classifier.inputs(images))
