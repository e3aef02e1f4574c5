"""Measuring margins over a whole data set."""

import time
from typing import Any

import keras

from keras_amm.arguments import require_whole
from keras_amm.attack import Attack, require_attack
from keras_amm.measuring.batches import hint_of_pair, labelled_batches, no_images
from keras_amm.measuring.measurer import Measurer
from keras_amm.measuring.notes import warn_of_notes
from keras_amm.network.inputs import unwrapped
from keras_amm.report import MarginReport


def evaluate_margins(
    model: keras.Model,
    data: Any,
    attack: Attack | None = None,
    batch_size: int | None = None,
    verbose: str | int = "auto",
) -> MarginReport:
    """Measure the input-space margin of a classifier on labelled images.

    Every image is attacked untargeted, from the class predicted for it, and a
    misclassified one also towards its label. Sample weights are not used.

    One more direction is tried for each image: the way to the nearest image of
    another prediction, nearest in the l2 norm whatever the attack's, of its
    batch and of a random sample of up to 512 images measured before (fewer if
    they are large). If the prediction has changed on it at nine tenths of the
    attack's norm, or at that image if it is nearer, a crossing before that
    point is found by bisection and taken (`MarginReport.bounded_by_data`).
    Other images are not tried. There is a warning if the attack went over twice
    as far for a quarter of the images or more.

    There is a warning if the network has no gradient at half of the images or
    more, as a cast to integers within it makes: their norms are 0.

    Args:
        model: single-input `keras.Model` classifier or `AMMModel`, built. Its
            weights and metrics are left alone.
        data: a pair (x, y) of arrays or tensors, x [n, ...] of any numeric
            dtype; or a `tf.data.Dataset` or `keras.utils.PyDataset` of
            batches (x, y) or (x, y, sample_weight). A `tf.data.Dataset` of
            single images is batched. y: class indices [n] or [n, 1], or
            class probabilities [n, C] (one-hot or smoothed).
        attack: `DeepFool` or another `Attack`; None for the default, DeepFool
            with 6 steps and 10 candidates, and of an `AMMModel` the
            `from_logits`, `deviation` and `norm` of its own attack. For distances
            nearer the true ones, `FastMinimumNorm()`; for those of the
            l-infinity norm, `DeepFool(norm="linf")`. Where it has no
            `from_logits` or `deviation` of its own, it takes an `AMMModel`'s;
            its norm and bounds are its own, so for those of an `AMMModel` use
            `FastMinimumNorm(start=model.attack)`.
        batch_size: int, the most images attacked at a time; None for 128 of
            arrays and single images, and for a dataset's batches as they come.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line at the end, 0 for silence.

    Returns:
        A `MarginReport`, with its norms in the units of the images given, or
        with a `deviation` in those of the pixels.

    Raises:
        TypeError: the model is not a Keras model, or the attack not an `Attack`.
        ValueError: the data are empty, infinite, without labels, or not fit for the model.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> report = keras_amm.evaluate_margins(model, (np.random.rand(8, 2), np.arange(8) % 3), verbose=0)
    >>> report.norms.shape
    (8,)

    Reference: Section 4.4 and Tables 3-7 of the paper.
    """
    require_attack(attack, hint_of_pair(attack))
    if batch_size is not None:
        require_whole("batch_size", batch_size, 1)
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2. Received: verbose={verbose!r}.")
    measurer = Measurer(model, attack)
    batches = labelled_batches(data, unwrapped(model), batch_size)

    start = time.perf_counter()
    bar = keras.utils.Progbar(
        batches.number, verbose=1 if verbose == "auto" else int(verbose), stateful_metrics=["margin"], unit_name="batch"
    )
    done = 0
    for parts in batches.batches:
        for x, y in parts:
            measurer.add(x, y)
            # A large batch moves the bar once, at its end; its mean moves with every slice.
            bar.update(done, [("margin", measurer.margin)], finalize=False)
        done += 1
    if not len(measurer):
        raise no_images(data)
    report = measurer.report()
    # Reading the images counts as well.
    report.seconds = time.perf_counter() - start
    bar.target = done
    bar.update(done, [("margin", measurer.margin)], finalize=True)
    warn_of_notes(report, stacklevel=2)
    return report
