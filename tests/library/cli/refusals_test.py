"""What cannot be used is refused in one line that says why, before anything is measured."""

import shutil
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm import cli
from tests.library.cli.command_line import MARGINS_OF, assert_one_line, command, saved
from tests.library.cli.linear_models import SHAPE, linear


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


def models_in_other_formats(folder):
    model = linear(0)
    model.save(folder / "legacy.h5")
    model.save_weights(folder / "one.weights.h5")
    (folder / "damaged.h5").write_bytes((folder / "legacy.h5").read_bytes()[:100])
    model.export(folder / "exported", verbose=False)
    shutil.copytree(folder / "exported", folder / "keras-2")
    (folder / "keras-2" / "keras_metadata.pb").touch()
    with zipfile.ZipFile(folder / "one.keras") as archive:
        archive.extractall(folder / "unpacked")
    shutil.copy(folder / "one.keras", folder / "renamed.zip")
    tf.train.Checkpoint(model).write(str(folder / "checkpoint"))
    for name in ("model.onnx", "model.tflite", "model.pt"):
        (folder / name).write_bytes(b"content of another format")


def unfit_data(folder):
    x = np.zeros((4, *SHAPE), "uint8")
    np.savez(folder / "unlabelled.npz", x_test=x)
    np.savez(folder / "longer.npz", x_test=x, y_test=np.arange(5))
    np.savez(folder / "labels.npz", x_test=x, y_test=[100] * 4)
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
        keras.utils.save_img(folder / "broken-images" / name / "1.png", x[0], scale=False)
    (folder / "broken-images" / "a" / "1.png").write_text("no image")
    (folder / "empty-images").mkdir()
    (folder / "taken" / "one-margins.json").mkdir(parents=True)
    (folder / "text.png").write_text("no image")


@pytest.fixture(scope="session")
def unfit(folder):
    unfit_models(folder)
    models_in_other_formats(folder)
    unfit_data(folder)
    return folder


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("margins", "missing.keras", "images.npz"), "There is no model"),
            (("margins", "text.keras", "images.npz"), "is not a Keras model: expected a file that model.save"),
            (("margins", "images.npz", "images.npz"), "is not a Keras model"),
            (("margins", "zip.keras", "images.npz"), "cannot be loaded as a Keras model in safe mode"),
            (("margins", "lambda.keras", "images.npz"), "cannot be loaded as a Keras model in safe mode"),
            (("margins", "legacy.h5", "images.npz"), "load_model('legacy.h5', compile=False).save('legacy.keras')"),
            (
                ("margins", "one.weights.h5", "images.npz"),
                "holds weights, but no layers. Build the model,",
            ),
            (("margins", "damaged.h5", "images.npz"), "damaged.h5 cannot be read"),
            (("margins", "exported", "images.npz"), "is a TensorFlow SavedModel folder, as model.export writes it"),
            (("margins", "keras-2", "images.npz"), "is a SavedModel folder of Keras 2"),
            (("margins", "unpacked", "images.npz"), "is the unpacked content of a Keras model"),
            (("margins", "images", "images.npz"), "images is a folder. Expected a model file"),
            (("margins", "renamed.zip", "images.npz"), "rename it to renamed.keras"),
            (("margins", "checkpoint", "images.npz"), "is a TensorFlow checkpoint, which holds weights, but no layers"),
            (("margins", "model.onnx", "images.npz"), "is an ONNX model, without Keras layers"),
            (("margins", "model.tflite", "images.npz"), "is a TensorFlow Lite model"),
            (("margins", "model.pt", "images.npz"), "is a PyTorch model"),
            (("margins", "regression.keras", "images.npz"), "must be 0 or 1"),
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
            ((*MARGINS_OF, "images.npz", "--steps=9"), "--steps is for --attack=fmn"),
            ((*MARGINS_OF, "images.npz", "--bounds=255"), "--bounds must be two numbers"),
            ((*MARGINS_OF, "images.npz", "--bounds=255,0"), "in this order, such as 0,255. Received: --bounds=255,0."),
            (
                (*MARGINS_OF, "images.npz", "--bounds=0,1"),
                "for 8-bit images --bounds=0,255. Received: --bounds=0,1 and pixels from 0 to 255.",
            ),
            (
                (*MARGINS_OF, "images.npz", "--steps=9", "--second_attack=superdeepfool"),
                "--steps is for --attack=fmn or --second_attack=fmn. Received: --steps=9 --attack=deepfool "
                "--second_attack=superdeepfool.",
            ),
            (
                (*MARGINS_OF, "images.npz", "--second_attack=deepfool"),
                "must be another attack than --attack, such as fmn or superdeepfool",
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
        assert_one_line(capsys, message)
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
        assert_one_line(capsys, message)

    def test_the_advice_for_hdf5_and_unpacked_models_works(self, unfit, tmp_path):
        data = f"--dataset={unfit / 'images.npz'}"
        for name in ("legacy.h5", "unpacked"):
            path = tmp_path / f"{name.removesuffix('.h5')}.keras"
            keras.models.load_model(unfit / name, compile=False).save(path)
            assert command("margins", path, data, f"--out={tmp_path}", folder=unfit) == 0
        model = linear(1)
        model.load_weights(unfit / "one.weights.h5")
        model.save(tmp_path / "weights.keras")
        assert command("margins", tmp_path / "weights.keras", data, f"--out={tmp_path}", folder=unfit) == 0
        reports = [saved(tmp_path / f"{name}-margins.json") for name in ("legacy", "unpacked", "weights")]
        for report in reports:
            np.testing.assert_allclose(report.norms, reports[0].norms, rtol=1e-5)

    def test_unknown_data_set(self, folder, tmp_path, capsys):
        pytest.importorskip("tensorflow_datasets")
        assert command(*MARGINS_OF, "--dataset=no_such_thing", f"--out={tmp_path}", folder=folder) == 1
        assert_one_line(capsys, "'no_such_thing' is no file or folder")
        assert command(*MARGINS_OF, "--dataset=mnist:9.9.9", f"--out={tmp_path}", folder=folder) == 1
        assert_one_line(capsys, "cannot be loaded at version 9.9.9")

    def test_without_packages(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "scipy", None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "scipy" else name)
        data = f"--dataset={folder / 'images.npz'}"
        assert command("compare", "one.keras", "two.keras", data, f"--out={tmp_path}", folder=folder) == 1
        assert_one_line(capsys, "pip install scipy")
