"""Table 2 of the paper's appendix: batch size, epochs and learning rates of each network on each data set."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# What the learning rate is multiplied by at its drops, and the shortest training in which it can drop twice.
DROP_TO = (0.1, 0.01)
LEAST_EPOCHS = 3


class Table2Row(NamedTuple):
    """How a network is trained on a data set.

    Attributes:
        batch_size: images per batch.
        epochs: number of epochs.
        learning_rate: the initial one.
        drop_at: epochs from which the learning rate is lower.
        scratch: whether AMM starts from new weights; if not, from a trained reference.
        drop_to: factors of the initial learning rate from these epochs on.
    """

    batch_size: int
    epochs: int
    learning_rate: float
    drop_at: tuple[int, ...]
    scratch: bool
    drop_to: tuple[float, ...] = DROP_TO


_MNIST = {
    "mlp-800": Table2Row(100, 100, 5e-3, (50, 80), scratch=True),
    # Table 3 has it for DLSVM only. Table 2 has one row for all MLPs.
    "mlp-512": Table2Row(100, 100, 5e-3, (50, 80), scratch=True),
    "lenet-mnist": Table2Row(100, 100, 5e-3, (50, 80), scratch=True),
    "liunet-mnist": Table2Row(100, 100, 5e-3, (50, 80), scratch=False),
}
_LONG = Table2Row(128, 400, 1e-2, (250, 350), scratch=False)
_RESIDUAL = {"resnet-20": _LONG, "resnet-56": _LONG, "densenet-40": _LONG}
_SHORT = Table2Row(128, 100, 5e-3, (50, 80), scratch=False)
_CIFAR_LENET = Table2Row(100, 160, 5e-3, (100, 140), scratch=True)
_CIFAR_PLAIN = Table2Row(100, 400, 5e-3, (250, 350), scratch=False)
_SVHN_PLAIN = Table2Row(100, 100, 5e-3, (50, 80), scratch=False)
_IMAGENET = Table2Row(32, 10, 1e-2, (5, 8), scratch=False)

# Fashion-MNIST is not in the paper and takes MNIST's rows. The first network of a data set is its default.
TABLE_2: Mapping[str, Mapping[str, Table2Row]] = MappingProxyType(
    {
        "mnist": _MNIST,
        "fashion_mnist": _MNIST,
        "cifar10": {"lenet": _CIFAR_LENET, "nin": _CIFAR_PLAIN, "liunet": _CIFAR_PLAIN, **_RESIDUAL},
        "cifar100": {"lenet": _CIFAR_LENET, "nin": _CIFAR_PLAIN, "liunet-96": _CIFAR_PLAIN, **_RESIDUAL},
        "svhn_cropped": {
            "lenet": _SVHN_PLAIN._replace(scratch=True),
            "nin": _SVHN_PLAIN,
            "liunet": _SVHN_PLAIN,
            "resnet-20": _SHORT,
            "resnet-56": _SHORT,
            "densenet-40": _SHORT,
        },
        "imagenet2012": {
            "resnet-18": _IMAGENET,
            "resnet-50": _IMAGENET,
            "senet-50": _IMAGENET._replace(epochs=20, drop_at=(10, 15)),
        },
    }
)


def proportional_drops(epochs: int) -> tuple[int, int]:
    """The epochs from which MNIST's learning rate drops in a shorter training: 50 and 80 of the table's 100.

    Args:
        epochs: int, at least `LEAST_EPOCHS`.

    Returns:
        Two ints.

    Example:
    >>> proportional_drops(30)
    (15, 24)
    """
    return epochs // 2, epochs * 4 // 5
