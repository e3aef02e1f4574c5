"""Labelled images from TensorFlow Datasets, an .npz file, or a folder of images, batch by batch."""

import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.cli.models import num_classes
from keras_amm.cli.pixels import file_format
from keras_amm.cli.refusal import Refusal, refusing

_SEED = 0


class Options(NamedTuple):
    """Which images are wanted.

    Attributes:
        dataset: string, a name of TensorFlow Datasets or a path.
        split: string, the split.
        num_images: int, how many; None for all.
        class_names: list of strings, the order of the classes; None for sorted folders.
        image_size: (height, width) to resize files to; None for the model's.
        download: bool, whether TensorFlow Datasets may download.
    """

    dataset: str
    split: str = "test"
    num_images: int | None = None
    class_names: list[str] | None = None
    image_size: tuple[int, int] | None = None
    download: bool = False


class Images(NamedTuple):
    """Labelled images, to be read once.

    Attributes:
        data: a pair of arrays, or a `tf.data.Dataset` of single images and labels.
        number: int, how many there are; None if unknown.
        are_integers: bool, whether pixels are integers, 0..255.
        description: string, what they are.
    """

    data: Any
    number: int | None
    are_integers: bool
    description: str

    def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batches (x, y) of up to `size` images, as arrays.

        Args:
            size: int, images per batch.

        Yields:
            Pairs of arrays.

        Raises:
            Refusal: a file turns out not to be an image.
        """
        if isinstance(self.data, tuple):
            x, y = self.data
            for start in range(0, len(y), size):
                yield x[start : start + size], y[start : start + size]
            return
        batches = self.data.batch(size).prefetch(1).as_numpy_iterator()
        with refusing(f"An image of {self.description} cannot be read:", tf.errors.InvalidArgumentError):
            yield from batches


def read(options: Options, model: keras.Model) -> Images:
    """Open labelled images for a model.

    Args:
        options: which images.
        model: the classifier, whose input says to what size and colours image files are read.

    Returns:
        The `Images`.

    Raises:
        Refusal: there are no such images, or they have no labels.

    Example:
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/images.npz"
    >>> np.savez(path, x_test=np.zeros((5, 4), "uint8"), y_test=np.arange(5))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    >>> keras_amm.cli.datasets.read(keras_amm.cli.datasets.Options(path), model).number
    5
    """
    path = pathlib.Path(options.dataset)
    if path.is_dir():
        return _from_folder(path, options, model)
    if path.is_file() or path.suffix == ".npz":
        return _from_arrays(path, options)
    return _from_tfds(options, model)


def _from_arrays(path: pathlib.Path, options: Options) -> Images:
    if not zipfile.is_zipfile(path):
        raise Refusal(f"{path} is not an .npz file, as numpy.savez writes it.")
    with (
        # Without pickles, which can run code.
        refusing(f"{path} cannot be read:", OSError, ValueError, zipfile.BadZipFile),
        np.load(path, allow_pickle=False) as arrays,
    ):
        x_name, y_name = _keys(list(arrays), path, options.split)
        x, y = arrays[x_name], arrays[y_name]
    if not len(x) or len(x) != len(y):
        raise Refusal(f"{path} must hold a label for each image: {x_name} {x.shape}, {y_name} {y.shape}.")
    if x.dtype.kind not in "uif":
        raise Refusal(f"{path} must hold images as numbers. Received: {x_name} of dtype {x.dtype}.")
    number = min(options.num_images or len(x), len(x))
    if number < len(x):
        # The first images of a file need not be like the others.
        chosen = np.sort(np.random.default_rng(_SEED).choice(len(x), number, replace=False))
        x, y = x[chosen], y[chosen]
    return Images((x, y), number, x.dtype.kind in "ui", f"{path} ({x_name}, {y_name})")


def _keys(known: list[str], path: pathlib.Path, split: str) -> tuple[str, str]:
    """The names of images and labels: as in Keras's files, as in MedMNIST's, or x and y."""
    for names in ((f"x_{split}", f"y_{split}"), (f"{split}_images", f"{split}_labels"), ("x", "y")):
        if all(name in known for name in names):
            return names
    raise Refusal(
        f"{path} has no images x_{split} and labels y_{split}, nor {split}_images and {split}_labels, nor x and y. "
        f"It holds: {', '.join(known) or 'nothing'}."
    )


def _from_folder(path: pathlib.Path, options: Options, model: keras.Model) -> Images:
    of_split = path / options.split
    if of_split.is_dir() and any(part.is_dir() for part in of_split.iterdir()):
        path = of_split
    size, colours = file_format(model, options.image_size)
    with refusing(f"{path} is not a folder of images, with a folder for each class:", ValueError):
        dataset = keras.utils.image_dataset_from_directory(
            path,
            label_mode="int",
            class_names=options.class_names,
            color_mode=colours,
            batch_size=None,
            image_size=size,
            # Files come class by class: some of them must be drawn at random.
            shuffle=options.num_images is not None,
            seed=_SEED,
            verbose=False,
        )
    expected, names = num_classes(model), dataset.class_names
    if expected not in (None, len(names)):
        raise Refusal(
            f"The model has {expected} classes, and {path} a folder for each of {len(names)}: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}. Labels are the places of the folders' names in sorted order."
        )
    total = len(dataset.file_paths)
    number = min(options.num_images or total, total)
    return Images(
        dataset.take(number), number, True, f"{path} ({len(names)} folders, resized to {size[0]} x {size[1]})"
    )


def _from_tfds(options: Options, model: keras.Model) -> Images:
    name, split = options.dataset, options.split
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise Refusal(
            f"There is no file or folder {name}, and to look for a data set of this name tensorflow-datasets must be "
            "installed: pip install 'keras-amm[cli]'."
        ) from error
    try:
        builder = tfds.builder(name)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:
        # Its message lists all that there are.
        raise Refusal(f"{name!r} is no file or folder, and no data set of tensorflow-datasets.") from error
    if not builder.is_prepared():
        if not options.download:
            raise Refusal(
                f"The data set {name!r} is not prepared in {tfds.core.constants.DATA_DIR}. --download fetches it; "
                "or let TFDS_DATA_DIR name the folder where it is."
            )
        with refusing(f"The data set {name!r} could not be fetched:", OSError, ImportError):
            builder.download_and_prepare()
    if builder.info.supervised_keys is None:
        raise Refusal(f"The data set {name!r} has no images with labels.")
    with refusing(f"{name!r}:", ValueError):
        dataset = builder.as_dataset(split=split, as_supervised=True)
    if options.num_images:
        # They have been shuffled when the data set was prepared.
        dataset = dataset.take(options.num_images)
    spec = dataset.element_spec[0]
    if spec.shape.rank != 3:
        raise Refusal(f"The data set {name!r} does not hold images. Received: elements of shape {spec.shape}.")
    if options.image_size or None in spec.shape[:2]:
        size, _ = file_format(model, options.image_size)
        dataset = dataset.map(lambda x, y: (tf.image.resize(x, size), y), num_parallel_calls=tf.data.AUTOTUNE)
    number = int(dataset.cardinality())
    return Images(dataset, number if number >= 0 else None, spec.dtype.is_integer, f"{name}, split {split}")
