"""A Keras model that trains its classifier for a large margin in input space."""

import contextlib
from typing import Any

import keras
import tensorflow as tf

from keras_amm.deepfool import DeepFool
from keras_amm.execution import replicas
from keras_amm.execution.checks import Check, clear_errors, enforce, in_xla
from keras_amm.execution.guarded_update import GuardedUpdate, in_failed_step
from keras_amm.gradient import metrics
from keras_amm.gradient.penalty import MarginPenalty, margin_penalty, unless_off
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import ClassifierWrapper, as_images, finite_images, require_classifier
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass, clean_pass


@keras.saving.register_keras_serializable(package="keras_amm")
class AMMModel(ClassifierWrapper, keras.Model):
    """A classifier whose training step adds the margin penalty to the loss.

    Everything but `train_step` is the classifier's: `call`, `predict` and
    `evaluate` run it alone, and its weights are trained in place.

    While training, `fit` shows beside `loss` (all that is minimised):
    `cross_entropy`, the compiled loss alone; `margin_penalty`; `margin`, the mean
    norm over correctly classified samples; `attack_success`, the share
    of attacked samples whose prediction changed.

    Sample and class weights weigh the compiled loss and metrics. They do not
    weigh the penalty, which is a property of the batch's geometry. The batch's
    class weights likewise leave the choice of the nearest samples alone.

    Args:
        base_model: single-input `keras.Model` classifier, with logits or softmax.
        regularizer: `MarginRegularizer`; None for the default, MIN+EXP.
        attack: `DeepFool`; None for the default.
        **kwargs: arguments of `keras.Model`, such as `name`.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the classifier has several inputs or outputs, or one output unit.

    Example:
    >>> model = keras_amm.AMMModel(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> logs = model.fit(np.random.rand(8, 2), np.arange(8) % 3, verbose=0)
    >>> sorted(logs.history)
    ['attack_success', 'cross_entropy', 'loss', 'margin', 'margin_penalty']

    Reference: Equation 7 and Section 4.2 of the paper.
    """

    def __init__(
        self,
        base_model: keras.Model,
        regularizer: MarginRegularizer | None = None,
        attack: DeepFool | None = None,
        **kwargs: Any,
    ) -> None:
        replicas.require_supported_strategy(tf.distribute.get_strategy())
        super().__init__(**kwargs)
        require_classifier(base_model, must_be_built=False)
        self.base_model = base_model
        self.regularizer = _of_type("regularizer", regularizer, MarginRegularizer)
        self.attack = _of_type("attack", attack, DeepFool)
        self._margin_metrics = metrics.margin_metrics()
        self.train_function: Any = None
        self._guarded_update = GuardedUpdate()
        self.built = base_model.built

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The classifier's output.

        Args:
            inputs: images [B, ...].
            training: whether the classifier runs in training mode.

        Returns:
            Tensor [B, C], what the classifier returns.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model(np.ones((1, 2))).shape
        TensorShape([1, 3])
        """
        return self.base_model(inputs, training=training)

    def build(self, input_shape: Any) -> None:
        """Build the classifier.

        Args:
            input_shape: tuple, the shape of a batch of images.

        Example:
        >>> model = keras_amm.AMMModel(keras.Sequential([keras.layers.Dense(3)]))
        >>> model.build((None, 2))
        """
        if not self.base_model.built:
            self.base_model.build(input_shape)
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Keras's metrics and, unless the strength is 0, those of the margin."""
        margin = getattr(self, "_margin_metrics", [])
        plain = [metric for metric in super().metrics if all(metric is not m for m in margin)]
        return plain if self.regularizer.is_off else plain + margin

    def margin_penalty(self, x: Any, y: Any) -> Any:
        """The margin penalty of a batch, differentiable with respect to the weights.

        To first order only: its second derivative with respect to the weights is zero.

        Args:
            x: images [B, ...].
            y: labels, indices [B] or [B, 1], or probabilities [B, C].

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
        weights = self.trainable_variables
        classifier = self._classifier()
        clean = clean_pass(classifier, classifier.inputs(x))
        found = self._penalty(classifier, clean, y, step, 1.0)
        with tf.control_dependencies(enforce(found.checks)):
            value = tf.stop_gradient(found.value)
        # Adds zero, with the gradient that was found.
        for weight, gradient in zip(weights, found.gradients, strict=True):
            if gradient is not None:
                here = tf.convert_to_tensor(weight)
                value += tf.reduce_sum(tf.stop_gradient(gradient) * (here - tf.stop_gradient(here)))
        return value

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
            return self._for_reduction(super().train_step(data))
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        images = as_images(x)
        is_shared = images is x
        # Before the classifier sees them: its BatchNormalization would never forget a NaN.
        with tf.control_dependencies(enforce([finite_images(images)])):
            images = tf.identity(images)
            x = images if is_shared else keras.tree.map_structure(tf.identity, x)
        restore = [(v, tf.identity(v)) for v in self.non_trainable_variables] if in_xla() else []
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            y_pred = self(x, training=True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled_loss = self.optimizer.scale_loss(loss)
        extra_losses = list(self.losses)
        weights = self.trainable_weights
        gradients = tape.gradient(scaled_loss, weights)
        classifier = self._classifier()
        if is_shared and classifier.is_deterministic:
            clean = CleanPass(images, *classifier.read(y_pred), tape)
        else:
            clean = clean_pass(classifier, classifier.inputs(images))
        found = self._penalty(classifier, clean, y, self.optimizer.iterations, self.optimizer.scale_loss(tf.ones(())))
        gradients = [_sum(g, p) for g, p in zip(gradients, found.gradients, strict=True)]
        self._guarded_update.apply(self.optimizer, gradients, weights, self._checks(found), restore=restore, after=loss)
        self._track(loss, extra_losses, found, tf.shape(y_pred)[0])
        return self._for_reduction(self.compute_metrics(x, y, y_pred, sample_weight=sample_weight))

    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of `evaluate`: the classifier's loss and metrics, without margins.

        Args:
            data: a batch, (x, y) or (x, y, sample_weight).

        Returns:
            The metrics' values by name.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> list(model.test_step((tf.ones((4, 2)), tf.zeros(4))))
        ['loss']
        """
        logs = super().test_step(data)
        margins = [metric.name for metric in self._margin_metrics]
        return self._for_reduction({name: value for name, value in logs.items() if name not in margins})

    def make_train_function(self, force: bool = False) -> Any:
        """Keras's training function, with the errors of this library made readable.

        Args:
            force: whether to make it anew.

        Returns:
            The function.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> callable(model.make_train_function())
        True
        """
        if self.train_function is not None and not force:
            return self.train_function
        replicas.require_supported_strategy(self.distribute_strategy)
        if self.jit_compile:
            self._guarded_update.prepare()
        super().make_train_function(force)
        run = self.train_function

        def train_function(iterator: Any) -> Any:
            with clear_errors(self._in_failed_step):
                logs = run(iterator)
            self._guarded_update.raise_fault()
            return logs

        self.train_function = train_function
        return train_function

    def export(self, *args: Any, **kwargs: Any) -> Any:
        """Export the classifier alone, for inference.

        Args:
            *args: those of `keras.Model.export`.
            **kwargs: those of `keras.Model.export`.

        Returns:
            What `keras.Model.export` returns.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> import tempfile
        >>> model.export(tempfile.mkdtemp(), verbose=False)
        """
        return self.base_model.export(*args, **kwargs)

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

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras averages the workers' first batches, which it cannot do outside of a step; one of them says as much.
        if iterator is not None and replicas.is_multi_worker(self.distribute_strategy):
            local = self.distribute_strategy.experimental_local_results
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(lambda part: local(part)[0], next(batches))
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
        if self._distribute_strategy is None and self.base_model.built:
            self._build_from_shapes(iterator, data_batch)

    def _build_from_shapes(self, iterator: Any, data_batch: Any) -> None:
        # Keras leaves the variables of metrics and optimizer to the first step, which is traced twice for that. What
        # cannot be built from shapes alone still is, and the step can say better what is wrong with the data.
        with contextlib.suppress(Exception):
            shapes = data_batch if iterator is None else iterator._get_iterator().element_spec
            self._symbolic_build(data_batch=shapes)

    def _for_reduction(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Of several workers, Keras averages the logs over an axis.
        if not replicas.is_multi_worker(tf.distribute.get_strategy()):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Keras before 3.15 gives `evaluate` tensors for numbers if its logs, here without margins, lack a metric.
        results = self.get_metrics_result()
        return {name: results[name] for name in logs} if set(logs) <= set(results) else logs

    def _classifier(self) -> Classifier:
        return Classifier(self.base_model, self.attack.from_logits)

    def _penalty(self, classifier: Classifier, clean: CleanPass, y: Any, step: Any, loss_scale: Any) -> MarginPenalty:
        strength = self.regularizer.strength_at(step)

        def compute() -> MarginPenalty:
            return margin_penalty(
                classifier,
                self.attack,
                self.regularizer,
                clean,
                y,
                self.trainable_weights,
                strength=strength,
                loss_scale=loss_scale,
            )

        if not self.regularizer.is_scheduled:
            return compute()
        return unless_off(strength, self.trainable_weights, compute, clean.logits.dtype)

    def _checks(self, found: MarginPenalty) -> list[Check]:
        finite = [tf.reduce_all(tf.math.is_finite(g)) for g in found.gradients if g is not None]
        return [
            *found.checks,
            Check(
                tf.reduce_all(finite) if finite else tf.constant(True),
                "The gradient of the margin penalty must be finite. Got NaN or infinity from a layer whose second "
                "derivative has none.",
            ),
        ]

    def _track(self, loss: Any, extra_losses: list[Any], found: MarginPenalty, batch_size: Any) -> None:
        # Keras divides each replica's loss, since the optimizer sums their gradients.
        loss *= tf.distribute.get_strategy().num_replicas_in_sync
        self._loss_tracker.update_state(loss + tf.cast(found.value, loss.dtype), sample_weight=batch_size)
        cross_entropy = loss - sum(tf.cast(e, loss.dtype) for e in extra_losses)
        metrics.update(self._margin_metrics, cross_entropy, found.value, found.statistics, batch_size)

    def _in_failed_step(self) -> str:
        return in_failed_step(int(tf.convert_to_tensor(self.optimizer.iterations)) + 1)


def wrap(
    classifier: keras.Model, regularizer: MarginRegularizer | None = None, attack: DeepFool | None = None
) -> AMMModel:
    """Wrap a classifier so that `fit` trains it for a large margin.

    Args:
        classifier: single-input `keras.Model`, Functional, Sequential or
            subclassed, with logits or a softmax. It is trained in place.
        regularizer: `MarginRegularizer`; None for the default, MIN+EXP.
        attack: `DeepFool`; None for the default.

    Returns:
        An `AMMModel`, to be compiled.

    Raises:
        TypeError: it is not a Keras model.
        ValueError: it has several inputs or outputs, one output unit, is a
            subclassed model that is not built, or is wrapped already.

    Example:
    >>> classifier = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    >>> model = keras_amm.wrap(classifier)
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])

    Reference: Yan, Guo, Zhang, "Adversarial Margin Maximization Networks", TPAMI 2019.
    """
    if isinstance(classifier, ClassifierWrapper):
        raise ValueError(
            "The classifier is wrapped already. Expected: a plain Keras model, such as its `base_model`. "
            f"Received: a {type(classifier).__name__} of {classifier.base_model.name!r}."
        )
    # A Sequential without input shape is built by its first batch, as ever.
    require_classifier(classifier, must_be_built=not isinstance(classifier, keras.Sequential))
    return AMMModel(classifier, regularizer=regularizer, attack=attack)


def _of_type(name: str, value: Any, kind: type) -> Any:
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` must be a keras_amm.{kind.__name__} or None. Received: {name}={value!r}.")
    return value


def _sum(gradient: Any, other: Any) -> Any:
    if gradient is None or other is None:
        return gradient if other is None else other
    return gradient + tf.cast(other, gradient.dtype)
