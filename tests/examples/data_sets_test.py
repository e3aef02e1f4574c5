"""The paper's data sets: what is read, how it is split, and that seeds decide everything."""

import collections
from unittest import mock

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds

from paper.data import data_sets
from paper.data.sources import NotPreparedError, Streamed
from tests.helpers import tiny_data_sets

pytestmark = [
    # TFDS opens a text file of class names without closing it.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.fixture(scope="module")
def svhn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svhn")
    return str(folder), tiny_data_sets.prepare_svhn(folder)


@pytest.fixture(scope="module")
def cifar100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar100")
    return str(folder), tiny_data_sets.prepare_cifar100(folder)


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imagenet")
    tiny_data_sets.prepare_imagenet(folder)
    return str(folder)


def load(name, data_dir, **arguments):
    return data_sets.load(name, data_dir=data_dir, download=False, **{"batch_size": 4, **arguments})


def gather(batches):
    x, y = zip(*batches, strict=True)
    return np.concatenate(x), np.concatenate(y)


def resized(images, name):
    """At 36x36, scaled, less the mean, by SciPy; [n, 36, 36, 3]."""
    grid = (np.arange(36) + 0.5) * 32 / 36 - 0.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    planes = [
        [scipy.ndimage.map_coordinates(image[..., c].astype(float), (rows, columns), order=1, mode="nearest")
         for c in range(3)]
        for image in images
    ]  # fmt: skip
    return np.moveaxis(np.array(planes), 1, -1) / 255.0 - np.array(data_sets.DATA_SETS[name].mean)


def same(a, b):
    return np.max(np.abs(a - b)) < 1e-5


def crops(large):
    """All 32x32 patches of one 36x36 image."""
    return [large[top : top + 32, left : left + 32] for top in range(5) for left in range(5)]


@pytest.mark.parametrize("name", ["svhn_cropped", "cifar100"])
def test_reads_what_the_authors_published(name, svhn, cifar100):
    folder, arrays = svhn if name == "svhn_cropped" else cifar100
    data = load(name, folder, num_validation=5, augment=False)
    parts = ["train", "extra"] if name == "svhn_cropped" else ["train"]
    images, labels = (np.concatenate([arrays[part][i] for part in parts]) for i in (0, 1))
    expected = resized(images, name)[:, 2:34, 2:34]
    (train_x, train_y), (held_x, held_y) = gather(data.train), gather(data.validation)
    assert len(held_y) == 5 and data.num_train == len(train_y) == len(labels) - 5
    # Every image is there once, with its own label.
    found = [[i for i, image in enumerate(expected) if same(image, x)] for x in np.concatenate([train_x, held_x])]
    assert sorted(found) == [[i] for i in range(len(labels))]
    np.testing.assert_array_equal(np.concatenate([train_y, held_y]), labels[np.ravel(found)])
    test_x, test_y = gather(data.test)
    large = resized(arrays["test"][0], name)[:, 2:34, 2:34]
    order = [next(i for i, image in enumerate(large) if same(image, x)) for x in test_x]
    assert sorted(order) == list(range(len(large)))
    np.testing.assert_array_equal(test_y, arrays["test"][1][order])


@pytest.mark.parametrize("name", ["svhn_cropped", "cifar100"])
def test_crops_and_flips(name, svhn, cifar100):
    """Each training image is one of the 25 patches of its resized original, or mirrored; digits never are."""
    folder, arrays = svhn if name == "svhn_cropped" else cifar100
    data = load(name, folder, num_validation=0, num_train=6)
    large = resized(np.concatenate([arrays[split][0] for split in data.description.train]), name)
    seen = collections.Counter()
    for _ in range(12):
        for x, _ in data.train:
            for image in x.numpy():
                matches = [
                    (position, mirrored)
                    for original in large
                    for position, patch in enumerate(crops(original))
                    for mirrored in (False, True)
                    if same(patch[:, ::-1] if mirrored else patch, image)
                ]
                assert len(matches) == 1
                seen.update(matches)
    flips = sum(count for (_, mirrored), count in seen.items() if mirrored)
    # 72 draws: 36 flips expected, with deviation 4.2; a given patch is missed with probability 0.05.
    assert flips == 0 if name == "svhn_cropped" else 15 < flips < 57
    assert len({position for position, _ in seen}) >= 18


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


@pytest.mark.parametrize("name", ["cifar100", "imagenet2012"])
def test_the_seed_and_the_epoch_decide(name, cifar100, imagenet):
    folder = imagenet if name == "imagenet2012" else cifar100[0]

    def epochs(*numbers, seed=0):
        data = load(name, folder, num_validation=2, seed=seed)
        result = []
        for number in numbers:
            data.callback.on_epoch_begin(number, {})
            result.append(gather(data.train))
        return result

    def differ(a, b):
        return a[0].shape != b[0].shape or np.any(a[0] != b[0])

    first, second, third = epochs(0, 1, 2)
    tf.random.set_seed(99)
    (resumed,) = epochs(2)
    np.testing.assert_array_equal(resumed[0], third[0])
    np.testing.assert_array_equal(resumed[1], third[1])
    assert differ(first, second) and differ(second, third)
    assert differ(first, epochs(0, seed=1)[0])
    # The same images, whatever their order.
    assert collections.Counter(first[1].tolist()) == collections.Counter(third[1].tolist())


def test_counts_epochs_by_itself(cifar100):
    data = load("cifar100", cifar100[0], num_validation=0)
    first, second = gather(data.train), gather(data.train)
    assert np.any(first[1] != second[1])
    data.epoch.assign(1)
    np.testing.assert_array_equal(gather(data.train)[0], second[0])


def test_without_shuffling_all_epochs_have_the_same_batches(cifar100):
    """In the order on disk, which is that of the held-out and test images too; crops still vary."""
    data = load("cifar100", cifar100[0], num_validation=0, shuffle=False)
    first, second = gather(data.train), gather(data.train)
    np.testing.assert_array_equal(first[1], second[1])
    assert np.any(first[0] != second[0])
    on_disk = tfds.builder("cifar100", data_dir=cifar100[0]).as_dataset(split="train")
    np.testing.assert_array_equal(first[1], [example["label"] for example in tfds.as_numpy(on_disk)])
    assert np.any(first[1] != gather(load("cifar100", cifar100[0], num_validation=0).train)[1])


def test_fit_sees_the_same_epochs_after_a_restart(cifar100):
    """`fit` looks at a batch before it begins; that must not count."""
    labels = []

    class Keep(keras.metrics.Metric):
        def update_state(self, y_true, y_pred, sample_weight=None):
            labels.append(y_true.numpy().ravel().tolist())

        def result(self):
            return 0.0

    def run(initial_epoch):
        data = load("cifar100", cifar100[0], num_validation=0)
        model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(100)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, metrics=[Keep()], run_eagerly=True)
        labels.clear()
        model.fit(data.train, initial_epoch=initial_epoch, epochs=3, callbacks=[data.callback], verbose=0)
        return labels[-5:]

    assert run(0) == run(2)


def test_epochs_end_at_once(cifar100):
    """Nothing is tuned whose end an epoch would wait for."""
    data = load("cifar100", cifar100[0], num_validation=4)
    for batches in (data.train, data.validation, data.test):
        assert batches.options().autotune.enabled is False


def test_subsets_are_random_nested_and_the_same_for_all_seeds(cifar100):
    def labels(num_train, seed=0, **arguments):
        return set(gather(load("cifar100", cifar100[0], num_train=num_train, seed=seed, num_validation=5).train)[1])

    # Each of these images has a label of its own.
    assert len(labels(6)) == 6 and labels(6) < labels(11) < labels(None)
    assert labels(6) == labels(6, seed=1) != set(range(0, 30, 5))
    held = set(gather(load("cifar100", cifar100[0], num_validation=5).validation)[1])
    assert not held & labels(None) and len(held) == 5


def test_random_labels(cifar100):
    def pairs(num_random, seed=0):
        data = load("cifar100", cifar100[0], num_validation=4, num_random_labels=num_random, seed=seed, augment=False)
        x, y = gather(data.train)
        return {image.tobytes(): label for image, label in zip(x, y, strict=True)}, gather(data.validation)[1]

    (own, held), (noisy, noisy_held) = pairs(0), pairs(10)
    assert own.keys() == noisy.keys()
    # One of a hundred random labels is the true one; these seeds give ten others.
    assert sum(own[image] != noisy[image] for image in own) == 10
    assert noisy == pairs(10, seed=5)[0]
    assert set(held) == set(noisy_held)
    all_random = pairs(16)[0]
    assert sum(own[image] != all_random[image] for image in own) >= 14


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


@pytest.mark.parametrize(
    ("name", "num_train", "mean_within"),
    [("mnist", 60_000, 1e-4), ("fashion_mnist", 60_000, 1e-4), ("cifar10", 5_000, 2e-2)],
)
def test_mean_of_the_real_images(name, num_train, mean_within):
    """Training images have mean zero; the centres of some of CIFAR-10's, which may have been through JPEG, nearly."""
    if not tfds.builder(name).is_prepared():
        pytest.skip(f"{name} is not prepared")
    data = data_sets.load(name, batch_size=5_000, num_validation=0, num_train=num_train, augment=False, download=False)
    sums = [(len(x), tf.reduce_mean(x, (0, 1, 2))) for x, _ in data.train]
    assert sum(n for n, _ in sums) == num_train
    np.testing.assert_allclose(np.mean([mean for _, mean in sums], axis=0), 0.0, atol=mean_within)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_validation": 20}, "from 0 to 19 images to hold out. Received: num_validation=20"),
        ({"num_validation": 5, "num_train": 16}, "from 1 to 15 training images. Received: num_train=16"),
        ({"num_validation": 5, "num_train": 0}, "from 1 to 15 training images. Received: num_train=0"),
        ({"num_validation": 5, "num_random_labels": 16}, "from 0 to 15 random labels. Received: num_random_labels=16"),
    ],
)
def test_errors(arguments, message, cifar100):
    with pytest.raises(ValueError, match=message):
        load("cifar100", cifar100[0], **arguments)


def test_streamed_images_must_be_shuffled(imagenet):
    with pytest.raises(ValueError, match=r"imagenet2012 is streamed from files.*shuffle=False"):
        load("imagenet2012", imagenet, shuffle=False)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"one of mnist, .*imagenet2012\. Received: name='svhn'"):
        data_sets.load("svhn")
