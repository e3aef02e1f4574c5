"""What is trained in a cell: plainly, with AMM in one setting and in others that differ in an argument, and rivals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import keras

import keras_amm

from . import optimizers
from .cells import Cell
from .rivals import AdversarialTraining, JacobianPenalty, SmoothedCrossEntropy, with_noise

# The one setting of AMM for all cells.
AMM: Mapping[str, Any] = MappingProxyType(
    {
        "strength": "auto",
        "max_influence": 4.0,
        "aggregation": "nearest",
        "top_fraction": 0.35,
        "shrinkage": "exp",
        "c": 3.0,
        "normalize": "median",
        "misclassified": "farthest",
        "gradient": "boundary",
        "search": "cheap",
    }
)

_HARD: Mapping[str, Any] = {**AMM, "max_influence": 16.0}

# Makes of a network with new weights the model that is trained, which shares them. Takes the arm's settings and the
# median margin of plain training too.
Wrap = Callable[[keras.Model, Mapping[str, Any], float], keras.Model]


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        title: for the report.
        settings: what a record must have been made with to be this arm's.
        wrap: `Wrap`.
        needs: the arms whose held-out records must be there first.
        as_long_as: the arm whose training time it may use, with no fewer epochs than the cell's; None for the cell's
            epochs.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    wrap: Wrap = lambda network, settings, margin: network
    needs: tuple[str, ...] = ("plain",)
    as_long_as: str | None = None


def compile_model(model: keras.Model, cell: Cell, settings: Mapping[str, Any]) -> None:
    """Compile for training with the cell's optimizer, and the arm's decay, smoothing or clipping if it has any."""
    decay = settings.get("weight_decay", {}).get(cell.optimizer)
    optimizer = optimizers.build(
        cell.optimizer,
        global_clipnorm=settings.get("global_clipnorm", cell.global_clipnorm),
        **({} if decay is None else {"weight_decay": decay}),
    )
    loss: Any = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if "label_smoothing" in settings:
        loss = SmoothedCrossEntropy(settings["label_smoothing"])
    model.compile(optimizer, loss)


def _with_amm(network: keras.Model, settings: Mapping[str, Any], margin: float) -> keras.Model:
    return keras_amm.wrap(network, keras_amm.MarginRegularizer(**settings["regularizer"]))


def _with_the_papers(network: keras.Model, settings: Mapping[str, Any], margin: float) -> keras.Model:
    return keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper(settings["from_paper"]))


def _noisy(network: keras.Model, settings: Mapping[str, Any], margin: float) -> keras.Model:
    return with_noise(network, settings["deviation_in_margins"] * margin)


def _jacobian(network: keras.Model, settings: Mapping[str, Any], margin: float) -> keras.Model:
    model = JacobianPenalty(network.inputs, network.outputs)
    model.strength = settings["strength"]
    return model


def _adversarial(network: keras.Model, settings: Mapping[str, Any], margin: float) -> keras.Model:
    model = AdversarialTraining(network.inputs, network.outputs)
    model.radius = settings["radius_in_margins"] * margin
    return model


def _rival(title: str, settings: Mapping[str, Any] = MappingProxyType({}), **how: Any) -> Arm:
    return Arm(title, settings, needs=("plain", "amm"), as_long_as="amm", **how)


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "plain": Arm("plain", needs=()),
        "amm": Arm("AMM", {"regularizer": dict(AMM)}, _with_amm),
        "rough": Arm('AMM, `search="rough"`', {"regularizer": {**AMM, "search": "rough"}}, _with_amm),
        "hard": Arm("AMM, `max_influence=16`", {"regularizer": _HARD}, _with_amm),
        "hard-clipped": Arm(
            "AMM, `max_influence=16`, clipped", {"regularizer": _HARD, "global_clipnorm": 10.0}, _with_amm
        ),
        "paper": Arm("the paper's MIN+EXP", {"from_paper": "min-exp"}, _with_the_papers),
        "longer": _rival("longer plain training"),
        "label-smoothing": _rival("label smoothing", {"label_smoothing": 0.1}),
        # Keras multiplies it by the learning rate; AdamW's own is 0.004.
        "weight-decay": _rival("weight decay", {"weight_decay": {"sgd": 5e-4, "adam": 0.05, "adamw": 0.05}}),
        "noise": _rival("Gaussian noise", {"deviation_in_margins": 0.25}, wrap=_noisy),
        "jacobian": _rival("Jacobian penalty", {"strength": 0.01}, wrap=_jacobian),
        "pgd": _rival("PGD training", {"radius_in_margins": 0.5}, wrap=_adversarial),
    }
)
RIVALS = tuple(name for name, arm in ARMS.items() if arm.as_long_as)
