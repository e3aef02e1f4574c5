"""The table of trainings with different searches, against means computed by hand, and one tiny training."""

import numpy as np
import pytest

import keras_amm
from benchmarks import search_in_training
from benchmarks.helps.cells import Cell
from benchmarks.helps.data import CellData
from examples.paper.data.arrays import Images


def _record(search, error, margin):
    measured = {name: {"signed_mean": margin} for name in ("tight", "deepfool")}
    others = {"boundary_cosine": 0.9, "processor_seconds": 10.0}
    return {"cell": "mnist-mlp800", "search": search, "error_percent": error, **measured, **others}


def test_table():
    text = search_in_training.table(
        [_record("fmn", 2.0, 1.0), _record("fmn", 4.0, 2.0), _record("deepfool", 3.0, 1.25)]
    )
    first, second = text.splitlines()[2:]
    assert first == ("| mnist-mlp800 | fmn | 2 | 3.00% ± 1.41 | 1.500 ± 0.707 | 1.500 ± 0.707 | 0.90 ± 0.00 | 10 ± 0 |")
    assert second == "| mnist-mlp800 | deepfool | 1 | 3.00% | 1.250 | 1.250 | 0.90 | 10 |"


@pytest.mark.usefixtures("eagerly", "linear_networks")
def test_a_training_is_measured(monkeypatch):
    attacks = {"tight": keras_amm.FastMinimumNorm(2), "deepfool": keras_amm.DeepFool()}
    monkeypatch.setattr(search_in_training, "_MEASURED_BY", attacks)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype("float32")
    images = Images(x, (x[:, 0] > 0).astype("int32"))
    cell = Cell("mnist", "mlp", "sgd", 20, 20, 2, num_attacked=4)
    found = search_in_training.train_and_measure(cell, CellData(images, images, 2), keras_amm.DeepFool(), seed=0)
    assert found["epochs"] == 2 and 0 <= found["error_percent"] <= 100
    # The closed form of a linear classifier: the ray is the normal, and no attack finds a nearer point.
    assert found["boundary_cosine"] == pytest.approx(1.0)
    assert found["tight"]["mean"] == pytest.approx(found["deepfool"]["mean"], rel=0.05)
