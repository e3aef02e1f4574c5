"""The images of a cell: those trained on, and those held out or of the test split, never both."""

from typing import NamedTuple

import numpy as np

from examples.paper.data import arrays
from examples.paper.data.arrays import Images

from .cells import Cell

# The last images of the training split are held out.
NUM_HELD_OUT = 5_000
KEPT_OF_THINNED_OUT = 10
NUM_PATIENTS = 569


class CellData(NamedTuple):
    """Images [n, ...] float32 and labels [n] int32, from 0."""

    train: Images
    measured: Images
    num_classes: int


def load(cell: Cell, test: bool = False) -> CellData:
    """The images of a cell; training images are the same whatever is measured.

    Args:
        cell: `Cell`.
        test: bool, whether to measure test images, in place of training images that are held out.

    Raises:
        NotPreparedError: the data set is not there; says what to do.
    """
    # Imported here: keras-cv, which it needs, starts TensorFlow, and threads are set before that.
    from examples.paper.data.data_sets import DATA_SETS

    if cell.data == "breast_cancer":
        train, measured = _breast_cancer(test)
    else:
        mean = DATA_SETS[cell.data].mean
        # A choice of classes needs more images than it keeps.
        end = f"-{NUM_HELD_OUT}" if cell.classes else cell.num_train
        train = arrays.load(cell.data, f"train[:{end}]", mean)
        measured = arrays.load(cell.data, "test" if test else f"train[-{NUM_HELD_OUT}:]", mean)
    train, measured = (of_classes(images, cell.classes) for images in (train, measured))
    train = thin_out(train[: cell.num_train], cell.thinned_out)
    return CellData(train, measured, int(measured.y.max()) + 1)


def of_classes(images: Images, classes: tuple[int, ...]) -> Images:
    """The images of these classes, which become the labels 0, 1, ..."""
    if not classes:
        return images
    chosen = images[np.isin(images.y, classes)]
    return Images(chosen.x, np.searchsorted(classes, chosen.y).astype("int32"))


def thin_out(images: Images, classes: tuple[int, ...]) -> Images:
    """All images but those of some classes, of which every tenth is left."""
    kept = np.ones(len(images), bool)
    for label in classes:
        (numbers,) = np.nonzero(images.y == label)
        kept[numbers] = np.arange(len(numbers)) % KEPT_OF_THINNED_OUT == 0
    return images[kept]


def _breast_cancer(test: bool) -> tuple[Images, Images]:
    """569 patients in a fixed random order: 300 to train on, 150 held out, 119 for the test."""
    order = np.random.default_rng(0).permutation(NUM_PATIENTS)
    return patients(order[:300], order[450:] if test else order[300:450])


def patients(train: np.ndarray, measured: np.ndarray) -> tuple[Images, Images]:
    """Patients of breast cancer by their numbers, to train on and to measure, in standard scores of the former."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x, y = ((x - x[train].mean(0)) / x[train].std(0)).astype("float32"), y.astype("int32")
    return Images(x[train], y[train]), Images(x[measured], y[measured])
