"""The images of the problems: a part of the training split to train on, and the test split to measure."""

from collections.abc import Sequence

import numpy as np

from benchmarks.helps import data as helps_data
from benchmarks.helps.data import CellData
from examples.paper.data import arrays
from examples.paper.data.arrays import Images

CLASSES = 10
# Chosen once, the same for every seed of a network.
_ORDER = 0


def split(name: str, num_train: int) -> CellData:
    """The first training images of a data set of tensorflow-datasets, and its test images; less the data set's mean.

    Raises:
        NotPreparedError: the data set is not there; says what to do.
    """
    # Imported here: keras-cv, which it needs, starts TensorFlow, and threads are set before that.
    from examples.paper.data.data_sets import DATA_SETS

    mean = DATA_SETS[name].mean
    return CellData(arrays.load(name, f"train[:{num_train}]", mean), arrays.load(name, "test", mean), CLASSES)


def bytes_of_mnist(num_train: int) -> CellData:
    """MNIST with pixels from 0 to 255."""
    train, test = (arrays.load("mnist", part, 0.0) for part in (f"train[:{num_train}]", "test"))
    return CellData(*(Images(np.round(images.x * 255.0), images.y) for images in (train, test)), CLASSES)


def twenty_classes(num_train: int) -> CellData:
    """MNIST and, as classes 10 to 19, Fashion-MNIST, half of each, in random order."""
    parts = [split(name, num_train // 2) for name in ("mnist", "fashion_mnist")]
    joined = []
    for digits, clothes in zip(*(part[:2] for part in parts), strict=True):
        images = Images(np.concatenate([digits.x, clothes.x]), np.concatenate([digits.y, clothes.y + CLASSES]))
        joined.append(images[np.random.default_rng(_ORDER).permutation(len(images))])
    return CellData(*joined, 2 * CLASSES)


def of_classes(data: CellData, classes: Sequence[int], num_train: int) -> CellData:
    """The images of these classes, which become the labels 0, 1, ..., and so many of them to train on."""
    train, measured = (helps_data.of_classes(images, tuple(classes)) for images in data[:2])
    return CellData(train[:num_train], measured, len(classes))


def with_random_labels(data: CellData, part: float) -> CellData:
    """So large a part of the training labels drawn anew, which leaves some of them as they were."""
    generator = np.random.default_rng(_ORDER)
    y = data.train.y.copy()
    drawn = generator.random(len(y)) < part
    y[drawn] = generator.integers(0, data.num_classes, drawn.sum())
    return data._replace(train=Images(data.train.x, y))


def digits() -> CellData:
    """scikit-learn's 1,797 digits of 8x8 pixels from 0 to 1, 1,000 to train on."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return _divided(x.reshape(-1, 8, 8, 1) / 16.0, y, 1_000)


def wine() -> CellData:
    """scikit-learn's table of 178 wines with 13 features of three growers, 100 to train on, in standard scores."""
    from sklearn.datasets import load_wine

    return _scored(_divided(*load_wine(return_X_y=True), 100))


def synthetic_table() -> CellData:
    """A table of scikit-learn's: 5 classes of 3 clusters each, 20 of 40 features tell; a twentieth of wrong labels."""
    from sklearn.datasets import make_classification

    rows = make_classification(
        6_000,
        40,
        n_informative=12,
        n_redundant=8,
        n_classes=5,
        n_clusters_per_class=3,
        flip_y=0.05,
        random_state=_ORDER,
    )
    return _scored(_divided(*rows, 3_000))


def _divided(x: np.ndarray, y: np.ndarray, num_train: int) -> CellData:
    order = np.random.default_rng(_ORDER).permutation(len(y))
    rows = Images(x[order].astype("float32"), y[order].astype("int32"))
    return CellData(rows[:num_train], rows[num_train:], int(y.max()) + 1)


def _scored(data: CellData) -> CellData:
    mean, deviation = data.train.x.mean(0), data.train.x.std(0)
    train, measured = (Images((x - mean) / deviation, y) for x, y in data[:2])
    return CellData(train, measured, data.num_classes)
