"""The report of the smallest norms of several attacks, by values computed by hand."""

import numpy as np
import pytest

import keras_amm


def report(norms, signed, success, **changes):
    """Of four images, the last of which is misclassified."""
    arrays = {"norms": norms, "signed": signed, "success": success}
    return keras_amm.MarginReport(**{**arrays, "predictions": [0, 1, 2, 0], "labels": [0, 1, 2, 1], **changes})


FIRST = report(
    [1.0, 0.5, 2.0, 0.25],
    [1.0, 0.5, 2.0, -3.0],
    [True, False, False, True],
    attack_norms=[4.0, 0.5, 2.0, 0.25],
    attack={"max_iterations": 6, "bounds": [0.0, 1.0], "deviation": None, "norm": "linf"},
    seconds=1.0,
    model_name="mlp",
    units="linf, in the units of the images given",
)
SECOND = report(
    [3.0, 0.75, 1.5, 0.5],
    [3.0, 0.75, 1.5, -2.0],
    [True, True, False, True],
    attack={"name": "FastMinimumNorm", "steps": 9, "bounds": [0.0, 1.0], "deviation": None, "norm": "linf"},
    seconds=2.0,
)


def test_by_hand():
    smallest = FIRST.smallest(SECOND)
    # The second image was reached by the second attack only, the third by none.
    np.testing.assert_array_equal(smallest.norms, [1.0, 0.75, 1.5, 0.25])
    np.testing.assert_array_equal(smallest.signed, [1.0, 0.75, 1.5, -2.0])
    np.testing.assert_array_equal(smallest.success, [True, True, False, True])
    np.testing.assert_array_equal(smallest.attack_norms, [3.0, 0.75, 1.5, 0.25])
    np.testing.assert_array_equal(smallest.bounded_by_data, [True, False, False, False])
    np.testing.assert_array_equal(smallest.predictions, FIRST.predictions)
    assert smallest.margin == (1.0 + 0.75) / 4 and smallest.seconds == 3.0
    assert smallest.norm_name == "linf" and smallest.units == FIRST.units and smallest.model_name == "mlp"
    assert smallest.attack["attacks"] == ["DeepFool(max_iterations=6)", "FastMinimumNorm(steps=9)"]
    assert smallest.attack["bounds"] == [0.0, 1.0]
    assert keras_amm.MarginReport.from_json(smallest.to_json()).attack == smallest.attack


def test_an_attack_that_could_not_move_does_not_count():
    alone = {"predictions": [1], "labels": [2]}
    stuck = report([0.0], [-0.0], [False], **alone)
    moved = report([1.1], [-1.3], [True], **alone)
    for smallest in (stuck.smallest(moved), moved.smallest(stuck)):
        assert (smallest.norms[0], smallest.signed[0]) == (1.1, -1.3)
    assert stuck.smallest(stuck).signed[0] == 0.0


def test_of_one_or_more():
    one, again = FIRST.smallest(), FIRST.smallest(SECOND).smallest(FIRST)
    np.testing.assert_array_equal(one.norms, FIRST.norms)
    np.testing.assert_array_equal(again.norms, FIRST.smallest(SECOND).norms)
    assert len(again.attack["attacks"]) == 3
    np.testing.assert_array_equal(SECOND.smallest(FIRST).signed, FIRST.smallest(SECOND).signed)
    missing = report([np.nan] * 4, [np.nan] * 4, [False] * 4, attack=FIRST.attack)
    np.testing.assert_array_equal(missing.smallest(SECOND).norms, SECOND.norms)
    np.testing.assert_array_equal(missing.smallest(SECOND).signed, SECOND.signed)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [0, 1, 2, 2]},
        {"predictions": [0, 1, 2, 2]},
        {"attack": {"bounds": [0.0, 1.0]}},
        {"attack": {"bounds": [0.0, 255.0], "norm": "linf"}},
        {"attack": {"bounds": [0.0, 1.0], "norm": "linf", "deviation": 0.5}},
    ],
)
def test_what_cannot_be_compared_is_refused(changes):
    other = report(SECOND.norms, SECOND.signed, SECOND.success, **{"attack": SECOND.attack, **changes})
    with pytest.raises(ValueError, match="the same images, of the same model, in the same norm"):
        FIRST.smallest(SECOND, other)


@pytest.mark.parametrize("method", ["smallest", "compare"])
def test_what_is_no_report_is_refused(method):
    with pytest.raises(TypeError, match=r"Expected a MarginReport.* Received: 'x' of type str\."):
        getattr(FIRST, method)("x")
