"""The network that a training starts from, as its settings say."""

from typing import Any

import keras

import keras_amm

from .. import architectures, methods
from .initial_weights import load_network
from .losses import LOSSES
from .settings import default_penalty

_REGULARIZER_SETTINGS = (
    "strength", "aggregation", "shrinkage", "c", "d", "gradient", "screening", "only_successful", "interval",
    "misclassified", "max_influence",
)  # fmt: skip


def initial_network(settings: dict[str, Any], num_classes: int) -> keras.Model:
    """The network with new weights or those of `init_from`, its batch normalisation frozen if it is to be.

    Args:
        settings: from `settings.resolve`.
        num_classes: int, the number of its logits.

    Returns:
        `keras.Model` with logits as output.

    Raises:
        ValueError: `init_from` names no weights, or those of another network.
    """
    options = {"groups": settings["groups"]} if settings["groups"] else {}
    if settings["init_from"]:
        network = load_network(settings["model"], num_classes, settings["init_from"], **options)
    else:
        network = architectures.build(settings["model"], num_classes, **options)
    if settings["freeze_batch_normalization"]:
        architectures.freeze_batch_normalization(network)
    return network


def wrap_for_margin(network: keras.Model, settings: dict[str, Any]) -> keras_amm.AMMModel:
    """The network wrapped with the regularizer and the attack that the settings name."""
    if settings["penalty"] == "default":
        regularizer = default_penalty(settings["max_influence"])
    else:
        changes = {name: settings[name] for name in _REGULARIZER_SETTINGS}
        regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **changes)
    attack = keras_amm.DeepFool(settings["max_iterations"], settings["num_candidates"])
    return keras_amm.wrap(network, regularizer=regularizer, attack=attack)


def method_of(settings: dict[str, Any]) -> methods.Method:
    """The method that the settings name; without one, that which changes nothing."""
    return methods.METHODS.get(settings["method"], methods.Method)(**settings["method_settings"])


def loss_of(settings: dict[str, Any], method: methods.Method) -> keras.losses.Loss:
    """The loss to train with: the method's, or that which the settings name where there is no method."""
    return method.loss if settings["method"] else LOSSES[settings["loss"]]()
