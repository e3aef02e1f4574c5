"""The paper's networks by name (Section 4.1): Keras Functional models with logits as output."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras

from .batch_normalization import freeze_batch_normalization
from .densenet import densenet
from .lenet import lenet, lenet_mnist
from .liunet import liunet, liunet_mnist
from .mlp import mlp
from .nin import nin
from .resnet import resnet, resnet_18, resnet_50
from .senet import senet_50

__all__ = ["ARCHITECTURES", "build", "freeze_batch_normalization"]

# A new network also needs a row in `TABLE_2` (training/table_2.py), so that a data set's script offers it, and a plan
# in `PLANS` (benchmarks/every_architecture.py). A test fails until both are there.
ARCHITECTURES: Mapping[str, Callable[..., keras.Model]] = MappingProxyType(
    {
        "mlp-800": functools.partial(mlp, units=800),
        "mlp-512": functools.partial(mlp, units=512),
        "lenet-mnist": lenet_mnist,
        "liunet-mnist": liunet_mnist,
        "lenet": lenet,
        "nin": nin,
        "liunet": functools.partial(liunet, width=64),
        "liunet-96": functools.partial(liunet, width=96),
        "resnet-20": functools.partial(resnet, depth=20),
        "resnet-56": functools.partial(resnet, depth=56),
        "densenet-40": functools.partial(densenet, depth=40),
        "resnet-18": resnet_18,
        "resnet-50": resnet_50,
        "senet-50": senet_50,
    }
)


def build(name: str, num_classes: int | None = None, **options: Any) -> keras.Model:
    """A network of the paper, with new weights.

    Args:
        name: str, one of `ARCHITECTURES`.
        num_classes: int, the number of logits; None for 10, or 1,000 for the ImageNet networks.
        **options: what the network's function takes besides, such as `input_shape`,
            or `group_size` for LiuNet.

    Returns:
        `keras.Model`: images [B, height, width, channels] to logits [B, num_classes].

    Raises:
        ValueError: there is no network of that name.

    Example:
    >>> from examples.paper import architectures
    >>> architectures.build("resnet-20", num_classes=100).output_shape
    (None, 100)
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"Expected one of {', '.join(ARCHITECTURES)}. Received: name={name!r}.")
    if num_classes is not None:
        options["num_classes"] = num_classes
    return ARCHITECTURES[name](**options)
