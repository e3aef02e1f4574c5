"""ImageNet, which is streamed from files: its images, crops and numbers."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from paper.data import data_sets
from paper.data.sources import Streamed
from tests.helpers.batches import gather, load

pytestmark = [
    # TFDS opens a text file of class names without closing it.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


def test_streams_imagenet(imagenet):
    data = load("imagenet2012", imagenet, num_validation=5)
    (train_x, train_y), (held_x, held_y) = gather(data.train), gather(data.validation)
    assert train_x.shape == (19, 224, 224, 3) and held_x.shape == (5, 224, 224, 3)
    assert collections.Counter([*train_y, *held_y]) == {0: 8, 1: 8, 999: 8}
    # Each class has its channel in the files, up to what JPEG leaves of it.
    pixels = np.concatenate([train_x, held_x]) + np.array(data.description.mean)
    channels = [{0: 0, 1: 1, 999: 2}[label] for label in [*train_y, *held_y]]
    for image, channel in zip(pixels, channels, strict=True):
        means = image.mean((0, 1))
        assert means[channel] > 0.5 and np.delete(means, channel).max() < 0.02
    # The test is ImageNet's validation split, with the labels of the list that comes with TFDS.
    test_x, _ = gather(data.test)
    assert test_x.shape == (4, 224, 224, 3)


def _ends(x, mean):
    """Where the left and the right edge of each image were, as fractions of its file's width, by their brightness."""
    columns = (x + np.array(mean)).mean(1).max(-1)
    return 2.0 * columns[:, 0] - 1.0, 2.0 * columns[:, -1] - 1.0


def test_imagenet_is_cropped_and_mirrored_in_training_only(imagenet):
    data = load("imagenet2012", imagenet, num_validation=5)
    mean = data.description.mean
    # 7/8 of the shorter side, in the middle of an image of 300x240 pixels.
    (first, _), (second, _) = gather(data.test), gather(data.test)
    np.testing.assert_array_equal(first, second)
    for end, expected in zip(_ends(first, mean), (0.5 - 105 / 300, 0.5 + 105 / 300), strict=True):
        np.testing.assert_allclose(end, expected, atol=0.02)
    # Held-out images are 240 pixels wide, and higher than that.
    for end, expected in zip(_ends(gather(data.validation)[0], mean), (0.5 - 105 / 240, 0.5 + 105 / 240), strict=True):
        np.testing.assert_allclose(end, expected, atol=0.02)
    epochs = [gather(data.train)[0] for _ in range(3)]
    lefts, rights = (np.concatenate(ends) for ends in zip(*(_ends(x, mean) for x in epochs), strict=True))
    # 57 draws: 28.5 mirrored expected, with deviation 3.8.
    assert 14 < np.sum(lefts > rights) < 43
    widths = np.abs(rights - lefts)
    # At most the whole image; at least 8% of the area at an aspect of 3/4, of images higher than wide.
    assert widths.max() <= 1.02 and widths.min() > 0.2 and np.ptp(widths) > 0.3
    assert np.ptp(np.minimum(lefts, rights)) > 0.2


def test_streamed_numbers_are_those_of_the_split(imagenet):
    """What is held out is found again by number, in whatever order the files are read."""
    builder = tfds.builder("imagenet2012", data_dir=imagenet)
    assert len(builder.info.splits["train"].filepaths) == 3
    names = [example["file_name"] for example in tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False))]
    source = Streamed(builder, "train", prepare=lambda image, seed: tf.shape(image))
    chosen = np.array([0, 3, 9, 20, 23])
    for seed in (None, tf.constant([3, 1])):
        numbers, shapes, _ = (np.concatenate(part) for part in zip(*source.batches(chosen, 2, seed), strict=True))
        assert sorted(numbers) == list(chosen)
        # An image's height tells its number in its class.
        heights = [300 + 10 * int(names[number].decode()[10:-5]) for number in numbers]
        np.testing.assert_array_equal(shapes[:, 0], heights)


def test_imagenet_is_as_declared(tmp_path):
    """It is read from files, which a mocked data set has not: its images and classes alone."""
    about = data_sets.DATA_SETS["imagenet2012"]
    builder = tfds.builder("imagenet2012", data_dir=tmp_path)
    assert builder.info.features["label"].num_classes == about.num_classes
    with tfds.testing.mock_data(num_examples=3):
        for split in (*about.train, about.test):
            for image, _ in builder.as_dataset(split=split, as_supervised=True):
                for augment in (False, True):
                    cropped = data_sets._crop_any_size(image, tf.constant([0, 1]), augment=augment)
                    assert cropped.shape == about.shape and np.all((cropped >= 0.0) & (cropped <= 255.0))


def test_streamed_images_must_be_shuffled(imagenet):
    with pytest.raises(ValueError, match=r"imagenet2012 is streamed from files.*shuffle=False"):
        load("imagenet2012", imagenet, shuffle=False)
