"""Making an AMMModel of a classifier: the regularizer by its settings, and the compilation taken over."""

import difflib
import inspect
import warnings
from typing import Any

import keras

from keras_amm.attack import Attack
from keras_amm.deepfool import DeepFool
from keras_amm.execution.optimizer_steps import updates_of
from keras_amm.model import AMMModel
from keras_amm.network.inputs import ClassifierWrapper, require_classifier
from keras_amm.regularizer import MarginRegularizer


def wrap(
    classifier: keras.Model,
    regularizer: MarginRegularizer | None = None,
    attack: Attack | None = None,
    **settings: Any,
) -> AMMModel:
    """Wrap a classifier so that `fit` trains it for a large margin.

    A compiled classifier need not be compiled again: optimizer, loss, metrics and all other arguments of its `compile`
    are taken over. The optimizer is the classifier's own, so training goes on where it was: with its iterations, its
    momentum, and its scale of the loss; a strength that changes with the optimizer's iterations goes on from there,
    too. Calling `compile` overrules all of this. If layers were made trainable after the classifier was compiled,
    nothing is taken over.

    Args:
        classifier: single-input `keras.Model`, Functional, Sequential or
            subclassed, with logits, a softmax or one sigmoid unit. It is
            trained in place.
        regularizer: `MarginRegularizer`; None for the default. One that belongs to another model already is not shared:
            this model has a new one with the same arguments.
        attack: `DeepFool` or another `Attack`; None for the default.
        **settings: arguments of `MarginRegularizer`, such as `max_influence=2.0`, in place of `regularizer`.

    Returns:
        An `AMMModel`, compiled as the classifier is, or to be compiled.

    Raises:
        TypeError: it is not a Keras model, or a setting is unknown.
        ValueError: it has several inputs or outputs, is a
            subclassed model that is not built, or is wrapped already; or a setting is out of its range,
            or given together with a regularizer.

    Example:
    >>> classifier = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10)])
    >>> classifier.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    >>> model = keras_amm.wrap(classifier, max_influence=2.0)
    >>> logs = model.fit(np.random.rand(8, 28, 28), np.arange(8), verbose=0)
    >>> int(classifier.optimizer.iterations)
    1

    Reference: Yan, Guo, Zhang, "Adversarial Margin Maximization Networks", TPAMI 2019.
    """
    if isinstance(classifier, ClassifierWrapper):
        raise ValueError(
            "The classifier is wrapped already. Expected: a plain Keras model, such as its `base_model`. "
            f"Received: a {type(classifier).__name__} of {classifier.base_model.name!r}."
        )
    # As in Keras, a Sequential without input shape is built by its first batch.
    require_classifier(classifier, must_be_built=not isinstance(classifier, keras.Sequential))
    if settings:
        _require_settings(settings, regularizer)
        regularizer = MarginRegularizer(**settings)
    model = AMMModel(classifier, regularizer=regularizer, attack=attack)
    model.take_over_compilation()
    _warn_of_no_warm_up(model)
    return model


def _require_settings(settings: dict[str, Any], regularizer: MarginRegularizer | None) -> None:
    """Refuse settings that are no arguments of `MarginRegularizer`, or that come together with a regularizer."""
    known = _arguments(MarginRegularizer)
    for name, value in settings.items():
        if name in known:
            continue
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {nearest[0]!r}?" if nearest else f"They are {', '.join(known)}."
        if name in _arguments(DeepFool):
            hint = f"It is one of DeepFool: attack=keras_amm.DeepFool({name}={value!r})."
        raise TypeError(
            f"The settings of `wrap` are arguments of MarginRegularizer, and {name!r} is none of them. {hint} "
            f"Received: {name}={value!r}."
        )
    if regularizer is not None:
        raise ValueError(
            "Expected: a regularizer, or settings of which `wrap` makes one, but not both. "
            f"Received: regularizer={regularizer!r} and {settings}."
        )


def _arguments(kind: type) -> list[str]:
    """The names of the arguments of a constructor, without `**kwargs`."""
    return [name for name, p in inspect.signature(kind).parameters.items() if p.kind is not p.VAR_KEYWORD]


def _warn_of_no_warm_up(model: AMMModel) -> None:
    """Warn if the optimizer that was taken over has made as many updates as the warm-up has."""
    warmup = model.regularizer.warmup_steps
    if not warmup or not model.compiled or model.optimizer is None:
        return
    # Of several replicas it is a variable that `int` does not take.
    done = updates_of(model.optimizer)
    if warmup <= done:
        warnings.warn(
            f"There will be no warm-up: warmup_steps={warmup} counts the optimizer's updates, and the optimizer taken "
            f"over from the classifier has made {done}. Compile the wrapped model with a new optimizer, and it counts "
            "from 0.",
            stacklevel=3,
        )
