"""Folds that leave no patient out, and figures over all of them, against values computed by hand."""

import dataclasses
import json
import math

import numpy as np
import pytest

from benchmarks import cross_validation
from benchmarks.helps.cells import CELLS
from paper.reproduce.planning import EXAMPLES


def test_each_patient_is_measured_once_by_standard_scores_of_the_others():
    folds = [cross_validation.fold_of(fold) for fold in range(cross_validation.NUM_FOLDS)]
    assert [len(fold.train) + len(fold.measured) for fold in folds] == [569] * 5
    assert sum(len(fold.measured) for fold in folds) == 569
    for fold in folds:
        np.testing.assert_allclose(fold.train.x.mean(0), 0.0, atol=1e-5)
        np.testing.assert_allclose(fold.train.x.std(0), 1.0, atol=1e-5)
        assert np.mean(fold.measured.y) == pytest.approx(357 / 569, abs=0.005)
        # Malignant tumours are larger: the standard scores are those of the right patients.
        sizes = fold.measured.x[:, 0]
        assert sizes[fold.measured.y == 0].mean() > 0.5 > -0.3 > sizes[fold.measured.y == 1].mean()


def _record(arm, fold, seed, error, margin, images):
    return {
        "cell": "breast-cancer",
        "arm": arm,
        "fold": str(fold),
        "seed": seed,
        "images": images,
        "error_percent": error,
        "margin": margin,
        "signed_mean": margin - 0.5,
        "robust_accuracy": 0.9,
        "training_accuracy": 1.0,
        "attack_success": 1.0,
        "largest_predicted_share": 0.6,
        "largest_label_share": 0.6,
        "processor_seconds": 2.0,
        "epochs": 60,
    }


def test_the_table_weights_folds_by_their_patients():
    # 5 wrong of 500 patients, and 7: one seed alone, so its errors have no deviation to be within.
    plain = [_record("plain", fold, 0, 1.0, 2.0, 100) for fold in range(5)]
    amm = [_record("amm", fold, 0, 2.0, 3.0, 50) for fold in range(4)] + [_record("amm", 4, 0, 1.0, 2.0, 300)]
    incomplete = [_record(arm, 0, 1, 50.0, 9.0, 100) for arm in ("plain", "amm")]
    lines = cross_validation.table(plain + amm + incomplete).splitlines()
    assert lines[2:] == [
        "| `breast-cancer` | 1.00% → 1.40% | 2.000 → 2.400 | 1.20 | 1.500 → 1.900 | 90.0% → 90.0% | 1 "
        "| **fails: error** |"
    ]


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("arm", ["plain", "amm", "amm-smoothed"])
def test_a_fold_is_measured_in_full(arm, linear_networks, monkeypatch):
    short = dataclasses.replace(CELLS["breast-cancer"], epochs=1)
    monkeypatch.setattr(cross_validation, "CELLS", {"breast-cancer": short})
    found = cross_validation.train_and_measure("breast-cancer", arm, "0", seed=0)
    patients = cross_validation.fold_of(0).measured
    logits = linear_networks[0](patients.x).numpy()
    assert found["attacked_images"] == found["images"] == len(patients) == 114
    assert found["error_percent"] == pytest.approx(100 * np.mean(logits.argmax(1) != patients.y))
    kernel = linear_networks[0].weights[0].numpy()
    leads = np.where(patients.y == 1, 1.0, -1.0) * (logits[:, 1] - logits[:, 0])
    margins = np.maximum(leads / np.linalg.norm(kernel[:, 1] - kernel[:, 0]), 0.0)
    assert found["margin"] == pytest.approx(np.mean(margins), rel=0.02)


def test_the_page_has_the_table_of_its_records():
    folder = EXAMPLES.parent / "results/cross_validation"
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    assert found and all(not record["versions"]["revision"].endswith("-dirty") for record in found)
    assert all(math.isfinite(record["margin"]) for record in found)
    page = (EXAMPLES.parent / "docs/results/cross_validation.md").read_text()
    assert cross_validation.table(found) in page
