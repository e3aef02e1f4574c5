"""Labelled images from TensorFlow Datasets, an .npz file, or a folder of images, batch by batch."""

import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.cli import image_files
from keras_amm.cli.errors import CommandError, first_line, raising_command_error
from keras_amm.cli.models import num_classes
from keras_amm.cli.pixels import file_format

_SEED = 0


class ImageOptions(NamedTuple):
    """Which images are wanted: the command line's options of these names."""

    dataset: str
    split: str | None = None
    num_images: int | None = None
    class_names: list[str] | None = None
    image_size: tuple[int, ...] | None = None
    download: bool = False


class Images(NamedTuple):
    """Labelled images, to be read once.

    Attributes:
        data: images and labels that an array of indices selects from, or a `tf.data.Dataset` of single images.
        number: how many there are; None if unknown.
        are_integers: whether the pixels are integers, 0..255.
        description: what the images are, for the user.
        order: the indices of the images in the order in which they are read; None for that of `data`.
        class_names: the names of the classes; None if unknown.
    """

    data: Any
    number: int | None
    are_integers: bool
    description: str
    order: np.ndarray | None = None
    class_names: list[str] | None = None

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (x, y) of up to `size` images, as arrays."""
        if isinstance(self.data, tuple):
            x, y = self.data
            for start in range(0, len(y) if self.order is None else len(self.order), size):
                part = slice(start, start + size) if self.order is None else self.order[start : start + size]
                yield x[part], y[part]
            return
        batches = self.data.batch(size).prefetch(1).as_numpy_iterator()
        try:
            yield from batches
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            raise CommandError(
                f"An image of {self.description} is damaged. (--debug shows TensorFlow's message.)"
            ) from error

    def in_order_of_data(self, number: int) -> np.ndarray:
        """The positions of the first `number` images that are read, sorted by where the images are in `data`."""
        return np.arange(number) if self.order is None else np.argsort(self.order[:number])


def open_images(options: ImageOptions, model: keras.Model) -> Images:
    """Open labelled images for a model, whose input says to what size and colours image files are read."""
    path = pathlib.Path(options.dataset)
    if options.dataset and path.is_dir():
        _refuse_idle(options, f"the folder {path}", "download")
        return _from_folder(path, options, model)
    if path.is_file() or path.suffix == ".npz":
        _refuse_idle(options, f"the file {path}", "class_names", "image_size", "download")
        return _from_arrays(path, options)
    _refuse_idle(options, f"the data set {options.dataset}", "class_names")
    return _from_tfds(options, model)


def _refuse_idle(options: ImageOptions, source: str, *names: str) -> None:
    """Refuse options that would do nothing with a source of images, since the user expects an effect."""
    if given := [f"--{name}" for name in names if getattr(options, name)]:
        raise CommandError(f"{' and '.join(given)} would do nothing with {source}. Leave it out.")


def _from_arrays(path: pathlib.Path, options: ImageOptions) -> Images:
    if not path.is_file():
        raise CommandError(f"There is no file {path}.")
    if not zipfile.is_zipfile(path):
        raise CommandError(f"{path} is not an .npz file, as numpy.savez writes it.")
    with (
        # Pickles can run code, so they are not read.
        raising_command_error(f"{path} cannot be read:", OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
        np.load(path, allow_pickle=False) as arrays,
    ):
        x_name, y_name = _keys(list(arrays), path, options.split or "test")
        x, y = arrays[x_name], arrays[y_name]
    if not x.size or not x.shape or not y.shape or len(x) != len(y):
        raise CommandError(f"{path} must hold a label for each image: {x_name} {x.shape}, {y_name} {y.shape}.")
    if x.dtype.kind not in "uif":
        raise CommandError(f"{path} must hold images as numbers. Received: {x_name} of dtype {x.dtype}.")
    order = _shuffled(len(x), options.num_images)
    return Images((x, y), len(order), x.dtype.kind in "ui", f"{path} ({x_name}, {y_name})", order)


def _keys(known: list[str], path: pathlib.Path, split: str) -> tuple[str, str]:
    """The names of images and labels: as in Keras's files, as in MedMNIST's, or x and y."""
    for names in ((f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels"), ("x", "y")):
        if all(name in known for name in names):
            return names
    raise CommandError(
        f"{path} has no images x_{split} and labels y_{split}, nor {split}_images and {split}_labels, nor x and y. "
        f"It holds: {', '.join(known) or 'nothing'}."
    )


def _from_folder(path: pathlib.Path, options: ImageOptions, model: keras.Model) -> Images:
    path = image_files.class_root(path, options.split, options.class_names)
    size, colours = file_format(model, options.image_size)
    files, labels, names = image_files.find_files(path, options.class_names)
    expected = num_classes(model)
    if expected not in (None, len(names)):
        raise CommandError(
            f"The model has {expected} classes, and {path} a folder for each of {len(names)}: "
            f"{image_files.listed(names)}. --class_names says which folders are classes, and in which order."
        )
    data = image_files.ImageFiles(files, size, colours), labels
    order = _shuffled(len(files), options.num_images)
    description = f"{path} ({len(names)} folders, resized to {size[0]} x {size[1]})"
    return Images(data, len(order), True, description, order, names)


def _shuffled(total: int, number: int | None) -> np.ndarray:
    """Indices of `number` random images of `total`, or of all: the same ones in the same order every time.

    Images often lie class by class. In a random order, the ones measured before an interruption are like the others.
    """
    return np.random.default_rng(_SEED).permutation(total)[:number]


def _from_tfds(options: ImageOptions, model: keras.Model) -> Images:
    name, split = options.dataset, options.split or "test"
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise CommandError(
            f"There is no file or folder {name}, and to look for a data set of this name tensorflow-datasets must be "
            "installed: pip install tensorflow-datasets importlib_resources."
        ) from error
    try:
        builder = tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError as error:
        # TensorFlow's message lists all data sets that there are.
        raise CommandError(f"{name!r} is no file or folder, and no data set of tensorflow-datasets.") from error
    except (ValueError, AssertionError) as error:
        raise CommandError(
            f"{name!r} is no file or folder, and tensorflow-datasets refuses it: {first_line(error)}"
        ) from error
    if not builder.is_prepared():
        if not options.download:
            raise CommandError(
                f"The data set {name!r} is not prepared in {tfds.core.constants.DATA_DIR}. --download fetches it; "
                "or let TFDS_DATA_DIR name the folder where it is."
            )
        with raising_command_error(f"The data set {name!r} could not be fetched:", OSError, ImportError):
            builder.download_and_prepare()
    if builder.info.supervised_keys is None:
        raise CommandError(f"The data set {name!r} has no images with labels.")
    with raising_command_error(f"{name!r}:", ValueError):
        dataset = builder.as_dataset(split=split, as_supervised=True)
    if options.num_images:
        # TensorFlow Datasets shuffles images when it prepares a data set.
        dataset = dataset.take(options.num_images)
    spec = dataset.element_spec[0]
    if spec.shape.rank != 3:
        raise CommandError(f"The data set {name!r} does not hold images. Received: elements of shape {spec.shape}.")
    if options.image_size or None in spec.shape[:2]:
        size, _ = file_format(model, options.image_size)
        if options.image_size and options.image_size[2:] not in ((), tuple(spec.shape[2:])):
            raise CommandError(f"Images of {name!r} have {spec.shape[2]} channels. Leave those of --image_size out.")
        dataset = dataset.map(lambda x, y: (tf.image.resize(x, size), y), num_parallel_calls=tf.data.AUTOTUNE)
    number = int(dataset.cardinality())
    return Images(dataset, number if number >= 0 else None, spec.dtype.is_integer, f"{name}, split {split}")
