"""AVG+LIN and MIN+LIN err more than in Table 1: the same trainings in other forms.

    python examples/lin_variants.py --out=runs/lin_forms

Each form differs from Table 1's row and the protocol in something that is not certain, or that the published code
does otherwise: initialisation, weight decay, learning rate, pixels, order, clipping, steps of DeepFool, what the
penalty is divided by, c. See `forms.py`. One JSON file per training; what is finished is not made again. With
`--forms=avg-lin,min-lin.ours` and so on one process trains some of them only. EXP is there as a control of what the
penalty is divided by: its errors are near the paper's as it is.
"""

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
from . import forms


@dataclasses.dataclass(frozen=True)
class Form(forms.Form):
    """MLP-800 and its training with a row of Table 1.

    Attributes:
        arm: the row of Table 1, such as "avg-lin", with its lambda, c and d from Table 1 of the appendix.
        c: in place of the appendix's.
        initialisation: of the kernels, a key of `forms.INITIALISATIONS`.
        max_iterations: steps of DeepFool.
        screening: how many correct samples MIN searches in full, as a fraction of the batch; None for all.
        only_successful: whether samples count for nothing that DeepFool did not bring over.
        divisor: "batch", the images of a batch, or "selected", the correct or the wrong ones that the penalty counts.
        unit: of margins, in pixel values from 0 to 1, as it were: c and d are divided by it.
    """

    arm: str = "min-lin"
    c: float | None = None
    initialisation: str = "msra"
    max_iterations: int = 6
    screening: float | None = None
    only_successful: bool = True
    divisor: str = "batch"
    unit: float = 1.0


_ARMS: Mapping[str, experiments.Arm] = MappingProxyType(
    {arm.name: arm for arm in (experiments.AVG_LIN, experiments.MIN_LIN, experiments.AVG_EXP, experiments.MIN_EXP)}
)


def _forms(arm: experiments.Arm) -> Iterator[tuple[str, Form]]:
    """The forms of one row of Table 1, and their names."""
    is_min = arm.settings["aggregation"] == "min"
    differences: dict[str, tuple[str, dict[str, Any]]] = {
        "ours": ("nothing", {}),
        "rate": ("learning rate of 1e-2, the published code's default", {"learning_rate": 1e-2}),
        "selected": ("correct and wrong samples averaged over those that count", {"divisor": "selected"}),
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
            # Its PyTorch was 1.1, where it takes all of its steps.
            "one step of DeepFool of all samples, each counts, as the published code on a PyTorch of today",
            {"max_iterations": 1, "only_successful": False, "screening": None},
        ),
        "unclipped": ("gradients not clipped", {"global_clipnorm": None}),
        **({"unscreened": ("all samples searched", {"screening": None})} if is_min else {}),
        **{f"c-{c}": (f"c = {c}", {"c": c}) for c in (0.5, 1.0, 2.0, 4.0) if c != arm.settings["c"]},
    }
    names = differences if arm.settings["shrinkage"] == "lin" else ("ours", "selected")
    for name in names:
        title, settings = differences[name]
        screening = {"screening": SCHEDULES["short"].screening} if is_min else {}
        yield f"{arm.name}.{name}", Form(f"{arm.title}: {title}", arm=arm.name, **{**screening, **settings})


FORMS: Mapping[str, Form] = MappingProxyType(dict(form for arm in _ARMS.values() for form in _forms(arm)))


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


def build(form: Form) -> keras_amm.AMMModel:
    """The wrapped network, with new weights.

    Args:
        form: `Form`.

    Returns:
        `keras_amm.AMMModel`: MNIST images [B, 28, 28, 1], less the data set's mean, to logits [B, 10].
    """
    initializer = forms.INITIALISATIONS[form.initialisation]
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Flatten()(forms.pixels(form, inputs))
    for _ in range(2):
        x = keras.layers.Dense(800, "relu", kernel_initializer=initializer())(x)
    network = keras.Model(inputs, keras.layers.Dense(10, kernel_initializer=initializer())(x))
    return keras_amm.wrap(network, regularizer=regularizer(form), attack=keras_amm.DeepFool(form.max_iterations, 10))


def regularizer(form: Form) -> keras_amm.MarginRegularizer:
    """The form's penalty.

    Args:
        form: `Form`.

    Returns:
        `keras_amm.MarginRegularizer`.
    """
    kind = {"batch": keras_amm.MarginRegularizer, "selected": AveragedRegularizer}[form.divisor]
    settings = dict(_ARMS[form.arm].settings)
    settings["c"] = (settings["c"] if form.c is None else form.c) / form.unit
    settings["d"] /= form.unit
    return kind(**settings, screening=form.screening, only_successful=form.only_successful)
