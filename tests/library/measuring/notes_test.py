"""What is said of a report whose margins mean less than they seem to: the attack is named, and the advice fits it."""

import pytest

import keras_amm
from keras_amm.measuring.notes import notes_on


def too_far(attack):
    """A report of four images whose attack went three times as far as to a boundary that the data show."""
    arrays = {"norms": [1.0] * 4, "signed": [1.0] * 4, "predictions": [1] * 4, "labels": [1] * 4}
    return keras_amm.MarginReport(**arrays, success=[True] * 4, attack_norms=[3.0] * 4, attack=attack)


@pytest.mark.parametrize(
    ("attack", "advice"),
    [
        ({}, "Try `FastMinimumNorm()`, or more steps;"),
        ({"norm": "l2", "deviation": None, "bounds": None}, "Try `FastMinimumNorm()`, or more steps;"),
        (
            {"deviation": 0.5, "bounds": [0.0, 1.0], "norm": "linf", "from_logits": None},
            "Try `FastMinimumNorm(start=DeepFool(deviation=0.5, bounds=[0.0, 1.0], norm='linf'))`, or more steps;",
        ),
        ({"name": "SuperDeepFool"}, "Try `FastMinimumNorm(start=SuperDeepFool())`, or more steps;"),
        ({"name": "FastMinimumNorm", "steps": 30, "norm": "linf"}, "Try more steps than its 30;"),
    ],
)
def test_the_advice_keeps_norm_units_and_bounds(attack, advice):
    (note,) = notes_on(too_far(attack))
    assert advice in note and "from_logits=True" not in note


@pytest.mark.parametrize("name", ["DeepFool", "SuperDeepFool", "FastMinimumNorm"])
def test_the_attack_that_cannot_take_a_step_is_named(name):
    attack = {"name": name, "steps": 30, "from_logits": True}
    arrays = {"norms": [0.0] * 4, "signed": [0.0] * 4, "predictions": [1] * 4, "labels": [1] * 4}
    (note,) = notes_on(keras_amm.MarginReport(**arrays, success=[False] * 4, attack=attack))
    assert f"so {name} cannot take a step" in note
    assert "leave `from_logits` at None, and the logits behind the softmax are found" in note
    (note,) = notes_on(too_far(attack))
    assert "leave `from_logits` at None" in note
