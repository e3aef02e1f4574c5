"""The cells of the benchmark: data, network, optimizer, batch size, number of images and epochs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Cell:
    """One problem as a user would pose it.

    Attributes:
        data: `"mnist"`, `"fashion_mnist"` or `"cifar10"` of tensorflow-datasets, or `"breast_cancer"` of scikit-learn.
        network: a key of `networks.FEATURES` or `networks.OF_THE_PAPER`.
        optimizer: a key of `optimizers.OPTIMIZERS`, with Keras's default learning rate.
        batch_size: training images of a batch.
        num_train: training images, before classes are thinned out.
        epochs: epochs of every arm, but for those that may take as long as AMM.
        classes: the classes that take part; empty for all.
        thinned_out: the classes of which a tenth of the training images is left. They are measured in full.
        global_clipnorm: the largest norm of the whole gradient; None not to clip it.
        num_attacked: how many of the held-out or test images are attacked; the error is that of all.
    """

    data: str
    network: str
    optimizer: str
    batch_size: int
    num_train: int
    epochs: int
    classes: tuple[int, ...] = ()
    thinned_out: tuple[int, ...] = ()
    global_clipnorm: float | None = None
    num_attacked: int = 500


CELLS: Mapping[str, Cell] = MappingProxyType(
    {
        # The networks of README.md, clipped as the paper's training is.
        "mnist-mlp800": Cell("mnist", "mlp-800", "sgd", 100, 20_000, 15, global_clipnorm=10.0),
        "mnist-lenet": Cell("mnist", "lenet", "sgd", 100, 20_000, 10, global_clipnorm=10.0),
        "mnist-mlp": Cell("mnist", "mlp", "adam", 32, 5_000, 15),
        "mnist-500": Cell("mnist", "cnn", "adam", 32, 500, 40),
        "mnist-cnn-bn": Cell("mnist", "cnn-bn", "sgd", 32, 5_000, 10),
        "mnist-vit": Cell("mnist", "vit", "adam", 100, 10_000, 10),
        "mnist-4-9": Cell("mnist", "mlp", "sgd", 32, 5_000, 15, classes=(4, 9)),
        "fashion-mlp": Cell("fashion_mnist", "mlp", "adam", 100, 5_000, 20),
        "fashion-500": Cell("fashion_mnist", "mlp", "adam", 32, 500, 40),
        "fashion-cnn": Cell("fashion_mnist", "cnn", "adam", 32, 10_000, 8),
        "fashion-cnn-300": Cell("fashion_mnist", "cnn", "adam", 300, 10_000, 10),
        "fashion-cnn-bn": Cell("fashion_mnist", "cnn-bn", "adamw", 100, 10_000, 6),
        "fashion-resnet": Cell("fashion_mnist", "resnet", "sgd", 100, 10_000, 8),
        "fashion-imbalanced": Cell("fashion_mnist", "cnn", "adam", 100, 10_000, 8, thinned_out=(5, 6, 7, 8, 9)),
        "fashion-shirts": Cell("fashion_mnist", "cnn", "adam", 32, 2_000, 8, classes=(0, 6)),
        "cifar10-cnn": Cell("cifar10", "cnn", "adam", 100, 10_000, 8),
        "cifar10-cnn-5000": Cell("cifar10", "cnn", "adam", 32, 5_000, 15),
        "cifar10-cnn-bn": Cell("cifar10", "cnn-bn", "sgd", 300, 10_000, 20),
        "cifar10-resnet": Cell("cifar10", "resnet", "adamw", 100, 10_000, 10),
        "cifar10-vit": Cell("cifar10", "vit", "adamw", 100, 10_000, 8),
        "breast-cancer": Cell("breast_cancer", "mlp", "adam", 32, 300, 60),
        "breast-cancer-sgd": Cell("breast_cancer", "mlp", "sgd", 32, 300, 60),
    }
)
# Where nothing may be lost against the paper's own setting.
OF_README = ("mnist-mlp800", "mnist-lenet")
