"""The table of learning rates, against means computed by hand, the rates themselves, and one tiny training."""

import json

import numpy as np
import pytest

from benchmarks import learning_rates
from benchmarks.helps.cells import Cell
from benchmarks.helps.data import CellData
from examples.paper.data.arrays import Images
from paper.reproduce.planning import EXAMPLES


def _record(schedule, way, error, margin):
    return {"schedule": schedule, "way": way, "error_percent": error, "margin": margin}


def test_table():
    found = [
        _record("0.1-falling", "amm", 2.0, 1.5),
        _record("0.1", "amm", 4.0, 1.0),
        _record("0.1", "amm", 2.0, 2.0),
        _record("0.1", "plain", 3.0, 0.5),
    ]
    assert learning_rates.table(found).splitlines() == [
        "| learning rate | plain | amm |",
        "| --- | --- | --- |",
        "| 0.1 | 3.00%, 0.50 | 3.00% ± 1.41, 1.50 |",
        "| 0.1, falling | not run | 2.00%, 1.50 |",
    ]


def test_rates():
    assert learning_rates.rate_of("0.03", 8) == 0.03
    falling = learning_rates.rate_of("0.1-falling", 8)
    np.testing.assert_allclose([falling(0), falling(4), falling(8)], [0.1, 0.05, 0.0], atol=1e-7)
    with pytest.raises(ValueError, match="could not convert"):
        learning_rates.rate_of("fast", 8)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("way", learning_rates.WAYS)
def test_a_training_is_measured(way, linear_networks):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)).astype("float32")
    images = Images(x, (x[:, 0] > 0).astype("int32"))
    found = learning_rates.train_and_measure(
        Cell("mnist", "mlp", "sgd", 20, 20, 2, num_attacked=4), CellData(images, images, 2), "0.1", way, seed=0
    )
    assert found["epochs"] == 2 and found["attack_success"] == 1.0
    kernel, bias = (weight.numpy() for weight in linear_networks[0].weights)
    w = kernel[:, 1] - kernel[:, 0]
    signed = np.where(images.y[:4] == 1, 1.0, -1.0) * (x[:4] @ w + bias[1] - bias[0]) / np.linalg.norm(w)
    assert found["margin"] == pytest.approx(np.mean(np.maximum(signed, 0.0)), rel=0.05)
    towards = np.where(images.y == 1, 1.0, -1.0) * (x @ w + bias[1] - bias[0])
    assert found["cross_entropy"] == pytest.approx(np.mean(np.log1p(np.exp(-towards))), rel=1e-4)


def test_the_page_has_the_tables_of_its_records():
    folder = EXAMPLES.parent / "results/learning_rates"
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert all(not record["versions"]["revision"].endswith("-dirty") for record in found)
    page = (EXAMPLES.parent / "docs/results/learning_rates.md").read_text()
    for kind in {(record["cell"], record["measured_on"]) for record in found}:
        of_kind = [record for record in found if (record["cell"], record["measured_on"]) == kind]
        assert learning_rates.table(of_kind) in page
