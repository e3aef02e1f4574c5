"""The paper's data sets: what is read, how it is split, and that seeds decide everything."""

import collections

import keras
import numpy as np
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds

from paper.data import data_sets
from tests.helpers.batches import gather, load

pytestmark = [
    # TFDS opens a text file of class names without closing it.
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


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
    def labels(num_train, seed=0):
        data = load("cifar100", cifar100[0], num_train=num_train, seed=seed, num_validation=5, augment=False)
        return set(gather(data.train)[1]), set(gather(data.validation)[1])

    # Each of these images has a label of its own.
    (six, _), (eleven, _), (every, held) = labels(6), labels(11), labels(None)
    assert len(six) == 6 and six < eleven < every
    assert six == labels(6, seed=1)[0] != set(range(0, 30, 5))
    assert not held & every and len(held) == 5


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
