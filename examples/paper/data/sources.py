"""Labelled images by their number in a split: from memory, or streamed from tensorflow-datasets' files."""

import functools
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

# Records that are shuffled together, still encoded: about 1 GB of ImageNet's JPEG files.
SHUFFLED_TOGETHER = 8_192
FILES_AT_ONCE = 16


class NotPreparedError(FileNotFoundError):
    """A data set that is neither on disk nor could be fetched."""


class Source(Protocol):
    """Images of a split, each with its number."""

    size: int

    def batches(self, numbers: np.ndarray, batch_size: int, seed: Any | None = None) -> tf.data.Dataset:
        """Batches (number [B], image [B, height, width, channels], label [B]).

        Args:
            numbers: int array, the images that take part.
            batch_size: int.
            seed: int tensor [2] of the order and of random crops; None for the
                order on disk.
        """


class InMemory:
    """Images that fit in memory, shuffled as a whole.

    Args:
        images: uint8 array [n, height, width, channels].
        labels: int array [n].
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.size = len(labels)
        # As constants they are stored once for all epochs, and a pipeline reads them without calling Python.
        self.images, self.labels = tf.constant(images), tf.constant(labels, tf.int32)

    def batches(self, numbers: np.ndarray, batch_size: int, seed: Any | None = None) -> tf.data.Dataset:
        """See `Source`."""
        order = tf.constant(numbers, tf.int32)
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return batches.map(lambda number: (number, tf.gather(self.images, number), tf.gather(self.labels, number)))


class Streamed:
    """Images read from TFRecord files whenever they are needed.

    They are shuffled in three ways: the files are read in another order, 16 of them in turns, and the records are
    shuffled within groups of 8,192 that follow one another.

    Args:
        builder: prepared `tfds.core.DatasetBuilder`.
        split: str, the name of a split.
        prepare: function of an image [height, width, channels] and a seed [2], or None in place of it,
            to an image whose shape does not vary.
    """

    def __init__(self, builder: Any, split: str, prepare: Callable[[Any, Any | None], Any]) -> None:
        info = builder.info
        if info.file_format.value != "tfrecord":
            raise ValueError(
                f"{info.name!r} must be stored as TFRecord files to be streamed. Received: {info.file_format.value}. "
                f"Prepare it with `tfds build {info.name} --file_format=tfrecord`."
            )
        self._features, self._prepare = info.features, prepare
        self._files = [os.fspath(path) for path in info.splits[split].filepaths]
        lengths = np.array(info.splits[split].shard_lengths, np.int64)
        self._offsets = np.cumsum(lengths) - lengths
        self.size = int(lengths.sum())

    def batches(self, numbers: np.ndarray, batch_size: int, seed: Any | None = None) -> tf.data.Dataset:
        """See `Source`."""
        taken = np.zeros(self.size, bool)
        taken[numbers] = True
        taken = tf.constant(taken)
        order = tf.range(len(self._files))
        if seed is not None:
            order = tf.random.experimental.stateless_shuffle(order, seed)
        files = tf.data.Dataset.from_tensor_slices((tf.gather(self._files, order), tf.gather(self._offsets, order)))
        records = files.interleave(
            lambda file, offset: tf.data.TFRecordDataset(file).enumerate(offset),
            cycle_length=1 if seed is None else FILES_AT_ONCE,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        ).filter(lambda number, record: tf.gather(taken, number))
        if seed is not None:
            # Not Dataset.shuffle, whose seed joins the global one, and may not be a tensor where that is 0.
            records = records.batch(SHUFFLED_TOGETHER).map(functools.partial(_shuffled, seed=seed)).unbatch()
        return records.map(
            functools.partial(self._read, seed=seed), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        ).batch(batch_size)

    def _read(self, number: Any, record: Any, seed: Any | None) -> tuple[Any, Any, Any]:
        example = self._features.deserialize_example(record)
        if seed is not None:
            seed = tf.random.fold_in(seed, tf.cast(number, seed.dtype))
        return tf.cast(number, tf.int32), self._prepare(example["image"], seed), tf.cast(example["label"], tf.int32)


def _shuffled(numbers: Any, records: Any, seed: Any) -> tuple[Any, Any]:
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(numbers)), seed)
    return tf.gather(numbers, order), tf.gather(records, order)


def prepared_builder(name: str, data_dir: str | None = None, download: bool = True) -> Any:
    """The tensorflow-datasets builder of a data set, downloaded and prepared if it is not yet.

    Args:
        name: str, as tensorflow-datasets has it.
        data_dir: str, where to look; None for TFDS_DATA_DIR or the default of tensorflow-datasets.
        download: bool, whether to prepare a data set that is not.

    Returns:
        `tfds.core.DatasetBuilder`.

    Raises:
        NotPreparedError: it is not prepared, and could not be; says what to do.
    """
    # Imported here: scripts that only use the images in the repository do not need it.
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    cause: Exception | None = None
    if download:
        try:
            builder.download_and_prepare()
        except Exception as error:
            # Network and disk fail with many kinds of error, and the remedy is the same for all.
            cause = error
        else:
            return builder
    folder = os.path.dirname(os.path.dirname(builder.data_dir))
    by_hand = (getattr(builder, "MANUAL_DOWNLOAD_INSTRUCTIONS", None) or "").strip()
    raise NotPreparedError(
        f"The data set {name!r} is not prepared in {folder}"
        + (f", and preparing it failed: {type(cause).__name__}: {cause}" if cause else ".")
        + f"\nPrepare it once, with a network:\n"
        f"    pip install tensorflow-datasets importlib_resources\n"
        f"    tfds build {name} --data_dir={folder}\n"
        + (f"Its files must be fetched by hand into {folder}/downloads/manual: {by_hand}\n" if by_hand else "")
        + "Or let the environment variable TFDS_DATA_DIR name the folder where it is."
    ) from cause
