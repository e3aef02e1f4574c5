"""The problems: data, network, optimizer, batch size and epochs, each as a user would pose it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import keras
from keras import layers, optimizers

from benchmarks.helps.data import CellData

from . import data, networks
from .networks import Features


@dataclass(frozen=True)
class Problem:
    """One problem.

    Attributes:
        shown: the data, the network and the optimizer in words, as the table shows them.
        data: reads the images.
        features: of the network, but for its last layer.
        optimizer: makes the optimizer, of the number of steps that will be trained.
        batch_size: training images of a batch.
        epochs: of both ways to train.
    """

    shown: tuple[str, str, str]
    data: Callable[[], CellData]
    features: Features
    optimizer: Callable[[int], keras.Optimizer]
    batch_size: int
    epochs: int


def _adam(steps: int) -> keras.Optimizer:
    return optimizers.Adam()


def _augmentation() -> tuple[Callable[[], layers.Layer], ...]:
    return partial(layers.RandomFlip, "horizontal"), partial(layers.RandomTranslation, 0.1, 0.1)


def _cosine(steps: int) -> keras.Optimizer:
    return optimizers.SGD(optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9, nesterov=True)


def _fashion(num_train: int = 5_000) -> CellData:
    return data.split("fashion_mnist", num_train)


def _two(name: str, classes: tuple[int, int]) -> CellData:
    return data.of_classes(data.split(name, 20_000), classes, 2_000)


_FASHION, _CIFAR = "Fashion-MNIST", "CIFAR-10 (JPEG)"
_CNN, _MLP = "CNN", "MLP"

PROBLEMS: Mapping[str, Problem] = MappingProxyType(
    {
        "noisy-labels": Problem(
            (f"{_FASHION}, a fifth of the labels random", _CNN, "Adam"),
            lambda: data.with_random_labels(_fashion(), 0.2),
            networks.cnn(),
            _adam,
            64,
            8,
        ),
        "noisy-labels-learned": Problem(
            (f"{_FASHION}, a fifth of the labels random", _MLP, "Adam"),
            lambda: data.with_random_labels(_fashion(2_000), 0.2),
            networks.mlp(),
            _adam,
            64,
            40,
        ),
        "dropout": Problem(
            (_FASHION, "CNN with Dropout of 0.5", "RMSprop"),
            _fashion,
            networks.cnn(dropout=0.5),
            lambda steps: optimizers.RMSprop(),
            64,
            10,
        ),
        "augmentation": Problem(
            (_CIFAR, "CNN, flips and translations", "Adam"),
            lambda: data.split("cifar10", 5_000),
            networks.cnn(_augmentation()),
            _adam,
            64,
            12,
        ),
        "rescaled-bytes": Problem(
            ("MNIST, pixels from 0 to 255", "CNN, rescaled in a layer", "Adam"),
            lambda: data.bytes_of_mnist(2_000),
            networks.cnn([partial(layers.Rescaling, 1 / 255)]),
            _adam,
            32,
            10,
        ),
        "bytes": Problem(
            ("MNIST, pixels from 0 to 255", _CNN, "Adam"),
            lambda: data.bytes_of_mnist(2_000),
            networks.cnn(),
            _adam,
            32,
            10,
        ),
        "digits": Problem(("digits of 8x8 pixels", _MLP, "Adam"), data.digits, networks.mlp(), _adam, 32, 30),
        "digits-cnn": Problem(
            ("digits of 8x8 pixels", _CNN, "SGD, rate 0.05"),
            data.digits,
            networks.cnn(),
            lambda steps: optimizers.SGD(0.05, momentum=0.9),
            32,
            20,
        ),
        "wine": Problem(("table of wines, 3 classes", "MLP-32", "Adam"), data.wine, networks.mlp([32]), _adam, 16, 60),
        "table": Problem(
            ("synthetic table, 5 classes", "MLP-128", "Adam"),
            data.synthetic_table,
            networks.mlp([128, 128]),
            _adam,
            64,
            20,
        ),
        "tanh": Problem(
            (_FASHION, "MLP with tanh", "SGD, rate 0.1, no momentum"),
            _fashion,
            networks.mlp(activation="tanh"),
            lambda steps: optimizers.SGD(0.1),
            16,
            8,
        ),
        "twenty-classes": Problem(
            ("MNIST and Fashion-MNIST, 20 classes", _CNN, "Adam"),
            lambda: data.twenty_classes(10_000),
            networks.cnn(),
            _adam,
            64,
            6,
        ),
        "batches-of-8": Problem(
            ("MNIST", _CNN, "Adam"), lambda: data.split("mnist", 2_000), networks.cnn(), _adam, 8, 6
        ),
        "batches-of-1000": Problem(
            ("MNIST", _MLP, "Adam"), lambda: data.split("mnist", 10_000), networks.mlp(), _adam, 1_000, 25
        ),
        "nadam": Problem((_FASHION, _MLP, "Nadam"), _fashion, networks.mlp(), lambda steps: optimizers.Nadam(), 64, 12),
        "lion": Problem(
            (_FASHION, _MLP, "Lion, rate 0.0001"),
            _fashion,
            networks.mlp(),
            lambda steps: optimizers.Lion(1e-4),
            64,
            12,
        ),
        "adagrad": Problem(
            (_FASHION, _MLP, "Adagrad, rate 0.01"),
            _fashion,
            networks.mlp(),
            lambda steps: optimizers.Adagrad(0.01),
            64,
            12,
        ),
        "cosine": Problem(
            (_CIFAR, "CNN with BatchNormalization", "SGD, Nesterov, rate 0.05 falling to 0"),
            lambda: data.split("cifar10", 5_000),
            networks.cnn(normalization=layers.BatchNormalization),
            _cosine,
            64,
            12,
        ),
        "convnext": Problem(
            (_FASHION, "ConvNeXt blocks", "AdamW"),
            _fashion,
            networks.convnext,
            lambda steps: optimizers.AdamW(),
            64,
            12,
        ),
        "convnext-cifar": Problem(
            (_CIFAR, "ConvNeXt blocks", "AdamW, decay 0.05"),
            lambda: data.split("cifar10", 5_000),
            networks.convnext,
            lambda steps: optimizers.AdamW(weight_decay=0.05),
            64,
            12,
        ),
        "many-epochs": Problem((_FASHION, _CNN, "Adam"), lambda: _fashion(2_000), networks.cnn(), _adam, 64, 30),
        "two-noisy-classes": Problem(
            (f"{_FASHION}, classes 0 and 6, a fifth of the labels random", _CNN, "Adam"),
            lambda: data.with_random_labels(_two("fashion_mnist", (0, 6)), 0.2),
            networks.cnn(),
            _adam,
            32,
            8,
        ),
        "pullovers-and-coats": Problem(
            (f"{_FASHION}, classes 2 and 4", _MLP, "Adam"),
            lambda: _two("fashion_mnist", (2, 4)),
            networks.mlp(),
            _adam,
            32,
            15,
        ),
        "cats-and-dogs": Problem(
            (f"{_CIFAR}, classes 3 and 5", _CNN, "Adam"), lambda: _two("cifar10", (3, 5)), networks.cnn(), _adam, 32, 10
        ),
        "planes-and-cars": Problem(
            (f"{_CIFAR}, classes 0 and 1", _CNN, "SGD"),
            lambda: _two("cifar10", (0, 1)),
            networks.cnn(),
            lambda steps: optimizers.SGD(momentum=0.9),
            32,
            12,
        ),
    }
)
