"""What variants of any network may differ in, and the training of one."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import keras

from ..data import data_sets
from ..data.arrays import MNIST_MEAN
from ..training.checkpoints import restore
from ..training.fitting import compile_model, fit, measure, to_measure
from ..training.losses import LOSSES
from ..training.run_records import versions
from ..training.table_2 import DROP_TO, proportional_drops

_BATCH_SIZE = 100
INITIALISATIONS: Mapping[str, Callable[[], keras.Initializer]] = MappingProxyType(
    {
        # Keras truncates the normal distribution and keeps its deviation; PyTorch does not truncate.
        "msra": keras.initializers.HeNormal,
        # The published code's for the MLP.
        "msra-untruncated": lambda: keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal"),
        # The published code's for LiuNet.
        "msra-fan-out": lambda: keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        # PyTorch's own, where code does not choose another one.
        "pytorch": lambda: keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        # That of Caffe's example.
        "xavier": lambda: keras.initializers.VarianceScaling(1.0, "fan_in", "uniform"),
    }
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """A variant of the MNIST protocol; the defaults are the protocol's own.

    The default of each attribute must stay as it is: a file made before there was the attribute is taken to have it.

    Attributes:
        title: what differs.
        l2: weight decay.
        learning_rate: the initial one.
        scale: what pixels in [0, 1] are multiplied by, within the network, so that margins keep their unit.
        mean: what is subtracted from the pixels before that.
        shuffle: whether each epoch has another order.
        global_clipnorm: the largest norm of the gradient; None not to clip it.
        loss: the classification loss, a key of `losses.LOSSES`.
    """

    title: str
    l2: float = 1e-4
    learning_rate: float = 5e-3
    scale: float = 1.0
    mean: float = MNIST_MEAN
    shuffle: bool = True
    global_clipnorm: float | None = 10.0
    loss: str = "cross-entropy"


class Training(NamedTuple):
    """One training of a variant.

    Attributes:
        seed: int, of initial weights and order.
        epochs: int.
        test: bool, whether to train on all images and measure on the test images, in place of the 5,000 held out.
        checkpoint: path of a file `.weights.h5`, from which a training that was cut off goes on.
    """

    seed: int
    epochs: int
    test: bool
    checkpoint: pathlib.Path


def rescaled_pixels(variant: Variant, inputs: Any) -> Any:
    """MNIST images as the variant has them.

    Args:
        variant: `Variant`.
        inputs: `keras.Input`, float32 [B, 28, 28, 1], in [0, 1] less the data set's mean.

    Returns:
        The same shape.
    """
    return keras.layers.Rescaling(variant.scale, variant.scale * (MNIST_MEAN - variant.mean))(inputs)


def train(variant: Any, training: Training, build: Callable[[Any], keras.Model]) -> dict[str, Any]:
    """Train and measure a variant.

    Args:
        variant: `Variant`.
        training: `Training`.
        build: function of the variant that returns its network with new weights, wrapped or not.

    Returns:
        A dictionary that JSON can hold; it calls the variant "form", as the files in `results/` do.

    Raises:
        NotPreparedError: the data set is not there.
    """
    # Asked for now: another commit may be checked out by the time the training ends.
    made_with = versions()
    seed, epochs, test, checkpoint = training
    keras.utils.set_random_seed(seed)
    num_validation = 0 if test else data_sets.NUM_VALIDATION
    data = data_sets.load("mnist", _BATCH_SIZE, seed, num_validation=num_validation, shuffle=variant.shuffle)
    model = build(variant)
    compile_model(
        model,
        variant.learning_rate,
        proportional_drops(epochs),
        DROP_TO,
        steps_per_epoch=len(data.train),
        l2=variant.l2,
        global_clipnorm=variant.global_clipnorm,
        loss=LOSSES[variant.loss](),
    )
    done = restore(model, checkpoint, len(data.train))
    fit(model, data, range(done, epochs), checkpoint)
    kept = model if variant.loss == "cross-entropy" else to_measure(getattr(model, "base_model", model))
    return {
        "form": dataclasses.asdict(variant),
        "seed": seed,
        "epochs": epochs,
        "versions": made_with,
        "measured_on": "test" if test else "validation",
        **measure(kept, data.test if test else data.validation),
    }
