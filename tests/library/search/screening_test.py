"""Which samples screening chooses, and what it leaves unchanged."""

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import small_data, small_network


@pytest.mark.parametrize("num_correct", [5, 15, 36])
def test_screening_searches_a_fraction_of_the_batch(num_correct):
    """The nearest correct samples by the estimate, all of them where they are few, and the wrong ones."""
    network = small_network()
    x, _ = small_data(40)
    right = np.argmax(network.predict(x, verbose=0), axis=1)
    y = np.where(np.arange(40) < num_correct, right, (right + 1) % 3).astype("int32")
    classifier = keras_amm.network.classifier.Classifier(network)
    clean = keras_amm.search.linearisation.clean_pass(classifier, tf.constant(x))
    full, screened, one_step = (
        attack.path(classifier, clean, tf.constant(y), screening=screening)
        for attack, screening in (
            (keras_amm.DeepFool(), None),
            (keras_amm.DeepFool(), 0.3),
            (keras_amm.DeepFool(max_iterations=1, num_candidates=2), None),
        )
    )
    searched = screened.searched.numpy()
    assert searched[num_correct:].all() and searched[:num_correct].sum() == min(12, num_correct)
    # One step towards the runner-up is the estimate.
    estimate = one_step.norm.numpy()[:num_correct]
    np.testing.assert_array_equal(searched[:num_correct], estimate <= np.sort(estimate)[:12][-1])
    np.testing.assert_allclose(screened.norm[searched], full.norm[searched], rtol=1e-5)
