"""Variants of MLP-800 and its training on MNIST with a row of Table 1, LIN above all."""

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import ops

import keras_amm

from ..data.arrays import MNIST_DEVIATION
from ..reproduce import experiments
from ..reproduce.planning import SCHEDULES
from .protocol import INITIALISATIONS, Variant, rescaled_pixels


@dataclasses.dataclass(frozen=True)
class LinVariant(Variant):
    """MLP-800 and its training with a row of Table 1.

    Attributes:
        arm: the row of Table 1, such as "avg-lin", with its lambda, c and d from Table 1 of the appendix.
        c: in place of the appendix's.
        initialisation: of the kernels, a key of `protocol.INITIALISATIONS`.
        max_iterations: steps of DeepFool.
        screening: how many correct samples MIN searches in full, as a fraction of the batch; None for all.
        only_successful: whether samples whose attack failed count for nothing.
        divisor: "batch", the images of a batch, or "selected", the correct or the wrong ones that the penalty counts.
        misclassified: which misclassified samples count, as `MarginRegularizer` takes it; None for the authors' rule.
        unit: the unit of margins, as a part of the range of the pixels: c and d are divided by it.
    """

    arm: str = "min-lin"
    c: float | None = None
    initialisation: str = "msra"
    max_iterations: int = 6
    screening: float | None = None
    only_successful: bool = True
    divisor: str = "batch"
    misclassified: str | None = None
    unit: float = 1.0


_ARMS: Mapping[str, experiments.Arm] = MappingProxyType(
    {
        arm.name: arm
        for arm in (
            experiments.AVG_LIN,
            experiments.MIN_LIN,
            experiments.AVG_INV,
            experiments.MIN_INV,
            experiments.AVG_EXP,
            experiments.MIN_EXP,
        )
    }
)


def _variants_of(arm: experiments.Arm) -> Iterator[tuple[str, LinVariant]]:
    """The names and variants of one row of Table 1."""
    is_min = arm.settings["aggregation"] == "min"
    differences: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("nothing", {}),
        "rate": ("learning rate of 1e-2, the published code's default", {"learning_rate": 1e-2}),
        "selected": ("correct and wrong samples averaged over those that count", {"divisor": "selected"}),
        "squared-hinge": ("squared hinge in place of the cross-entropy", {"loss": "squared-hinge"}),
        **({"all-wrong": ("all wrong samples count", {"misclassified": "all"})} if is_min else {}),
        "no-decay": ("no weight decay", {"l2": 0.0}),
        "more-decay": ("weight decay of 5e-4", {"l2": 5e-4}),
        "untruncated": ("MSRA not truncated, as the authors'", {"initialisation": "msra-untruncated"}),
        "pytorch": ("kernels by PyTorch's default", {"initialisation": "pytorch"}),
        "fixed-batches": ("the same batches in every epoch", {"shuffle": False}),
        "deviation": ("pixels divided by their deviation", {"scale": 1 / MNIST_DEVIATION}),
        "deviation-unit": (
            "pixels divided by their deviation, margins measured there",
            {"scale": 1 / MNIST_DEVIATION, "unit": MNIST_DEVIATION},
        ),
        "no-mean": ("no mean subtracted", {"mean": 0.0}),
        "steps": ("5 steps of DeepFool, the published code's default", {"max_iterations": 5}),
        "one-step": (
            # On PyTorch 1.1, for which it was written, it takes all of its steps.
            "one step of DeepFool of all samples, each counts, as the published code on a PyTorch of today",
            {"max_iterations": 1, "only_successful": False, "screening": None},
        ),
        "unclipped": ("gradients not clipped", {"global_clipnorm": None}),
        **({"unscreened": ("all samples searched", {"screening": None})} if is_min else {}),
        **{f"c-{c}": (f"c = {c}", {"c": c}) for c in (0.5, 1.0, 2.0, 4.0) if c != arm.settings["c"]},
    }
    wanted = differences if arm.settings["shrinkage"] == "lin" else ("ours", "selected", "squared-hinge", "all-wrong")
    for name in filter(differences.__contains__, wanted):
        title, settings = differences[name]
        screening = {"screening": SCHEDULES["short"].screening} if is_min else {}
        yield f"{arm.name}.{name}", LinVariant(f"{arm.title}: {title}", arm=arm.name, **{**screening, **settings})


LIN_VARIANTS: Mapping[str, LinVariant] = MappingProxyType(
    dict(named for arm in _ARMS.values() for named in _variants_of(arm))
)


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class AveragedRegularizer(keras_amm.MarginRegularizer):
    """The penalty averaged over the correct samples that the aggregation selects, and over the wrong ones."""

    def penalize(self, norm: Any, correct: Any, selected: Any, strength: Any, batch_size: Any) -> Any:
        """As `MarginRegularizer.penalize`, whatever `batch_size` is."""
        del batch_size
        sides = (ops.logical_and(selected, side) for side in (correct, ops.logical_not(correct)))
        return sum(
            super(AveragedRegularizer, self).penalize(
                norm, correct, side, strength, ops.maximum(ops.sum(ops.cast(side, norm.dtype)), 1.0)
            )
            for side in sides
        )


def build_mlp(variant: LinVariant) -> keras_amm.AMMModel:
    """The wrapped network, with new weights.

    Args:
        variant: `LinVariant`.

    Returns:
        `keras_amm.AMMModel`: MNIST images [B, 28, 28, 1], less the data set's mean, to logits [B, 10].
    """
    initializer = INITIALISATIONS[variant.initialisation]
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(rescaled_pixels(variant, inputs))
    for _ in range(2):
        x = keras.layers.Dense(800, "relu", kernel_initializer=initializer())(x)
    network = keras.Model(inputs, keras.layers.Dense(10, kernel_initializer=initializer())(x))
    attack = keras_amm.DeepFool(variant.max_iterations)
    return keras_amm.wrap(network, regularizer=regularizer(variant), attack=attack)


def regularizer(variant: LinVariant) -> keras_amm.MarginRegularizer:
    """The penalty of a variant.

    Args:
        variant: `LinVariant`.

    Returns:
        `keras_amm.MarginRegularizer`.
    """
    kind = {"batch": keras_amm.MarginRegularizer, "selected": AveragedRegularizer}[variant.divisor]
    settings = dict(_ARMS[variant.arm].settings)
    settings["c"] = (settings["c"] if variant.c is None else variant.c) / variant.unit
    settings["d"] /= variant.unit
    settings |= {name: getattr(variant, name) for name in ("screening", "only_successful", "misclassified")}
    return kind.from_paper(f"{settings['aggregation']}-{settings['shrinkage']}", **settings)
