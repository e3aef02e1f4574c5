"""The shared trainer on tiny data sets: two steps, several devices, streamed images."""

import json

import keras
import numpy as np
import pytest

from paper import architectures
from paper.training import run_folder, trainer
from tests.helpers import tiny_data_sets
from tests.helpers.training_settings import resolve

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
]


@pytest.mark.parametrize(("batch_size", "num_train"), [(5, 20), (4, 13)])
def test_batches_that_cannot_be_shared(tmp_path, data_dir, linear_on_replicas, batch_size, num_train):
    given = {"batch_size": batch_size, "num_train": num_train, "data_dir": data_dir, "strategy": "mirrored"}
    with pytest.raises(
        trainer.SettingsError, match=f"of the 2 devices.*batch_size={batch_size} for {num_train} training images"
    ):
        trainer.train(resolve("cifar100", "lenet", **given), tmp_path)


@pytest.mark.usefixtures("eagerly", "linear")
def test_two_steps_report_both(tmp_path, data_dir):
    settings = resolve(
        "cifar100", "lenet", two_step=True, epochs=1, batch_size=10, drop_at=[], data_dir=data_dir, gradient="boundary",
        num_candidates=2, log_margins=4, augment=False,
    )  # fmt: skip
    result = trainer.train_in_steps(settings, tmp_path)
    reference = json.loads((tmp_path / "reference" / "result.json").read_text())
    assert not reference["config"]["amm"] and result["config"]["amm"]
    for name in ("error_percent", "margin_mean", "margin_images"):
        assert result["before_fine_tuning"][name] == pytest.approx(reference[name])
    assert result["margin_mean"] != reference["margin_mean"]
    assert all("val_margin" in row for row in result["history"] + reference["history"])
    for other, said in (("seed", "seed=0 there and 1 here"), ("epochs", "epochs=1 there and 2 here")):
        # A longer reference would be another, from which the second step did not begin.
        with pytest.raises(run_folder.OtherRunError, match=f"other settings: {said}"):
            trainer.train_in_steps({**settings, other: settings[other] + 1}, tmp_path)
    # Both are measured on as many images.
    fewer = trainer.train_in_steps({**settings, "eval_margins": 3}, tmp_path)
    assert fewer["margin_images"] == fewer["before_fine_tuning"]["margin_images"] == 3


@pytest.mark.usefixtures("eagerly", "linear")
def test_images_that_weights_were_trained_on(tmp_path, data_dir):
    """A run that only measures has seen those of the run that it starts from, not all."""
    given = {"amm": False, "augment": False, "drop_at": [], "batch_size": 5, "data_dir": data_dir, "eval_margins": 2}
    half = trainer.train(resolve("cifar100", "lenet", epochs=1, num_train=10, **given), tmp_path / "half")
    measured = {}
    for source in (tmp_path / "half", tmp_path / "half" / "model.keras", None):
        settings = resolve("cifar100", "lenet", epochs=0, init_from=source and str(source), **given)
        measured[source] = trainer.train(settings, tmp_path / "measured", resume=False)["training_images"]
    assert half["training_images"] == 10 and list(measured.values()) == [10, 10, 0]
    (tmp_path / "half" / "result.json").unlink()
    assert run_folder.training_images(str(tmp_path / "half")) is None
    assert half["versions"]["threads"] >= 1


@pytest.mark.usefixtures("eagerly")
def test_images_that_are_streamed(tmp_path, imagenet, monkeypatch):
    """ImageNet's, in its true format, with a network that takes little time to trace."""
    monkeypatch.setattr(
        architectures,
        "build",
        lambda _, num_classes: keras.Sequential(
            [
                keras.Input((224, 224, 3)),
                keras.layers.AveragePooling2D(32),
                keras.layers.Flatten(),
                keras.layers.Dense(num_classes),
            ]
        ),
    )
    given = {"two_step": False, "epochs": 2, "batch_size": 4, "drop_at": [], "num_candidates": 2}
    result = trainer.train(resolve("imagenet2012", "resnet-18", data_dir=imagenet, **given), tmp_path / "run")
    number = len(tiny_data_sets.IMAGENET_SYNSETS) * tiny_data_sets.IMAGENET_PER_SYNSET
    assert result["training_images"] == number and result["margin_images"] == 4
    losses = [row["loss"] for row in result["history"]]
    assert np.isfinite([*losses, result["margin_mean"]]).all() and result["history"][0]["margin_penalty"] > 0.0
