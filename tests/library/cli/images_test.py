"""Labelled images: which are read, in which order, and with which labels."""

import itertools

import keras
import numpy as np
import pytest

from keras_amm.cli import images
from keras_amm.cli.errors import CommandError
from keras_amm.cli.image_files import ImageFiles
from tests.library.cli.linear_models import SHAPE, linear


@pytest.mark.parametrize("dataset", ["images.npz", "images"])
def test_some_images_are_the_same_every_time(folder, dataset):
    options = images.ImageOptions(str(folder / dataset), num_images=12)
    first, second = (
        [np.concatenate(part) for part in zip(*images.open_images(options, linear(0)).batches(5), strict=True)]
        for _ in range(2)
    )
    assert first[0].shape == (12, *SHAPE) and set(first[1]) == {0, 1, 2}
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    root = tmp_path_factory.mktemp("splits")
    for i, (split, name) in enumerate(itertools.product(("train", "validation"), "abc")):
        (root / split / name).mkdir(parents=True)
        keras.utils.save_img(root / split / name / "1.png", np.full(SHAPE, i), scale=False)
    return root


@pytest.mark.parametrize("dataset", ["images.npz", "images"])
@pytest.mark.parametrize("number", [None, 30])
def test_images_come_in_a_random_order_and_keep_their_labels(folder, dataset, number):
    """They lie class by class: whenever a measurement ends, there are some of each class."""
    opened = images.open_images(images.ImageOptions(str(folder / dataset), num_images=number), linear(0))
    x, y = (np.concatenate(part) for part in zip(*opened.batches(7), strict=True))
    assert set(y[:9]) == {0, 1, 2} and np.all(np.bincount(y[:20]) > 3)
    with np.load(folder / "images.npz") as arrays:
        everything, labels = arrays["x_test"], arrays["y_test"]
    np.testing.assert_array_equal(x, everything[opened.order])
    np.testing.assert_array_equal(y, labels[opened.order])
    assert len(set(opened.order)) == len(y) == (number or len(labels))
    first = opened.order[:11]
    np.testing.assert_array_equal(first[opened.in_order_of_data(11)], np.sort(first))


class TestFolders:
    """Folders of images say by their names what is in them: a wrong guess would measure nonsense."""

    @staticmethod
    def read(path, **options):
        opened = images.open_images(images.ImageOptions(str(path), **options), linear(0))
        ((x, y),) = opened.batches(10)
        order = opened.in_order_of_data(len(y))
        return x[order, 0, 0, 0].tolist(), y[order].tolist()

    def test_splits_and_classes(self, splits):
        assert self.read(splits, split="validation") == ([3, 4, 5], [0, 1, 2])
        assert self.read(splits / "train") == ([0, 1, 2], [0, 1, 2])
        assert self.read(splits / "train", class_names=["c", "a", "b"]) == ([2, 0, 1], [0, 1, 2])

    @pytest.mark.parametrize(
        ("inside", "options", "message"),
        [
            (".", {}, "folders hold folders, as splits do: train, validation. Say --split=train"),
            (".", {"split": "test"}, "no split 'test' with a folder for each class; it holds train, validation. Say"),
            ("train", {"split": "train"}, "no split 'train' with a folder for each class; it holds a, b, c. Leave"),
            ("train", {"split": "a"}, "no split 'a' with a folder for each class"),
            ("train/a", {}, "holds images, but no folders: expected a folder for each class"),
            ("train", {"class_names": ["a", "b", "d"]}, "Received: a,b,d; there are a, b, c."),
            ("train", {"class_names": ["a", "b", "b"]}, "each once"),
            ("train", {"download": True}, "--download would do nothing with the folder"),
        ],
    )
    def test_refusals(self, splits, inside, options, message):
        with pytest.raises(CommandError) as refusal:
            self.read(splits / inside, **options)
        assert message in str(refusal.value)

    def test_folders_in_class_folders(self, splits):
        """Named as classes they are classes, whatever they hold."""
        options = images.ImageOptions(str(splits), class_names=["validation", "train"])
        assert images.open_images(options, linear(0, classes=2)).number == 6

    def test_files_are_resized_and_read_by_slices_and_indices(self, splits):
        files = ImageFiles([str(splits / "train" / name / "1.png") for name in "abc"], (4, 6), "rgb")
        assert files[0:2].shape == (2, 4, 6, 3)
        assert files[np.array([2, 0])][:, 0, 0].tolist() == [[2, 2, 2], [0, 0, 0]]

    def test_a_damaged_file_is_named(self, splits, tmp_path):
        (tmp_path / "bad.png").write_bytes((splits / "train/a/1.png").read_bytes()[:40])
        with pytest.raises(CommandError, match=r"bad\.png is not an image, or damaged"):
            ImageFiles([str(splits / "train/a/1.png"), str(tmp_path / "bad.png")], (8, 8), "rgb")[0:2]
