"""A Keras model around another that goes on with what the other was compiled with, its optimizer above all."""

import contextlib
import inspect
from typing import Any

import keras

from keras_amm.execution.delegation import DelegatingModel


class SharedCompilation(DelegatingModel):
    """A model that can be compiled as its `base_model` is, with the same optimizer.

    It overrides `compile`, because Keras keeps the loss and metrics that a second `compile` does not name. Keras's
    `compile_from_config` refuses a model that does; the one here does not.

    Args:
        base_model: the model whose compilation is taken over.
        **kwargs: arguments of `keras.Model`.
    """

    def __init__(self, base_model: keras.Model, **kwargs: Any) -> None:
        super().__init__(base_model, **kwargs)
        self._is_taken_over = False

    def take_over_compilation(self) -> None:
        """Compile this model as `base_model` is compiled, if its optimizer knows all weights that are to be trained.

        The optimizer is the same object, so its state goes on. Metrics are new objects.

        Example:
        >>> classifier = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier.compile("adam", "mse")
        >>> model = keras_amm.AMMModel(classifier)
        >>> model.take_over_compilation()
        >>> model.optimizer is classifier.optimizer
        True
        """
        compiled = getattr(self.base_model, "_compile_config", None)
        if not self.base_model.compiled or compiled is None:
            return
        optimizer = self.base_model.optimizer
        if optimizer is not None and optimizer.built:
            known = {id(variable) for variable in optimizer._trainable_variables}
            if not known.issuperset(id(weight) for weight in self.trainable_weights):
                # Layers were made trainable or replaced since: plain Keras, too, needs another `compile` then.
                return
        metrics = {name: _unshared(compiled.config.get(name)) for name in ("metrics", "weighted_metrics")}
        # A scaled loss belongs to the optimizer, which is a LossScaleOptimizer if the base model has one.
        self.compile(**{**compiled.config, **metrics, "optimizer": optimizer, "auto_scale_loss": False})
        self._is_taken_over = True

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure the model for training, as `keras.Model.compile` does; nothing remains of what was taken over.

        Args:
            *args: those of `keras.Model.compile`.
            **kwargs: those of `keras.Model.compile`.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile("sgd", "mse")
        >>> model.loss
        'mse'
        """
        if self._is_taken_over:
            self.loss = self._compile_loss = self._compile_metrics = None
        self._is_taken_over = False
        super().compile(*args, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        """What the model was compiled with, for serialisation, and whether the optimizer is the base model's.

        Returns:
            A dictionary, empty if the model is not compiled.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.get_compile_config()
        {}
        """
        config: dict[str, Any] = super().get_compile_config()
        # Keras saves the state of an optimizer once, as that of the base model.
        if config and self.optimizer is not None and getattr(self.base_model, "optimizer", None) is self.optimizer:
            config["shares_optimizer"] = True
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile the model as a saved one was; an optimizer that was the base model's own is so again.

        Args:
            config: what `get_compile_config` returned.

        Example:
        >>> model = keras_amm.wrap(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
        >>> model.compile_from_config({"optimizer": "sgd", "loss": "mse"})
        >>> model.loss
        'mse'
        """
        shares_optimizer = config.get("shares_optimizer", False)
        config = {name: value for name, value in config.items() if name != "shares_optimizer"}
        config = keras.saving.deserialize_keras_object(config)
        optimizer = getattr(self.base_model, "optimizer", None)
        if shares_optimizer and optimizer is not None:
            config.update(optimizer=optimizer, auto_scale_loss=False)
        self.compile(**config)
        if self.built and self.optimizer is not None and not self.optimizer.built:
            # Its state is loaded into variables that are there.
            self.optimizer.build(self.trainable_variables)


def _unshared(metrics: Any) -> Any:
    """Metrics as `compile` takes them, with new objects in place of the base model's.

    Keras does not reset a metric before its model has used it: one of two models would go on from the other's values.
    """
    return metrics if metrics is None else keras.tree.map_structure(_copy_or_reset, metrics)


def _copy_or_reset(metric: Any) -> Any:
    """A new metric by the configuration of one; the same, set back, if its configuration is not all of it."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    kind = type(metric)
    # A metric of the user's may be without a `get_config` that holds its arguments.
    with contextlib.suppress(Exception):
        config = metric.get_config()
        named = [name for name, p in inspect.signature(kind).parameters.items() if p.kind is not p.VAR_KEYWORD]
        if kind.__module__.partition(".")[0] == "keras" or set(named) <= set(config):
            return kind.from_config(config)
    metric.reset_state()
    return metric
