"""The DeepFool attack: its arguments, refinement, and the models and images that it takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers import zoo


def test_refinement_never_lengthens_and_still_succeeds():
    keras.utils.set_random_seed(2)
    model = zoo.build("relu_mlp")
    x = zoo.images(30)
    plain = keras_amm.DeepFool(overshoot=0.5).perturb(model, x)
    refined = keras_amm.DeepFool(overshoot=0.5, refine_steps=20).perturb(model, x)
    assert np.all(refined.norm <= plain.norm * (1 + 1e-6))
    assert np.mean(refined.norm) < 0.9 * np.mean(plain.norm)
    changed = np.argmax(model(x + refined.delta), axis=1) != np.argmax(model(x), axis=1)
    np.testing.assert_array_equal(changed, refined.success)


@pytest.mark.usefixtures("eagerly")
def test_every_argument_does_something():
    keras.utils.set_random_seed(4)
    model = zoo.build("tanh_mlp")
    x = zoo.images(50)
    base = np.asarray(keras_amm.DeepFool().perturb(model, x).norm)
    for changed in ({"overshoot": 0.2}, {"max_iterations": 1}, {"num_candidates": 2}, {"refine_steps": 4}):
        assert not np.allclose(base, keras_amm.DeepFool(**changed).perturb(model, x).norm), changed


def test_inside_a_function_equals_outside():
    keras.utils.set_random_seed(2)
    model = zoo.build("max_pool_cnn")
    x = zoo.images(12)
    attack = keras_amm.DeepFool()
    wanted = attack.perturb(model, x)
    for jit_compile in (False, True):
        got = tf.function(lambda x: attack.perturb(model, x), jit_compile=jit_compile)(tf.constant(x))
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_softmax_and_logits_give_the_same():
    keras.utils.set_random_seed(2)
    model = zoo.build("softmax_head")
    logits = keras.Model(model.input, zoo.build("relu_mlp")(model.input))
    logits.set_weights(model.get_weights())
    x = zoo.images(12)
    for from_logits in (None, False):
        got = keras_amm.DeepFool(from_logits=from_logits).perturb(model, x).norm
        np.testing.assert_allclose(got, keras_amm.DeepFool().perturb(logits, x).norm, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_models_are_attacked_in_float32(policy):
    keras.utils.set_random_seed(2)
    model = zoo.build("relu_mlp")
    x = zoo.images(12)
    wanted = keras_amm.DeepFool().perturb(model, x).norm
    keras.config.set_dtype_policy(policy)
    try:
        half = zoo.build("relu_mlp")
    finally:
        keras.config.set_dtype_policy("float32")
    half.set_weights(model.get_weights())
    np.testing.assert_allclose(keras_amm.DeepFool().perturb(half, x).norm, wanted, rtol=1e-5)
    assert half.layers[-1].compute_dtype != "float32"


@pytest.mark.usefixtures("eagerly")
def test_integer_images():
    keras.utils.set_random_seed(2)
    model = zoo.build("relu_mlp")
    x = np.random.default_rng(0).integers(0, 5, (6, *zoo.SHAPE), dtype="uint8")
    got = keras_amm.DeepFool().perturb(model, x).norm
    np.testing.assert_allclose(got, keras_amm.DeepFool().perturb(model, x.astype("float32")).norm)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_iterations": 0}, "max_iterations=0"),
        ({"max_iterations": 2.5}, "max_iterations=2.5"),
        ({"num_candidates": 1}, "num_candidates=1"),
        ({"overshoot": -0.1}, "overshoot=-0.1"),
        ({"overshoot": float("nan")}, "overshoot=nan"),
        ({"refine_steps": -1}, "refine_steps=-1"),
        ({"from_logits": "yes"}, "from_logits='yes'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        keras_amm.DeepFool(**arguments)


@pytest.mark.usefixtures("eagerly")
def test_changing_an_attribute_takes_effect():
    keras.utils.set_random_seed(4)
    model, x, attack = zoo.build("relu_mlp"), zoo.images(5), keras_amm.DeepFool(overshoot=0.0)
    before = attack.perturb(model, x).norm
    attack.overshoot = 1.0
    assert np.mean(attack.perturb(model, x).norm) > 1.5 * np.mean(before)
