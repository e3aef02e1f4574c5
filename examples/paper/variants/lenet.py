"""LeNet's reference has a larger margin than in Table 3: the same training with other layers, weights and pixels.

    python examples/lenet_variants.py --out=runs/lenet_forms

The paper names LeNet and its protocol, but its published code has no LeNet for MNIST. Each form here differs from
`lenet-mnist` and the protocol in something that is not certain: layers, initialisation, weight decay, learning rate,
pixels, order. References only, see `forms.py`. One JSON file per training; what is finished is not made again. The
table that is printed has the values of each seed. Where it says PyTorch's default, that is the kernels'; biases are 0.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from ..data.arrays import MNIST_DEVIATION
from . import forms


@dataclasses.dataclass(frozen=True)
class Form(forms.Form):
    """LeNet and its training; the defaults are those of `lenet-mnist`.

    Attributes:
        filters: of the 5x5 convolutions, each of which is followed by pooling.
        units: of the hidden dense layers, which have ReLU.
        activation: after each convolution.
        padding: of the convolutions.
        pooling: "max" or "average".
        initialisation: of the convolutions' kernels, a key of `forms.INITIALISATIONS`.
        dense_initialisation: of the dense layers' kernels.
    """

    filters: tuple[int, ...] = (20, 50)
    units: tuple[int, ...] = (500,)
    activation: str | None = None
    padding: str = "valid"
    pooling: str = "max"
    initialisation: str = "msra"
    dense_initialisation: str = "msra"


_LECUN: dict[str, Any] = {"filters": (6, 16), "units": (120, 84)}

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "ours": Form("nothing"),
        "relu": Form("ReLU after the convolutions", activation="relu"),
        "average": Form("average pooling", pooling="average"),
        "same": Form("convolutions padded", padding="same"),
        "wide": Form("32 and 64 filters, 1,024 units", filters=(32, 64), units=(1024,)),
        "lecun": Form("6 and 16 filters, 120 and 84 units (LeCun et al.)", **_LECUN),
        "lecun-relu": Form("the same, with ReLU after the convolutions", activation="relu", **_LECUN),
        "untruncated": Form(
            "MSRA not truncated, as the authors' MLP",
            initialisation="msra-untruncated",
            dense_initialisation="msra-untruncated",
        ),
        "fan-out": Form("MSRA by fan-out", initialisation="msra-fan-out", dense_initialisation="msra-fan-out"),
        "fan-out-convolutions": Form("MSRA by fan-out, convolutions only", initialisation="msra-fan-out"),
        "fan-out-dense": Form("MSRA by fan-out, dense layers only", dense_initialisation="msra-fan-out"),
        "fan-out-pytorch": Form(
            "MSRA by fan-out for convolutions, PyTorch's default for dense layers, as the authors' LiuNet",
            initialisation="msra-fan-out",
            dense_initialisation="pytorch",
        ),
        "pytorch-dense": Form("dense layers by PyTorch's default", dense_initialisation="pytorch"),
        "pytorch": Form(
            "convolutions and dense layers by PyTorch's default",
            initialisation="pytorch",
            dense_initialisation="pytorch",
        ),
        "xavier": Form("Caffe's initialisation", initialisation="xavier", dense_initialisation="xavier"),
        "no-decay": Form("no weight decay", l2=0.0),
        "more-decay": Form("weight decay of 5e-4", l2=5e-4),
        "rate": Form("learning rate of 1e-2", learning_rate=1e-2),
        "deviation": Form("pixels divided by their deviation", scale=1 / MNIST_DEVIATION),
        "no-mean": Form("no mean subtracted", mean=0.0),
        "fixed-batches": Form("the same batches in every epoch", shuffle=False),
    }
)


def build(form: Form) -> keras.Model:
    """The network, with new weights.

    Args:
        form: `Form`.

    Returns:
        `keras.Model`: MNIST images [B, 28, 28, 1], less the data set's mean, to logits [B, 10].
    """
    # An initializer draws the same numbers whenever it is called.
    of_convolutions = forms.INITIALISATIONS[form.initialisation]
    of_dense = forms.INITIALISATIONS[form.dense_initialisation]
    pooling = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[form.pooling]
    inputs = keras.Input((28, 28, 1))
    x = forms.pixels(form, inputs)
    for filters in form.filters:
        x = keras.layers.Conv2D(
            filters, 5, padding=form.padding, activation=form.activation, kernel_initializer=of_convolutions()
        )(x)
        x = pooling(2)(x)
    x = keras.layers.Flatten()(x)
    for units in form.units:
        x = keras.layers.Dense(units, "relu", kernel_initializer=of_dense())(x)
    return keras.Model(inputs, keras.layers.Dense(10, kernel_initializer=of_dense())(x))
