"""The command line, on linear classifiers whose margins are known in closed form."""

import configparser
import itertools
import json
import math
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

import keras_amm
from keras_amm import cli
from keras_amm.cli import images, measuring
from keras_amm.cli.errors import CommandError
from keras_amm.cli.image_files import ImageFiles
from keras_amm.cli.loading import Request
from keras_amm.cli.paired_tests import paired_tests
from keras_amm.cli.pixels import Pixels, file_format, pixels_for
from keras_amm.measuring.measurer import Measurer

SHAPE, NUM_CLASSES, NUM_IMAGES = (8, 8, 1), 3, 40
MEAN = 0.25


def linear(seed, shape=SHAPE, classes=NUM_CLASSES, first=(), activation=None):
    model = keras.Sequential(
        [keras.Input(shape), *first, keras.layers.Flatten(), keras.layers.Dense(classes, activation=activation)]
    )
    rng = np.random.default_rng(seed)
    model.layers[-1].set_weights([rng.normal(size=w.shape).astype("float32") for w in model.layers[-1].get_weights()])
    return model


def closed_form(model, x):
    """The distance of each image to the nearest boundary, and its class."""
    w, b = (part.astype("float64") for part in model.layers[-1].get_weights())
    logits = x.reshape(len(x), -1).astype("float64") @ w + b
    predictions = np.argmax(logits, axis=1)
    distances = [
        min(
            abs(logits[i, k] - logits[i, p]) / np.linalg.norm(w[:, k] - w[:, p])
            for k in range(logits.shape[1])
            if k != p
        )
        for i, p in enumerate(predictions)
    ]
    return np.array(distances), predictions


@keras.saving.register_keras_serializable(package="cli_test")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)

    def build(self, shape):
        self.dense.build((None, math.prod(shape[1:])))

    def call(self, x):
        return self.dense(self.flatten(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models, and the same images as an .npz file and as files."""
    folder = tmp_path_factory.mktemp("cli")
    models = {name: linear(seed) for seed, name in enumerate(("one", "two"))}
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (NUM_IMAGES, *SHAPE), dtype="uint8")
    # In the order of class folders, which hold equally many.
    labels = np.sort(np.arange(NUM_IMAGES) % NUM_CLASSES)
    np.savez(folder / "images.npz", x_test=pixels, y_test=labels, x=pixels[:5] / 255.0, y=labels[:5, None])
    for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (folder / "images" / "test" / f"class {label}").mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(folder / f"images/test/class {label}/{i:03d}.png", image, scale=False)
    return folder


def command(*arguments, folder):
    parts = [str(folder / a) if str(a).endswith((".keras", ".png")) else str(a) for a in arguments]
    return cli.main(cli.parse(["keras-amm", *parts]))


@pytest.fixture
def scaled(folder):
    return np.load(folder / "images.npz")["x_test"] / 255.0 - MEAN


def saved(path):
    return keras_amm.MarginReport.from_json(path)


class TestMargins:
    @pytest.mark.parametrize("dataset", ["images.npz", "images"])
    def test_closed_form(self, folder, scaled, dataset, tmp_path, capsys):
        data = f"--dataset={folder / dataset}"
        status = command("margins", "one.keras", data, f"--mean={MEAN}", f"--out={tmp_path}", folder=folder)
        assert status == 0
        report = saved(tmp_path / "one-margins.json")
        distances, predictions = closed_form(keras.models.load_model(folder / "one.keras"), scaled)
        np.testing.assert_allclose(report.norms, 1.02 * distances, rtol=2e-3)
        np.testing.assert_array_equal(report.predictions, predictions)
        np.testing.assert_array_equal(report.labels, np.load(folder / "images.npz")["y_test"])
        printed = capsys.readouterr().out
        assert report.summary().splitlines()[1] in printed and "Margins of one on 40 images" in printed
        assert "1/255 * pixels - 0.25" in printed and str(tmp_path / "one-margins.png") in printed
        assert (tmp_path / "one-margins.png").stat().st_size > 5000

    def test_floating_point_pixels_and_settings_of_the_attack(self, folder, tmp_path, capsys):
        settings = ["--overshoot=0.5", "--max_iterations=9", "--num_candidates=3", "--refine_steps=1", "--from_logits"]
        data = [f"--dataset={folder / 'images.npz'}", "--split=none"]
        assert command("margins", "one.keras", *data, *settings, f"--out={tmp_path}", folder=folder) == 0
        report = saved(tmp_path / "one-margins.json")
        assert report.attack == keras_amm.DeepFool(9, 3, 0.5, 1, True).get_config()
        distances, _ = closed_form(keras.models.load_model(folder / "one.keras"), np.load(folder / "images.npz")["x"])
        # Half of 1.5 is less than 1: the first bisection step stays where it was.
        np.testing.assert_allclose(report.norms, 1.5 * distances, rtol=2e-3)
        assert "(x, y); pixels\n" in capsys.readouterr().out

    def test_data_set_by_name(self, folder, tmp_path, monkeypatch, capsys):
        tfds = pytest.importorskip("tensorflow_datasets")
        images = np.random.default_rng(0).integers(0, 256, (9, *SHAPE), dtype="uint8")

        class TinyDigits(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {"image": tfds.features.Image(shape=SHAPE), "label": tfds.features.ClassLabel(num_classes=3)}
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
                )

            def _split_generators(self, dl_manager):
                return {"test": ((i, {"image": image, "label": i % 3}) for i, image in enumerate(images))}

            def _generate_examples(self):
                raise NotImplementedError

        monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
        arguments = ["margins", "one.keras", "--dataset=tiny_digits", f"--out={tmp_path}", "--split=test[:7]"]
        assert command(*arguments, folder=folder) == 1
        assert "'tiny_digits' is not prepared" in capsys.readouterr().err
        assert command(*arguments, "--download", folder=folder) == 0
        report = saved(tmp_path / "one-margins.json")
        everything = 1.02 * closed_form(keras.models.load_model(folder / "one.keras"), images / 255.0)[0]
        # Preparing has shuffled them.
        assert len(report) == 7
        assert all(np.min(np.abs(everything - norm)) < 2e-3 * norm for norm in report.norms)
        assert len(np.unique(report.norms)) == 7
        assert command(*arguments[:3], "--split=train", folder=folder) == 1
        assert "Unknown split" in capsys.readouterr().err

    def test_an_amm_model(self, folder, tmp_path):
        model = keras_amm.wrap(linear(0))
        model.compile("sgd", "mse")
        model.save(tmp_path / "amm.keras")
        data = f"--dataset={folder / 'images.npz'}"
        for path in (tmp_path / "amm.keras", "one.keras"):
            assert command("margins", path, data, f"--out={tmp_path}", folder=folder) == 0
        np.testing.assert_allclose(
            saved(tmp_path / "amm-margins.json").norms, saved(tmp_path / "one-margins.json").norms, rtol=1e-5
        )


class TestPixels:
    @pytest.mark.parametrize(
        ("first", "are_integers", "scale", "expected"),
        [
            ((), True, None, 1 / 255),
            ((), False, None, 1.0),
            ((keras.layers.Rescaling(1 / 255),), True, None, 1.0),
            ((keras.layers.Normalization(mean=0.0, variance=1.0),), True, None, 1.0),
            ((keras.layers.Rescaling(1 / 255),), True, 0.5, 0.5),
            ((keras.layers.RandomFlip(), keras.Sequential([keras.layers.Rescaling(1 / 255)])), True, None, 1.0),
            ((keras.layers.Conv2D(1, 1), keras.layers.Rescaling(0.5)), True, None, 1 / 255),
        ],
    )
    def test_scale(self, first, are_integers, scale, expected):
        pixels = pixels_for(linear(0, first=first), are_integers, scale, (0.5,))
        x = np.full((2, *SHAPE), 51, "uint8")
        np.testing.assert_allclose(pixels(x, linear(0)), 51 * expected - 0.5, rtol=1e-6)

    def test_a_temperature_is_no_rescaling_of_pixels(self):
        model = linear(0)
        model.add(keras.layers.Rescaling(0.5))
        assert pixels_for(model, True, None, (0.0,)).scale == 1 / 255

    def test_files_for_models_that_do_not_say_what_they_take(self):
        assert file_format(Subclassed(), (8, 8)) == ((8, 8), "rgb")
        assert file_format(Subclassed(), (8, 8, 1)) == ((8, 8), "grayscale")
        assert file_format(linear(0, (8, 8)), None) == ((8, 8), "grayscale")
        with pytest.raises(CommandError, match="of 1 channels"):
            file_format(linear(0), (8, 8, 3))

    def test_mean_by_channel_and_missing_channel_axis(self):
        colour = pixels_for(linear(0, (2, 2, 3)), False, None, (0.1, 0.2, 0.3))
        np.testing.assert_allclose(
            colour(np.ones((1, 2, 2, 3)), linear(0, (2, 2, 3)))[0, 0, 0], [0.9, 0.8, 0.7], rtol=1e-6
        )
        grey = pixels_for(linear(0), False, None, (0.0,))
        assert grey(np.ones((4, *SHAPE[:2])), linear(0)).shape == (4, *SHAPE)
        assert grey(np.ones((4, *SHAPE)), linear(0, SHAPE[:2])).shape == (4, *SHAPE[:2])


@pytest.mark.parametrize("dataset", ["images.npz", "images"])
def test_some_images_are_the_same_every_time(folder, dataset):
    options = images.Options(str(folder / dataset), num_images=12)
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


class TestFolders:
    """Folders of images say by their names what is in them: a wrong guess would measure nonsense."""

    @staticmethod
    def read(path, **options):
        opened = images.open_images(images.Options(str(path), **options), linear(0))
        ((x, y),) = opened.batches(10)
        return x[:, 0, 0, 0].tolist(), y.tolist()

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
        options = images.Options(str(splits), class_names=["validation", "train"])
        assert images.open_images(options, linear(0, classes=2)).number == 6

    def test_a_damaged_file_is_named(self, splits, tmp_path):
        (tmp_path / "bad.png").write_bytes((splits / "train/a/1.png").read_bytes()[:40])
        with pytest.raises(CommandError, match=r"bad\.png is not an image, or damaged"):
            ImageFiles([str(splits / "train/a/1.png"), str(tmp_path / "bad.png")], (8, 8), "rgb")[0:2]


class TestCompare:
    def test_side_by_side(self, folder, tmp_path, capsys):
        data = f"--dataset={folder / 'images.npz'}"
        assert command("compare", "one.keras", "two.keras", data, f"--out={tmp_path}", folder=folder) == 0
        one, two = (saved(tmp_path / f"{name}-margins.json") for name in ("one", "two"))
        content = json.loads((tmp_path / "comparison.json").read_text())
        assert content["first"] == "one" and content["models"]["two"]["mean"] == pytest.approx(two.mean)
        assert content["tests"]["two"]["larger"] == pytest.approx(np.mean(two.norms > one.norms))
        printed = capsys.readouterr().out
        assert "two against one" in printed and "Wilcoxon signed-rank" in printed and "exact McNemar" in printed
        assert f"{one.mean:.4f}" in printed and f"{two.accuracy:.2%}" in printed
        for name in ("comparison-margins.png", "comparison-robust-accuracy.png"):
            assert (tmp_path / name).stat().st_size > 5000

    def test_against_brute_force(self):
        rng = np.random.default_rng(3)
        norms = rng.uniform(size=(2, 9))
        predictions = np.array([[0, 0, 0, 0, 0, 0, 1, 0, 1], [1, 1, 1, 0, 0, 0, 1, 1, 0]])
        first, second = (
            keras_amm.MarginReport(norms=n, signed=n, predictions=p, labels=[1] * 9, success=[True] * 9)
            for n, p in zip(norms, predictions, strict=True)
        )
        found = paired_tests(first, second)
        difference = second.norms.astype("float64") - first.norms
        ranks = 1 + np.argsort(np.argsort(np.abs(difference)))
        observed = np.sum(ranks * np.sign(difference))
        signs = np.array(list(itertools.product((-1, 1), repeat=9)))
        assert found.wilcoxon_p == pytest.approx(np.mean(np.abs(signs @ ranks) >= abs(observed)))
        assert (found.first_wrong, found.second_wrong) == (4, 1)
        assert found.mcnemar_p == pytest.approx(2 * sum(math.comb(5, k) for k in (0, 1)) / 2**5)
        assert found.larger == np.mean(difference > 0) and found.median_difference == np.median(difference)

    def test_equal_models(self):
        report = keras_amm.MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[0], success=[True])
        assert paired_tests(report, report) == (0.0, 0.0, 1.0, 0, 0, 1.0)

    def test_other_images(self):
        one, other = (
            keras_amm.MarginReport(norms=[1.0], signed=[1.0], predictions=[0], labels=[k], success=[True])
            for k in (0, 1)
        )
        with pytest.raises(ValueError, match="the same images"):
            paired_tests(one, other)


class TestAttack:
    def test_closed_form(self, folder, scaled, tmp_path, capsys):
        image = folder / "images/test/class 0/003.png"
        status = command(
            "attack", "one.keras", image, f"--mean={MEAN}", "--class_names=a,b,c", f"--out={tmp_path}", folder=folder
        )
        assert status == 0
        (distance,), (before,) = closed_form(keras.models.load_model(folder / "one.keras"), scaled[3:4])
        lines = capsys.readouterr().out.splitlines()
        assert f"class before    {'abc'[before]}" in lines[1] and f"class after     {'abc'[before]}" not in lines[2]
        assert float(lines[3].split()[1]) == pytest.approx(distance, rel=2e-3)
        assert "bisected 10 times" in lines[3] and "steps           1 of at most 6" in lines[5]
        for kind in ("perturbation", "boundary"):
            assert (tmp_path / f"one-003-{kind}.png").stat().st_size > 5000

    def test_the_distance_ends_on_the_boundary(self, folder, scaled, tmp_path, capsys):
        """Where the slope grows on the way, one linear step goes far beyond the boundary."""
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Flatten(),
                keras.layers.Dense(1, activation="exponential"),
                keras.layers.Dense(2),
            ]
        )
        # exp(u) - e and 0, in which u is a coordinate of unit length.
        weights = ([[1 / 8]] * 64, [-4.0], [[1.0, 0.0]], [-np.e, 0.0])
        model.set_weights([np.array(w) for w in weights])
        model.save(tmp_path / "curved.keras")
        u = np.sum(scaled[3] + MEAN) / 8 - 4
        assert u < 1
        image = folder / "images/test/class 0/003.png"
        assert command("attack", tmp_path / "curved.keras", image, f"--out={tmp_path}", folder=folder) == 0
        # The step is 1.02 * (exp(1 - u) - 1).
        assert float(capsys.readouterr().out.splitlines()[3].split()[1]) == pytest.approx(1 - u, rel=2e-3)

    def test_images_without_channels_and_subclassed_models(self, folder, scaled, tmp_path, capsys):
        image, subclassed = folder / "images/test/class 0/003.png", Subclassed()
        subclassed.build((None, *SHAPE))
        subclassed.save(tmp_path / "subclassed.keras")
        linear(0, SHAPE[:2]).save(tmp_path / "flat.keras")
        for name, flags in (("subclassed", ["--image_size=8,8,1", "--class_names=a,b,c"]), ("flat", [])):
            path = tmp_path / f"{name}.keras"
            assert command("attack", path, image, *flags, f"--out={tmp_path}", folder=folder) == 0
            assert "8 x 8 grayscale" in capsys.readouterr().out
            assert (tmp_path / f"{name}-003-perturbation.png").is_file()
        arguments = ("attack", tmp_path / "subclassed.keras", image, "--image_size=8,8,1", "--class_names=cat")
        assert command(*arguments, f"--out={tmp_path}", folder=folder) == 1
        TestRefusals.check(capsys, "--class_names must name all 3 classes. Received: 1 names.")

    def test_other_size_and_colours(self, folder, tmp_path):
        keras.utils.save_img(tmp_path / "big.png", np.random.rand(20, 30, 3))
        assert command("attack", "one.keras", tmp_path / "big.png", f"--out={tmp_path}", folder=folder) == 0

    def test_no_boundary(self, folder, tmp_path, capsys):
        model = linear(0)
        model.layers[-1].set_weights([np.zeros((64, 3)), np.array([2.0, 0.0, 0.0])])
        model.save(tmp_path / "flat.keras")
        image = folder / "images/test/class 0/003.png"
        assert command("attack", tmp_path / "flat.keras", image, f"--out={tmp_path}", folder=folder) == 0
        assert "No boundary was reached" in capsys.readouterr().out


def unfit_models(folder):
    (folder / "text.keras").write_text("not a model")
    with zipfile.ZipFile(folder / "zip.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    linear(0, classes=1).save(folder / "regression.keras")
    ends = [keras.Input((8,)), keras.Input((8,))]
    keras.Model(ends, keras.layers.Dense(3)(keras.layers.add(ends))).save(folder / "inputs.keras")
    linear(0, first=[keras.layers.Lambda(lambda x: x + 1)]).save(folder / "lambda.keras")
    linear(0, activation="sigmoid").save(folder / "sigmoid.keras")
    linear(0, shape=(4, 4, 3)).save(folder / "colour.keras")
    linear(0, classes=2).save(folder / "binary.keras")
    linear(0, shape=(None, None, 1), first=[keras.layers.Resizing(8, 8)]).save(folder / "any-size.keras")
    linear(0, first=[keras.layers.Rescaling(1 / 255)]).save(folder / "rescaling.keras")


def unfit_data(folder):
    x = np.zeros((4, *SHAPE), "uint8")
    np.savez(folder / "unlabelled.npz", x_test=x)
    np.savez(folder / "longer.npz", x_test=x, y_test=np.arange(5))
    np.savez(folder / "labels.npz", x_test=x, y_test=np.arange(4) + 100)
    np.savez(folder / "text-images.npz", x_test=x.astype(str), y_test=np.arange(4))
    np.savez(folder / "pickled.npz", x_test=np.array([{}] * 4), y_test=np.arange(4))
    np.savez(folder / "none.npz", x_test=x[:0], y_test=np.arange(0))
    np.savez(folder / "scalars.npz", x_test=1.0, y_test=2)
    (folder / "text.npz").write_text("no arrays")
    (folder / "two-images" / "a").mkdir(parents=True)
    (folder / "two-images" / "b").mkdir()
    for name in "ab":
        keras.utils.save_img(folder / "two-images" / name / "1.png", x[0], scale=False)
    for name in "abc":
        (folder / "broken-images" / name).mkdir(parents=True)
        (folder / "broken-images" / name / "1.png").write_text("no image")
    (folder / "empty-images").mkdir()
    (folder / "taken" / "one-margins.json").mkdir(parents=True)
    (folder / "text.png").write_text("no image")


@pytest.fixture(scope="module")
def unfit(folder):
    unfit_models(folder)
    unfit_data(folder)
    return folder


MARGINS_OF = ("margins", "one.keras")


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("margins", "missing.keras", "images.npz"), "There is no model"),
            (("margins", "text.keras", "images.npz"), "is not a Keras model: expected a file that model.save"),
            (("margins", "images.npz", "images.npz"), "is not a Keras model"),
            (("margins", "zip.keras", "images.npz"), "cannot be loaded as a Keras model in safe mode"),
            (("margins", "lambda.keras", "images.npz"), "cannot be loaded as a Keras model in safe mode"),
            (("margins", "regression.keras", "images.npz"), "at least two classes"),
            (("margins", "inputs.keras", "images.npz"), "one input"),
            (("margins", "sigmoid.keras", "images.npz"), "must be logits or a softmax"),
            (("margins", "colour.keras", "images.npz"), "Expected: shape (None, 4, 4, 3)"),
            (("margins", "any-size.keras", "images"), "--image_size=HEIGHT,WIDTH"),
            (("margins", "binary.keras", "images"), "The model has 2 classes, and"),
            ((*MARGINS_OF, "unlabelled.npz"), "It holds: x_test."),
            ((*MARGINS_OF, "longer.npz"), "a label for each image"),
            ((*MARGINS_OF, "labels.npz"), "100"),
            ((*MARGINS_OF, "text-images.npz"), "must hold images as numbers"),
            ((*MARGINS_OF, "pickled.npz"), "cannot be read: Object arrays cannot be loaded"),
            ((*MARGINS_OF, "none.npz"), "a label for each image"),
            ((*MARGINS_OF, "text.npz"), "is not an .npz file"),
            ((*MARGINS_OF, "missing.npz"), "There is no file missing.npz"),
            ((*MARGINS_OF, "scalars.npz"), "a label for each image"),
            ((*MARGINS_OF, "images.npz", "--class_names=a,b", "--download"), "--class_names and --download would do"),
            ((*MARGINS_OF, "images.npz", "--image_size=8,8"), "--image_size would do nothing with the file images.npz"),
            ((*MARGINS_OF, "images.npz", "--out=/dev/null/results"), "There is no folder for the results"),
            ((*MARGINS_OF, "images.npz", "--out=taken"), "could not be written: [Errno 21] Is a directory"),
            ((*MARGINS_OF, "two-images"), "a folder for each of 2: a, b"),
            ((*MARGINS_OF, "broken-images"), "broken-images/a/1.png is not an image, or damaged"),
            ((*MARGINS_OF, "empty-images"), "is not a folder of images"),
            ((*MARGINS_OF, "images.npz", "--mean=0.1,0.2"), "--mean must be one number, or one per channel"),
            (
                (*MARGINS_OF, "images.npz", "--num_candidates=1"),
                "`num_candidates` must be a whole number of at least 2",
            ),
            ((*MARGINS_OF, "images.npz", "--import=no_such_module"), "No module named 'no_such_module'"),
            ((*MARGINS_OF, "images.npz", "--out=text.keras"), "There is no folder for the results"),
            (("compare", "one.keras", "images.npz"), "two models or more"),
            (("compare", "one.keras", "one.keras", "images.npz"), "must be different files"),
            (("compare", "one.keras", "rescaling.keras", "images.npz"), "different scales cannot be compared"),
        ],
    )
    def test_one_line(self, unfit, arguments, message, monkeypatch, tmp_path, capsys):
        monkeypatch.chdir(unfit)
        *models, data = (a for a in arguments if not a.startswith("--"))
        flags = [a for a in arguments if a.startswith("--")]
        out = [] if any(flag.startswith("--out") for flag in flags) else [f"--out={tmp_path}"]
        assert cli.main(cli.parse(["keras-amm", *models, f"--dataset={data}", *flags, *out])) == 1
        self.check(capsys, message)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("model", "image", "message"),
        [
            ("one.keras --class_names=a", "images/test/class 0/003.png", "must name all 3 classes"),
            ("one.keras", "missing.png", "cannot be read"),
            ("one.keras", "text.png", "text.png is not an image, or damaged: expected a PNG, JPEG, GIF or BMP file.\n"),
            ("inputs.keras", "text.png", "one input"),
            ("sigmoid.keras", "images/test/class 0/003.png", "must be logits or a softmax"),
        ],
    )
    def test_attack(self, unfit, model, image, message, tmp_path, capsys):
        assert command("attack", *model.split(), image, f"--out={tmp_path}", folder=unfit) == 1
        self.check(capsys, message)

    @staticmethod
    def check(capsys, message):
        printed = capsys.readouterr()
        assert printed.err.startswith("keras-amm: ") and printed.err.count("\n") == 1, printed.err
        assert message in printed.err and not printed.out

    def test_unknown_data_set(self, folder, tmp_path, capsys):
        pytest.importorskip("tensorflow_datasets")
        assert command(*MARGINS_OF, "--dataset=no_such_thing", f"--out={tmp_path}", folder=folder) == 1
        self.check(capsys, "'no_such_thing' is no file or folder")
        assert command(*MARGINS_OF, "--dataset=mnist:9.9.9", f"--out={tmp_path}", folder=folder) == 1
        self.check(capsys, "cannot be loaded at version 9.9.9")

    def test_without_packages(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "scipy", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "scipy" else name)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("compare", "one.keras", "two.keras", data, f"--out={tmp_path}", folder=folder) == 1
        self.check(capsys, "pip install 'keras-amm[cli]'")

    def test_debug_shows_the_traceback(self, folder):
        with pytest.raises(CommandError, match="There is no model"):
            command("margins", "missing.keras", "--dataset=images.npz", "--debug", folder=folder)

    def test_wrong_command_lines(self, capsys):
        flags = (
            "--scale=1/0 --scale=1e400 --scale=1e39 --mean=a --image_size=3 --image_size=8,8,2 --overshoot=x".split()
        )
        wrong = [["attack", "m", "i", flag] for flag in flags]
        for arguments in ([], ["margins", "one.keras"], ["margins", "m", "--dataset=d", "--num_images=0"], *wrong):
            with pytest.raises(SystemExit) as end:
                cli.parse(["keras-amm", *arguments])
            assert end.value.code == 2 and "usage: keras-amm" in capsys.readouterr().err


class TestInterruption:
    """Whatever ends a measurement, what was measured is written."""

    @pytest.mark.parametrize(
        ("models", "error", "status"),
        [
            (["one.keras", "two.keras"], KeyboardInterrupt(), 130),
            (["one.keras"], ValueError("bad label"), 1),
            (["one.keras"], RuntimeError("a bug"), None),
        ],
    )
    def test_keeps_what_was_measured(self, folder, models, error, status, monkeypatch, tmp_path, capsys):
        calls, add = itertools.count(), Measurer.add

        def failing(measurer, x, y):
            # In the fourth batch, and there with the last model.
            if next(calls) == 4 * len(models) - 1:
                raise error
            add(measurer, x, y)

        monkeypatch.setattr(Measurer, "add", failing)
        data = f"--dataset={folder / 'images.npz'}"
        arguments = ["compare" if len(models) > 1 else "margins", *models, data, "--batch_size=4", f"--out={tmp_path}"]
        if status is None:
            with pytest.raises(RuntimeError, match="a bug"):
                command(*arguments, folder=folder)
        else:
            assert command(*arguments, folder=folder) == status
        monkeypatch.setattr(Measurer, "add", add)
        with np.load(folder / "images.npz") as arrays:
            x, y = arrays["x_test"][:12] / np.float32(255.0), arrays["y_test"][:12]
        for model in models:
            part = saved(tmp_path / f"{model.removesuffix('.keras')}-margins.json")
            attack = keras_amm.DeepFool.from_config(part.attack)
            expected = keras_amm.evaluate_margins(keras.models.load_model(folder / model), (x, y), attack, verbose=0)
            np.testing.assert_allclose(part.norms, expected.norms, rtol=1e-4)
            np.testing.assert_allclose(part.signed, expected.signed, rtol=1e-4)
        printed = capsys.readouterr()
        assert "12 of 40 images" in printed.out and "ended early" in printed.out
        assert (printed.err == "") == (status is None)

    def test_while_the_last_misclassified_images_are_attacked(self, folder, monkeypatch, tmp_path, capsys):
        search_labels, failures = Measurer._search_labels, iter([KeyboardInterrupt()])

        def interrupted(measurer, unsigned):
            for failure in failures:
                raise failure
            search_labels(measurer, unsigned)

        monkeypatch.setattr(Measurer, "_search_labels", interrupted)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("margins", "one.keras", data, f"--out={tmp_path}", folder=folder) == 130
        report = saved(tmp_path / "one-margins.json")
        assert len(report) == NUM_IMAGES
        assert np.any(~report.correct) and np.all(report.signed[~report.correct] < 0)
        assert "ended early" in capsys.readouterr().out

    def test_before_anything_was_measured(self, folder, monkeypatch, tmp_path, capsys):
        def interrupted(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(Measurer, "add", interrupted)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("margins", "one.keras", data, f"--out={tmp_path}", folder=folder) == 130
        assert capsys.readouterr().err == "keras-amm: stopped.\n" and not list(tmp_path.iterdir())


class TestResults:
    @pytest.fixture
    def arguments(self, folder, tmp_path, monkeypatch):
        one = keras_amm.MarginReport(norms=[1.5], signed=[1.5], predictions=[0], labels=[0], success=[True])
        monkeypatch.setattr(Measurer, "report", lambda *_: one)
        return ("margins", "one.keras", f"--dataset={folder / 'images.npz'}", "--num_images=1", f"--out={tmp_path}")

    def test_replaced_files_are_named(self, folder, arguments, tmp_path, capsys):
        (tmp_path / "one-margins.json").write_text("an older one")
        assert command(*arguments, folder=folder) == 0
        assert capsys.readouterr().out.endswith("Replaced what was there before: one-margins.json\n")
        assert saved(tmp_path / "one-margins.json").mean == 1.5

    def test_what_cannot_be_written_is_printed(self, folder, arguments, monkeypatch, capsys):
        def full(report, path):
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(keras_amm.MarginReport, "to_json", full)
        assert command(*arguments, folder=folder) == 1
        printed = capsys.readouterr()
        assert "mean margin     1.5000" in printed.out and "Wrote" not in printed.out
        assert "No space left" in printed.err and printed.err.count("\n") == 1


def test_progress_is_shown(monkeypatch, capsys):
    models = {"one": linear(0)}

    def measure():
        x = np.random.default_rng(0).normal(size=(NUM_IMAGES, *SHAPE))
        noise = images.Images((x, np.arange(NUM_IMAGES) % 3), NUM_IMAGES, False, "noise")
        measuring.measure(Request(models, noise, Pixels(1.0, (0.0,)), {"one": keras_amm.DeepFool()}, batch_size=20))
        return capsys.readouterr()

    monkeypatch.setattr(measuring, "_SECONDS_BETWEEN_LINES", 0.0)
    assert measure() == ("", "20 of 40 images\n40 of 40 images\n")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "40/40" in measure().err


def test_the_installed_program(folder, tmp_path):
    """In a process of its own, by the entry point that packaging declares."""
    setup = configparser.ConfigParser()
    setup.read(pathlib.Path(__file__).parents[3] / "setup.cfg")
    name, target = (part.strip() for part in setup["options.entry_points"]["console_scripts"].strip().split("="))
    assert name == "keras-amm"
    module, function = target.split(":")
    program = f"import sys; from {module} import {function}; sys.argv[0] = 'keras-amm'; {function}()"
    arguments = ["margins", "one.keras", "--dataset=images.npz", "--split=train", f"--out={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
    # x and y are taken, whatever the split: floating-point pixels, five of them.
    assert done.returncode == 0 and "on 5 images" in done.stdout, done.stderr
    assert len(saved(tmp_path / "one-margins.json")) == 5
