"""Problems that played no part in choosing the defaults: their data, their networks, and margins by a closed form."""

import json
import math

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks.helps.data import CellData
from benchmarks.unseen import data, networks, run
from benchmarks.unseen.problems import PROBLEMS, Problem
from examples.paper.data import arrays
from examples.paper.data.arrays import Images
from paper.reproduce.planning import EXAMPLES


def numbered(size, shape=(2, 2, 1)):
    """Images whose pixels are all the number of the image, of the classes 0 to 9 in turn."""
    numbers = np.arange(size, dtype="float32")
    return Images(np.broadcast_to(numbers.reshape(-1, 1, 1, 1), (size, *shape)).copy(), (numbers % 10).astype("int32"))


def test_random_labels_are_drawn_for_a_part_of_the_training_images_alone():
    before = CellData(numbered(5_000), numbered(100), 10)
    after = data.with_random_labels(before, 0.2)
    # A tenth of the labels that are drawn are the old ones.
    assert np.mean(after.train.y != before.train.y) == pytest.approx(0.2 * 0.9, abs=0.02)
    np.testing.assert_array_equal(after.train.x, before.train.x)
    np.testing.assert_array_equal(after.measured.y, before.measured.y)
    np.testing.assert_array_equal(after.train.y, data.with_random_labels(before, 0.2).train.y)


def test_a_choice_of_classes_has_new_labels():
    train, measured, num_classes = data.of_classes(CellData(numbered(100), numbered(40), 10), (3, 5), 12)
    assert (len(train), len(measured), num_classes) == (12, 8, 2)
    np.testing.assert_array_equal(train.x[:, 0, 0, 0] % 10, np.where(train.y == 0, 3, 5))
    np.testing.assert_array_equal(measured.x[:, 0, 0, 0] % 10, np.where(measured.y == 0, 3, 5))


def test_twenty_classes_are_those_of_both_data_sets(monkeypatch):
    asked = []

    def load(name, split, mean):
        asked.append((name, split))
        sign = 1.0 if name == "mnist" else -1.0
        images = numbered(50)
        return Images(sign * (images.x + 1.0), images.y)

    monkeypatch.setattr(arrays, "load", load)
    train, measured, num_classes = data.twenty_classes(100)
    assert set(asked) == {(name, split) for name in ("mnist", "fashion_mnist") for split in ("train[:50]", "test")}
    assert num_classes == 20 and len(train) == len(measured) == 100
    for images in (train, measured):
        signed = images.x[:, 0, 0, 0]
        np.testing.assert_array_equal(images.y, (abs(signed) - 1.0) % 10 + 10 * (signed < 0.0))
        assert not (np.diff(signed < 0.0) == 0).all()


def test_bytes_are_those_of_the_files(monkeypatch):
    pixels = np.arange(256, dtype="uint8").reshape(-1, 1, 1, 1)
    monkeypatch.setattr(
        arrays, "load", lambda name, split, mean: Images(arrays.scaled(pixels, mean), np.zeros(256, "int32"))
    )
    np.testing.assert_array_equal(data.bytes_of_mnist(256).train.x, pixels)


@pytest.mark.parametrize(
    ("load", "train", "measured", "shape", "num_classes"),
    [
        (data.digits, 1_000, 797, (8, 8, 1), 10),
        (data.wine, 100, 78, (13,), 3),
        (data.synthetic_table, 3_000, 3_000, (40,), 5),
    ],
)
def test_what_scikit_learn_ships(load, train, measured, shape, num_classes):
    found = load()
    assert (len(found.train), len(found.measured), found.num_classes) == (train, measured, num_classes)
    for images in found[:2]:
        assert images.x.dtype == "float32" and images.x.shape[1:] == shape
        assert set(images.y) == set(range(num_classes))
    if len(shape) == 1:
        np.testing.assert_allclose(found.train.x.mean(0), 0.0, atol=1e-5)
        np.testing.assert_allclose(found.train.x.std(0), 1.0, atol=1e-5)
    else:
        assert found.train.x.min() == 0.0 and found.train.x.max() == 1.0


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_has_a_network_and_an_optimizer(name):
    problem = PROBLEMS[name]
    network = networks.build(problem.features, (28, 28, 1), 10)
    assert network(np.zeros((2, 28, 28, 1), "float32")).shape == (2, 10)
    assert isinstance(problem.optimizer(10), keras.Optimizer)


@pytest.mark.usefixtures("eagerly")
def test_both_trainings_are_measured_as_a_linear_classifier_is(monkeypatch):
    built = []

    def features(inputs):
        return layers.Flatten()(inputs)

    def build(*arguments):
        built.append(networks_build(*arguments))
        return built[-1]

    networks_build = networks.build
    monkeypatch.setattr(networks, "build", build)
    images = data.of_classes(data.digits(), (0, 1), 200)
    problem = Problem(
        ("digits", "linear", "SGD"), lambda: images, features, lambda steps: keras.optimizers.SGD(0.1), 20, 3
    )
    monkeypatch.setattr(run, "PROBLEMS", {"linear": problem})
    found = run.train_and_measure("linear", seed=0)
    assert found["training_images"] == 200 and found["amm"]["robust_radius"] == found["plain"]["robust_radius"]
    assert not np.array_equal(built[0].get_weights()[0], built[1].get_weights()[0])
    for network, arm in zip(built, ("plain", "amm"), strict=True):
        logits = network(images.measured.x).numpy()
        assert found[arm]["error_percent"] == pytest.approx(100 * np.mean(logits.argmax(1) != images.measured.y))
        kernel = network.weights[0].numpy()
        leads = np.where(images.measured.y == 1, 1.0, -1.0) * (logits[:, 1] - logits[:, 0])
        margins = np.maximum(leads / np.linalg.norm(kernel[:, 1] - kernel[:, 0]), 0.0)
        assert found[arm]["margin"] == pytest.approx(np.mean(margins), rel=0.02)
        assert found[arm]["epochs"] == 3


def test_the_page_has_the_table_of_its_records():
    folder = EXAMPLES.parent / "results/unseen"
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert found and all(not record["versions"]["revision"].endswith("-dirty") for record in found)
    assert all(math.isfinite(record[arm]["margin"]) for record in found for arm in ("plain", "amm"))
    page = (EXAMPLES.parent / "docs/results/unseen_problems.md").read_text()
    assert run.table(found) in page and run.counts(found) in page
