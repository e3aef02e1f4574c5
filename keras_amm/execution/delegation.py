"""A Keras model that trains another with the other's own hooks: its loss, metrics and steps.

Keras reads all of them from the model whose `fit` is called, and ignores those of a model within it.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_amm.typing import Tensor, TensorLike

# What `compile` sets and a hook may read.
_COMPILED = (
    "compiled",
    "loss",
    "optimizer",
    "steps_per_execution",
    "_compile_loss",
    "_compile_metrics",
    "_jit_compile",
    "_loss_tracker",
    "_run_eagerly",
)

# What a user calls on the model that is trained, and so never on the one within it.
_CALLED_BY_USERS = ("compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")


class Lending:
    """Lends a model, for the time of a call, what another one's `compile` made.

    The model's own is put back afterwards. Calls may be nested, and those of several replicas overlap.

    Example:
    >>> classifier = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> compiled = keras.Sequential([classifier])
    >>> compiled.compile("sgd", "mse")
    >>> with keras_amm.execution.delegation.Lending().lend(compiled, classifier):
    ...     classifier.loss
    'mse'
    >>> classifier.loss is None
    True
    """

    def __init__(self) -> None:
        self._borrowers = 0
        self._own: dict[str, Any] = {}

    @contextlib.contextmanager
    def lend(self, lender: keras.Model, borrower: keras.Model) -> Iterator[None]:
        """Make hooks of the borrower see what compiling the lender made."""
        # Written past Keras's __setattr__, which would track metrics and optimizer as the borrower's own.
        state = vars(borrower)
        if self._borrowers == 0:
            self._own = {name: state[name] for name in _COMPILED if name in state}
            state.update({name: vars(lender)[name] for name in _COMPILED if name in vars(lender)})
        self._borrowers += 1
        try:
            yield
        finally:
            self._borrowers -= 1
            if self._borrowers == 0:
                for name in _COMPILED:
                    state.pop(name, None)
                state.update(self._own)


class DelegatingModel(keras.Model):
    """A model around another, `base_model`, whose own hooks its `fit`, `evaluate` and `predict` use.

    Args:
        base_model: the model with the hooks; it need not be compiled.
        **kwargs: arguments of `keras.Model`.
    """

    def __init__(self, base_model: keras.Model, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.base_model = base_model
        self._names_taken: set[str] = set()
        self._lending = Lending()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The classifier's metrics (the loss, the compiled ones and its own) and those of this model."""
        if not hasattr(self, "_lending"):
            return super().metrics
        with self._lent():
            return [*self.base_model.metrics, *self._own_metrics(), *self._training_metrics()]

    def compute_loss(
        self,
        x: TensorLike = None,
        y: TensorLike = None,
        y_pred: TensorLike = None,
        sample_weight: TensorLike = None,
        training: bool = True,
    ) -> Tensor:
        """The classifier's loss, by its own `compute_loss` if it has one.

        Args:
            x: images [B, ...].
            y: labels.
            y_pred: what the classifier returned.
            sample_weight: weights of the samples, or None.
            training: whether the model is being trained.

        Returns:
            Scalar tensor.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", "mse")
        >>> float(model.compute_loss(y=tf.zeros((1, 3)), y_pred=tf.ones((1, 3))))
        1.0
        """
        with self._lent():
            # Keras's `_compute_loss` also calls a `compute_loss` without the argument `training`, as before Keras 3.3.
            return self.base_model._compute_loss(x, y, y_pred, sample_weight, training=training)

    def compute_metrics(
        self, x: TensorLike, y: TensorLike, y_pred: TensorLike, sample_weight: TensorLike = None
    ) -> dict[str, Any]:
        """The classifier's metrics, by its own `compute_metrics` if it has one.

        Args:
            x: images [B, ...].
            y: labels.
            y_pred: what the classifier returned.
            sample_weight: weights of the samples, or None.

        Returns:
            Values by name.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", "mse", metrics=["mae"])
        >>> sorted(model.compute_metrics(tf.ones((1, 2)), tf.zeros((1, 3)), tf.ones((1, 3))))
        ['loss', 'mae']
        """
        with self._lent():
            logs = self.base_model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return {**logs, **results_of(self._own_metrics())}

    def get_metrics_result(self) -> dict[str, Any]:
        """The values of the classifier's metrics.

        Returns:
            Values by name.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", "mse")
        >>> "loss" in model.get_metrics_result()
        True
        """
        with self._lent():
            results = self.base_model.get_metrics_result()
        return {**results, **results_of([*self._own_metrics(), *self._training_metrics()])}

    def reset_metrics(self) -> None:
        """Set all metrics back, at the beginning of an epoch.

        Example:
        >>> keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])).reset_metrics()
        """
        with self._lent():
            self.base_model.reset_metrics()
        for metric in self._metrics:
            metric.reset_state()

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update, by the classifier's own `train_step` if it has one.

        Args:
            data: a batch, (x, y) or (x, y, sample_weight).

        Returns:
            The metrics' values by name.
        """
        return self._step("train_step", super().train_step, data)

    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of `evaluate`, by the classifier's own `test_step` if it has one.

        Args:
            data: a batch, (x, y) or (x, y, sample_weight).

        Returns:
            The metrics' values by name, without those of margins.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> list(model.test_step((tf.ones((4, 2)), tf.zeros(4))))
        ['loss']
        """
        return self._step("test_step", super().test_step, data)

    def predict_step(self, data: Any) -> Any:
        """One step of `predict`, by the classifier's own `predict_step` if it has one.

        Args:
            data: a batch, (x,) or (x, y).

        Returns:
            What `predict` returns of it.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.predict_step((tf.ones((4, 2)),)).shape
        TensorShape([4, 3])
        """
        return self._step("predict_step", super().predict_step, data)

    def _own_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of this model, without the classifier's."""
        return list(self._metrics)

    def _training_metrics(self) -> list[keras.metrics.Metric]:
        """The metrics that only a training step updates, and that only `fit` shows."""
        return []

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        """The numbers behind a step's logs: those of the metrics, unless the classifier's logs are not its metrics."""
        results, ours = self.get_metrics_result(), {metric.name for metric in self._training_metrics()}
        theirs = set(logs) - ours
        are_metrics = theirs == set(results) - ours
        return {name: value if name in theirs and not are_metrics else results[name] for name, value in logs.items()}

    def _step(self, name: str, keras_step: Any, data: Any) -> Any:
        if not has_own(self.base_model, name):
            return keras_step(data)
        with self._lent():
            return getattr(self.base_model, name)(data)

    def _leave_names_to(self, logs: dict[str, Any]) -> None:
        """Remember the names in the classifier's logs, so that no training metric gets one of them."""
        self._names_taken.update(logs)

    def _lent(self) -> contextlib.AbstractContextManager[None]:
        return self._lending.lend(self, self.base_model)


def results_of(metrics: Sequence[keras.metrics.Metric]) -> dict[str, Any]:
    """The values of metrics by name."""
    return {metric.name: metric.result() for metric in metrics}


def has_own(model: keras.Model, method: str) -> bool:
    """Whether a model has a method of its own where `keras.Model` has one already."""
    return getattr(getattr(model, method), "__func__", None) is not getattr(keras.Model, method)


def warn_of_what_is_not_called(model: keras.Model, *, is_off: bool, stacklevel: int) -> None:
    """Warn of a classifier's own methods in whose place an AMMModel has its own.

    Args:
        model: the classifier.
        is_off: whether nothing is added to the loss; then its `train_step` is called.
        stacklevel: how many calls from here the warning is about, as in `warnings.warn`.
    """
    name = type(model).__name__
    if lost := [method for method in _CALLED_BY_USERS if has_own(model, method)]:
        warnings.warn(
            f"{name} has methods of its own that are not called: {', '.join(lost)}. AMMModel has its own, and whatever "
            "else those do, such as preparing the images, is lost. Do it to the data beforehand, or in layers of the "
            "classifier.",
            stacklevel=stacklevel,
        )
    if has_own(model, "train_step") and not is_off:
        warnings.warn(
            f"The train_step of {name} is not called: AMMModel trains by a step of its own, "
            "on the loss and the margin penalty, and whatever else that train_step does is lost. To keep it, add "
            "`margin_penalty(x, y)` of an AMMModel to the loss in it and fit the classifier itself, as the page "
            "'Keep your own training step' of the documentation shows.",
            stacklevel=stacklevel,
        )
