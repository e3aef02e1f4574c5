"""A Keras model with a training step of its own, and what `fit` needs for such a step."""

import contextlib
import functools
from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.execution.checks import as_value_errors
from keras_amm.execution.compilation import SharedCompilation
from keras_amm.execution.guarded_update import GuardedUpdate, in_failed_step
from keras_amm.execution.optimizer_steps import steps_per_update, updates_of
from keras_amm.typing import Tensor, TensorLike


class KerasHooks(SharedCompilation):
    """A model around another, `base_model`, that differs from it in its training step.

    Updates are guarded, the step is traced once, and it runs on several workers. For the last two,
    `_maybe_symbolic_build` overrides a private method of Keras.

    Args:
        base_model: the model that `call`, `build` and `export` delegate to.
        **kwargs: arguments of `keras.Model`.

    Raises:
        ValueError: it is made under an unsupported strategy.
    """

    train_function: Any

    def __init__(self, base_model: keras.Model, **kwargs: Any) -> None:
        replicas.require_supported_strategy(tf.distribute.get_strategy())
        # The images reach the classifier as they are given, which casts them as it does without the wrapper.
        super().__init__(base_model, autocast=False, **{"dtype": base_model.dtype_policy, **kwargs})
        self._guarded_update = GuardedUpdate()
        self.built = base_model.built

    @property
    def output_names(self) -> list[str]:
        """The names of a Functional classifier's outputs, by which `compile` takes losses and metrics."""
        return self.base_model.output_names

    def call(self, inputs: TensorLike, training: bool | None = None) -> Tensor:
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

    # Only what `inspect.signature` finds by it, so that editors show Keras's arguments.
    @functools.wraps(keras.Model.fit, assigned=())
    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train the classifier, and warn of what makes its margins meaningless.

        Args:
            *args: those of `keras.Model.fit`.
            **kwargs: those of `keras.Model.fit`.

        Returns:
            What `keras.Model.fit` returns.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> model.fit(np.random.rand(8, 2), np.arange(8) % 3, epochs=2, verbose=0).epoch
        [0, 1]
        """
        self._before_fit()
        history = super().fit(*args, **kwargs)
        self._after_fit()
        return history

    def make_train_function(self, force: bool = False) -> Any:
        """Keras's training function, which here raises the failed checks of a step as readable errors.

        Args:
            force: whether to make a new one if there is one already.

        Returns:
            The function, which takes an iterator of batches.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> batch = np.ones((1, 2)), np.array([7])
        >>> model.make_train_function()(iter([batch]))
        Traceback (most recent call last):
        ...
        ValueError: In training step 1, whose update was not applied: Labels must lie in 0..2, ...
        """
        if self.train_function is not None and not force:
            return self.train_function
        replicas.require_supported_strategy(self.distribute_strategy)
        if self.jit_compile:
            self._guarded_update.prepare()
        self._before_training_function()
        self._names_taken.clear()
        super().make_train_function(force)
        run = self.train_function

        def train_function(iterator: Any) -> Any:
            with as_value_errors(self._in_failed_step):
                logs = run(iterator)
            self._guarded_update.raise_fault()
            self._after_training_step()
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

    def _step(self, name: str, keras_step: Any, data: Any) -> Any:
        result = super()._step(name, keras_step, data)
        if name == "predict_step":
            return result
        self._leave_names_to(result)
        return self._for_reduction(result)

    def _before_fit(self) -> None:
        """What the host does at the beginning of each `fit`; nothing here."""

    def _before_training_function(self) -> None:
        """What has to be made before a training step is traced; nothing here."""

    def _after_training_step(self) -> None:
        """What the host does after each call of the training function; nothing here."""

    def _after_fit(self) -> None:
        """What the host does at the end of each `fit` that is not interrupted; nothing here."""

    def _in_failed_step(self) -> str:
        """The beginning of an error in the step that is running."""
        return in_failed_step(updates_of(self.optimizer) + 1, steps_per_update(self.optimizer))

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Build model, metrics and optimizer before the first step."""
        # With several workers, Keras would average the first batch over them, which fails outside of a step. The batch
        # of one worker tells the shapes just as well.
        if iterator is not None and replicas.is_multi_worker(self.distribute_strategy):
            local = self.distribute_strategy.experimental_local_results
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(lambda part: local(part)[0], next(batches))
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)
        if self._distribute_strategy is None and self.built:
            self._build_from_shapes(iterator, data_batch)

    def _build_from_shapes(self, iterator: Any, data_batch: Any) -> None:
        """Make the variables of metrics and optimizer before the first step, which Keras else would trace twice."""
        # If this fails, the step makes the variables. If the data are at fault, the step's error says it better.
        with contextlib.suppress(Exception):
            shapes = data_batch if iterator is None else iterator._get_iterator().element_spec
            self._symbolic_build(data_batch=shapes)

    def _for_reduction(self, logs: dict[str, Any]) -> dict[str, Any]:
        """A step's logs; with several workers, each value gets an axis, because Keras averages them over axis 0."""
        if not replicas.is_multi_worker(tf.distribute.get_strategy()):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}
