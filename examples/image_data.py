"""Images in memory: loading through tensorflow-datasets, scaling, and batches in an order that can be resumed."""

import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


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

SUBSET = pathlib.Path(__file__).parent / "data" / "mnist_subset.npz"


def scale(pixels: np.ndarray, mean: float = MNIST_MEAN) -> np.ndarray:
    """Pixels 0..255 as float32 in [0, 1], less the mean."""
    return pixels.astype("float32") / np.float32(255.0) - np.float32(mean)


def load(name: str, split: str, mean: float = MNIST_MEAN) -> Images:
    """Read a prepared tensorflow-datasets split into memory.

    Raises:
        SystemExit: the data set has not been prepared.
    """
    # Imported here, so that examples on embedded data do without it.
    import tensorflow_datasets as tfds

    try:
        pixels, labels = tfds.as_numpy(tfds.load(name, split=split, as_supervised=True, batch_size=-1, download=False))
    except (AssertionError, tfds.core.registered.DatasetNotFoundError) as error:
        raise SystemExit(
            f"The data set {name!r} is not prepared in {tfds.core.constants.DATA_DIR}. "
            f"Prepare it once, with a network:\n"
            f"    pip install importlib_resources\n"
            f"    python -c \"import tensorflow_datasets as tfds; tfds.load('{name}')\"\n"
            f"or let TFDS_DATA_DIR name the folder where it is. ({error})"
        ) from error
    return Images(scale(pixels, mean), labels.astype("int32"))


def load_subset() -> tuple[Images, Images]:
    """5,000 training and 2,000 test images of MNIST, which come with the repository."""
    with np.load(SUBSET) as arrays:
        return tuple(
            Images(scale(arrays[f"{split}_images"])[..., None], arrays[f"{split}_labels"].astype("int32"))
            for split in ("train", "test")
        )


def hold_out(images: Images, size: int, seed: int = 0) -> tuple[Images, Images]:
    """Split off `size` random images: the same ones for the same seed."""
    order = np.random.default_rng(seed).permutation(len(images))
    return images[np.sort(order[size:])], images[np.sort(order[:size])]


class ShuffledBatches:
    """Batches in memory, whose order depends on the seed and the epoch's number alone.

    So a resumed run sees the batches that an uninterrupted one would have seen.
    Give `fit` the `dataset`, and the `callback`, which tells it the epoch.
    """

    def __init__(self, images: Images, batch_size: int, seed: int) -> None:
        self._epoch = tf.Variable(0, trainable=False, dtype=tf.int32)
        size = len(images)
        # Constants are shared by all epochs, and gathering from them needs no Python.
        x, y = tf.constant(images.x), tf.constant(images.y)

        def shuffled(_: Any) -> tf.data.Dataset:
            # Stateless, and read anew whenever an epoch begins.
            order = tf.random.experimental.stateless_shuffle(tf.range(size), seed=tf.stack([seed, self._epoch]))
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        self.dataset = (
            tf.data.Dataset.range(1)
            .flat_map(shuffled)
            .map(lambda index: (tf.gather(x, index), tf.gather(y, index)))
            .apply(tf.data.experimental.assert_cardinality(-(-size // batch_size)))
            .prefetch(2)
        )

    def __len__(self) -> int:
        return int(self.dataset.cardinality())

    @property
    def callback(self) -> keras.callbacks.Callback:
        """Says which epoch begins."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self._epoch.assign(epoch))
