"""The paper's data sets (Section 4.1) as `tf.data` pipelines, each by one call of `load`."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from . import augmentation
from .arrays import MNIST_MEAN
from .sources import InMemory, Source, Streamed, prepared_builder


@dataclass(frozen=True)
class Description:
    """How a data set is split, scaled and augmented.

    Attributes:
        shape: the shape of an image as the network gets it.
        num_classes: the number of classes.
        mean: what is subtracted from pixels in [0, 1], per channel, as the authors' code has it. They are not divided
            by their deviation; the authors' are on ImageNet, by (0.229, 0.224, 0.225), so the paper's margins there
            are in these units.
        train: the splits that are trained on.
        test: the split that is measured.
        crop: None, "resize" (to 36, crop 32; Section 4.1.2) or "area" (Section 4.1.3).
        flip: whether images are mirrored at random.
        streamed: whether images are read from disk in every epoch.
    """

    shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    train: tuple[str, ...] = ("train",)
    test: str = "test"
    crop: str | None = None
    flip: bool = False
    streamed: bool = False


DATA_SETS: Mapping[str, Description] = MappingProxyType(
    {
        "mnist": Description((28, 28, 1), 10, (MNIST_MEAN,)),
        "fashion_mnist": Description((28, 28, 1), 10, (0.2860,)),
        "cifar10": Description((32, 32, 3), 10, (0.4914, 0.4822, 0.4465), crop="resize", flip=True),
        "cifar100": Description((32, 32, 3), 100, (0.5071, 0.4867, 0.4408), crop="resize", flip=True),
        "svhn_cropped": Description((32, 32, 3), 10, (0.4376, 0.4437, 0.4728), train=("train", "extra"), crop="resize"),
        "imagenet2012": Description(
            (224, 224, 3), 1000, (0.485, 0.456, 0.406), test="validation", crop="area", flip=True, streamed=True
        ),
    }
)

NUM_VALIDATION = 5_000
EVAL_BATCH_SIZE = 500
# The order, the crops and the flips draw different random numbers from the one seed.
_ORDER, _CROP, _FLIP = range(3)


@dataclass(frozen=True)
class DataSet:
    """Batches (x, y), x float32 [B, height, width, channels] in [0, 1] less the mean, y int32 [B].

    Attributes:
        description: `Description`.
        train: `tf.data.Dataset`, augmented and, if it is to be, shuffled anew in each epoch.
        validation: `tf.data.Dataset` of what was held out, or None.
        test: `tf.data.Dataset`.
        num_train: int, training images in an epoch.
        epoch: int variable, the number of the next epoch of `train`.
    """

    description: Description
    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset
    num_train: int
    epoch: tf.Variable

    @property
    def callback(self) -> keras.callbacks.Callback:
        """Tells `train` which epoch begins: with it, a resumed run sees the batches of an uninterrupted one."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self.epoch.assign(epoch))


def load(
    name: str,
    batch_size: int = 100,
    seed: int = 0,
    num_validation: int = NUM_VALIDATION,
    num_train: int | None = None,
    num_random_labels: int = 0,
    augment: bool = True,
    shuffle: bool = True,
    eval_batch_size: int = EVAL_BATCH_SIZE,
    data_dir: str | None = None,
    download: bool = True,
) -> DataSet:
    """A data set with the paper's preprocessing, split and augmented as in Section 4.1.

    Everything random is a function of the seed and of the epoch's number. All but ImageNet is
    held in memory, decoded, from the first use on. Resized data sets are evaluated on
    the centre of the resized image, ImageNet on the centre of the image. For ImageNet the
    "test" images are its validation split, as in the paper.

    Args:
        name: str, one of `DATA_SETS`.
        batch_size: int, images of a training batch.
        seed: int, of the training images' order and augmentation.
        num_validation: int, training images held out at random; 0 to train on all.
        num_train: int, train on so many of the others, chosen at random (4.3.2); None for all. A
            smaller choice is part of a larger one.
        num_random_labels: int, so many training images get a label at random, which
            may happen to be the true one (4.3.3).
        augment: bool, whether to crop and mirror at random; without, training images
            are prepared as those of the test are.
        shuffle: bool, whether each epoch has another order. Without, all epochs have the same batches, in the
            order on disk, as where the authors' published code trains on all of MNIST.
        eval_batch_size: int, images of a validation or test batch.
        data_dir: str, where data sets are prepared; None for TFDS_DATA_DIR or the default of tensorflow-datasets.
        download: bool, whether to download and prepare a data set that is not there.

    Returns:
        `DataSet`.

    Raises:
        ValueError: an argument does not fit the data set.
        NotPreparedError: the data set is not on disk and could not be prepared; says what to do.

    Example (needs MNIST):
        data = load("mnist", num_train=20_000)
        model.fit(data.train, validation_data=data.validation, epochs=100, callbacks=[data.callback])
    """
    if name not in DATA_SETS:
        raise ValueError(f"Expected one of {', '.join(DATA_SETS)}. Received: name={name!r}.")
    description = DATA_SETS[name]
    if description.streamed and not shuffle:
        raise ValueError(f"{name} is streamed from files, always in another order. Received: shuffle=False.")
    builder = prepared_builder(name, data_dir, download)
    source = functools.partial(_source, builder, description, augment)
    train, test = source(*description.train), source(description.test)
    # What is held out, chosen and mislabelled does not depend on the seed: the paper keeps it fixed over runs.
    random = np.random.default_rng(0)
    held_out, numbers = _choose(random, train.size, num_validation, num_train)
    labels = _random_labels(random, train.size, numbers, num_random_labels, description.num_classes)
    epoch = tf.Variable(0, trainable=False, dtype=tf.int32)

    def one_epoch(_: Any) -> tf.data.Dataset:
        # This function runs whenever an epoch begins. Without the callback, which assigns the number, it counts itself.
        current = tf.identity(epoch)
        epoch.assign_add(1)
        return _training_batches(
            train, description, numbers, batch_size, labels, tf.stack([seed, current]), augment, shuffle
        )

    epochs = (
        tf.data.Dataset.range(1)
        .flat_map(one_epoch)
        .apply(tf.data.experimental.assert_cardinality(-(-len(numbers) // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )
    fixed = functools.partial(_evaluation_batches, description=description, batch_size=eval_batch_size)
    return DataSet(
        description,
        _without_autotuning(epochs),
        fixed(train, numbers=held_out) if num_validation else None,
        fixed(test, numbers=np.arange(test.size)),
        len(numbers),
        epoch,
    )


def _source(builder: Any, description: Description, augment: bool, *splits: str) -> Source:
    if description.streamed:
        return Streamed(builder, *splits, prepare=functools.partial(_crop_any_size, augment=augment))
    read = [builder.as_dataset(split=split, as_supervised=True).batch(1000) for split in splits]
    images, labels = zip(*(batch for part in read for batch in part.as_numpy_iterator()), strict=True)
    return InMemory(np.concatenate(images), np.concatenate(labels))


def _crop_any_size(image: Any, seed: Any | None, augment: bool) -> Any:
    return augmentation.crop_centre(image) if seed is None or not augment else augmentation.crop_area(image, seed)


def _choose(
    random: np.random.Generator, size: int, num_validation: int, num_train: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images held out, and of those trained on, both ascending."""
    left = size - num_validation
    if num_validation < 0 or left < 1:
        raise ValueError(
            f"Expected from 0 to {size - 1} images to hold out. Received: num_validation={num_validation}."
        )
    if num_train is not None and not 1 <= num_train <= left:
        raise ValueError(f"Expected from 1 to {left} training images. Received: num_train={num_train}.")
    order = random.permutation(size)
    held_out, others = np.split(order, [num_validation])
    return np.sort(held_out), np.sort(others[:num_train])


def _random_labels(
    random: np.random.Generator, size: int, numbers: np.ndarray, num_random: int, num_classes: int
) -> np.ndarray:
    """A label per image of the split; -1 where it keeps its own."""
    if not 0 <= num_random <= len(numbers):
        raise ValueError(f"Expected from 0 to {len(numbers)} random labels. Received: num_random_labels={num_random}.")
    labels = np.full(size, -1, np.int32)
    labels[random.permutation(numbers)[:num_random]] = random.integers(0, num_classes, num_random)
    return labels


def _training_batches(
    source: Source,
    description: Description,
    numbers: np.ndarray,
    batch_size: int,
    random_labels: np.ndarray,
    seed: Any,
    augment: bool,
    shuffle: bool,
) -> tf.data.Dataset:
    replaced = tf.constant(random_labels)

    def finish(index: Any, batch: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        number, images, labels = batch
        own = tf.gather(replaced, number)
        labels = tf.where(own < 0, labels, own)
        if augment:
            step = tf.random.fold_in(seed, tf.cast(index, tf.int32))
            if description.crop == "resize":
                images = augmentation.resize_and_crop(images, tf.random.fold_in(step, _CROP))
            if description.flip:
                images = augmentation.flip(images, tf.random.fold_in(step, _FLIP))
        elif description.crop == "resize":
            images = augmentation.resize_and_crop_centre(images)
        return scale(images, description), labels

    batches = source.batches(numbers, batch_size, tf.random.fold_in(seed, _ORDER) if shuffle else None)
    return batches.enumerate().map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _evaluation_batches(
    source: Source, numbers: np.ndarray, description: Description, batch_size: int
) -> tf.data.Dataset:
    def finish(number: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        del number
        if description.crop == "resize":
            images = augmentation.resize_and_crop_centre(images)
        return scale(images, description), labels

    batches = source.batches(numbers, batch_size)
    return _without_autotuning(
        batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .apply(tf.data.experimental.assert_cardinality(-(-len(numbers) // batch_size)))
        .prefetch(tf.data.AUTOTUNE)
    )


def _without_autotuning(batches: tf.data.Dataset) -> tf.data.Dataset:
    # In TensorFlow 2.21 an iterator that ends waits for its tuner, which sleeps for ever longer times: an epoch of 42
    # seconds took 82.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def scale(images: Any, description: Description) -> Any:
    """Pixels 0..255 as float32 in [0, 1], less the mean, so that margins are in units of the pixel scale."""
    return tf.cast(images, tf.float32) / 255.0 - tf.constant(description.mean)
