"""Images as scaled arrays in memory: the part of MNIST in the repository, and whole splits of tensorflow-datasets."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from .sources import prepared_builder


class Images(NamedTuple):
    """Scaled images [n, height, width, channels], float32, and their labels [n], int32."""

    x: np.ndarray
    y: np.ndarray

    def __getitem__(self, index: Any) -> "Images":
        return Images(self.x[index], self.y[index])

    def __len__(self) -> int:
        return len(self.y)


# Pixels are scaled to [0, 1] and the training set's mean is subtracted. They are
# not divided by the deviation, so that margins are in units of the pixel scale.
MNIST_MEAN = 0.1307
MNIST_DEVIATION = 0.3081

SUBSET = pathlib.Path(__file__).with_name("mnist_subset.npz")


def scaled(pixels: np.ndarray, mean: Any = MNIST_MEAN) -> np.ndarray:
    """Pixels 0..255 as float32 in [0, 1], less the mean, which is a number or one per channel."""
    return pixels.astype("float32") / np.float32(255.0) - np.float32(mean)


def load(name: str, split: str, mean: Any = MNIST_MEAN) -> Images:
    """Read a prepared tensorflow-datasets split into memory; `data_sets.load` gives training pipelines.

    Raises:
        NotPreparedError: the data set has not been prepared.
    """
    builder = prepared_builder(name, download=False)
    pixels, labels = builder.as_dataset(split=split, as_supervised=True, batch_size=-1)
    return Images(scaled(pixels.numpy(), mean), labels.numpy().astype("int32"))


def load_subset() -> tuple[Images, Images]:
    """5,000 training and 2,000 test images of MNIST, which come with the repository."""
    with np.load(SUBSET) as arrays:
        return tuple(
            Images(scaled(arrays[f"{split}_images"])[..., None], arrays[f"{split}_labels"].astype("int32"))
            for split in ("train", "test")
        )
