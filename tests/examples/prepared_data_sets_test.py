"""Data sets as tensorflow-datasets declares them, as they are on disk, and where they are not."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from paper.data import data_sets
from paper.data.sources import NotPreparedError
from tests.helpers.batches import load

pytestmark = [
    # TFDS opens a text file of class names without closing it.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.mark.parametrize("name", [name for name, about in data_sets.DATA_SETS.items() if not about.streamed])
def test_mocked(name, tmp_path):
    """The shapes and classes that tensorflow-datasets itself declares."""
    features = tfds.builder(name, data_dir=tmp_path).info.features
    with tfds.testing.mock_data(num_examples=12):
        data = data_sets.load(name, batch_size=4, num_validation=3, data_dir=str(tmp_path))
        batches = list(data.train)
    about = data_sets.DATA_SETS[name]
    assert about.shape == features["image"].shape and about.num_classes == features["label"].num_classes
    # Mocked splits are alike, and SVHN has two to train on.
    assert len(batches) == len(data.train) == -(-(12 * len(about.train) - 3) // 4)
    x, y = batches[0]
    assert x.shape == (4, *about.shape) and x.dtype == tf.float32 and y.dtype == tf.int32
    mean = np.array(about.mean)
    assert np.all(x >= -mean - 1e-6) and np.all(x <= 1.0 - mean + 1e-6) and np.ptp(x) > 0.9
    assert data.validation.element_spec == data.test.element_spec == data.train.element_spec


@pytest.mark.parametrize(
    ("name", "num_train", "mean_within"),
    [("mnist", 60_000, 1e-4), ("fashion_mnist", 60_000, 1e-4), ("cifar10", 5_000, 2e-2)],
)
def test_mean_of_the_real_images(name, num_train, mean_within):
    """What is subtracted is the mean of the training images, and nearly that of some of CIFAR-10's.

    Some copies of CIFAR-10 have been through JPEG.
    """
    builder = tfds.builder(name)
    if not builder.is_prepared():
        pytest.skip(f"{name} is not prepared")
    images = builder.as_dataset(split=f"train[:{num_train}]", as_supervised=True).batch(5_000)
    means = [(len(x), np.mean(x, (0, 1, 2)) / 255.0) for x, _ in images.as_numpy_iterator()]
    assert sum(n for n, _ in means) == num_train
    mean = np.mean([mean for _, mean in means], axis=0)
    np.testing.assert_allclose(data_sets.DATA_SETS[name].mean, mean, atol=mean_within)


def test_not_prepared(tmp_path):
    with pytest.raises(NotPreparedError) as caught:
        load("svhn_cropped", str(tmp_path))
    message = str(caught.value)
    assert f"'svhn_cropped' is not prepared in {tmp_path}" in message
    assert f"tfds build svhn_cropped --data_dir={tmp_path}" in message
    assert "importlib_resources" in message and "TFDS_DATA_DIR" in message and "by hand" not in message


def test_not_prepared_and_no_network(tmp_path):
    with (
        mock.patch.object(tfds.core.DatasetBuilder, "download_and_prepare", side_effect=ConnectionError("no route")),
        pytest.raises(NotPreparedError, match="preparing it failed: ConnectionError: no route") as caught,
    ):
        data_sets.load("cifar100", data_dir=str(tmp_path))
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.filterwarnings("ignore")
def test_not_prepared_and_to_be_fetched_by_hand(tmp_path):
    """The true error of the builder, which finds no files."""
    with pytest.raises(NotPreparedError, match="preparing it failed") as caught:
        data_sets.load("imagenet2012", data_dir=str(tmp_path))
    assert f"{tmp_path}/downloads/manual" in str(caught.value)
    assert "ILSVRC2012_img_train.tar" in str(caught.value)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"one of mnist, .*imagenet2012\. Received: name='svhn'"):
        data_sets.load("svhn")
