"""The search that a regularizer asks for: of every sample, or of those that its aggregation may select."""

import tensorflow as tf

from keras_amm import aggregation
from keras_amm.attack import Attack
from keras_amm.deepfool import DeepFool
from keras_amm.execution import replicas
from keras_amm.network.classifier import Classifier
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search import best_first
from keras_amm.search.bounds import Reach
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.norms import norm_for
from keras_amm.search.path import Path
from keras_amm.search.work_list import Wanted
from keras_amm.typing import Tensor


def walk_of(attack: Attack) -> DeepFool:
    """The attack, if its perturbation is the sum of DeepFool's steps, which alone can be differentiated.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(attack, DeepFool) or attack.bounds is not None:
        raise ValueError(
            "gradient='unrolled' and gradient='masked' differentiate the steps of DeepFool without bounds. With "
            "MarginRegularizer(gradient='boundary') any attack can search, because only the point that it finds "
            f"counts. Received: attack={attack!r}."
        )
    return attack


def require_trainable(attack: Attack, regularizer: MarginRegularizer) -> Attack:
    """The attack, if the regularizer can train with it; otherwise it is refused by a ValueError."""
    if regularizer.gradient != "boundary":
        walk_of(attack)
    if regularizer.screening is not None and not isinstance(attack, DeepFool):
        raise ValueError(
            "`screening` is a part of DeepFool's search. Expected: attack=DeepFool(...), or screening=None. "
            f"Received: attack={attack!r}, screening={regularizer.screening}."
        )
    return attack


def search(
    classifier: Classifier,
    attack: Attack,
    regularizer: MarginRegularizer,
    clean: CleanPass,
    labels: Tensor,
    wrong_count: Tensor | bool = True,
) -> Path:
    """The paths of a batch with labels [B]; their steps are recorded if the regularizer differentiates them.

    Misclassified samples that the regularizer may select count if `wrong_count`, a scalar, is True.

    Only DeepFool without bounds can be taken best first: all other searches are exact.
    """
    keep_path = regularizer.gradient != "boundary"
    if not isinstance(attack, DeepFool):
        return attack.path(classifier, clean, labels)
    if attack.bounds is not None or regularizer.search == "exact":
        # Of two classes far samples may count, although the aggregation is one that counts near ones.
        counts_near_only = regularizer.aggregation_of(clean.logits.shape[1]).counts_near_only
        screening = regularizer.screening if counts_near_only else None
        return attack.path(classifier, clean, labels, screening=screening, keep_path=keep_path)
    reach = best_first.REACHES[regularizer.search]
    return best_first.search(
        classifier,
        clean,
        labels,
        _wanted(classifier, regularizer, reach, clean, wrong_count),
        reach,
        max_iterations=attack.max_iterations,
        num_candidates=attack.num_candidates,
        overshoot=attack.overshoot,
        keep_path=keep_path,
        table=None if regularizer.running is None else tf.convert_to_tensor(regularizer.running.gradient_norms),
    )


def _wanted(
    classifier: Classifier, regularizer: MarginRegularizer, reach: Reach, clean: CleanPass, wrong_count: Tensor | bool
) -> Wanted:
    """What the regularizer may select of the global batch, of which the pass's images are this replica's part."""
    entry, x = regularizer.aggregation_of(clean.logits.shape[1]), clean.x
    batch_size = x.shape[0] or tf.shape(x)[0]
    if replicas.are_several():
        batch_size = tf.reduce_sum(replicas.gather(tf.reshape(batch_size, [1])))
    part = regularizer.top_fraction if entry.counts_near_only else reach.part if entry.counts_all_correct else None
    return Wanted(
        top=None if part is None else aggregation.num_selected_per_side(batch_size, part),
        one_per_label=entry.counts_one_per_label,
        wrong=wrong_count & (regularizer.misclassified != "none"),
        unit=norms_of_images(classifier, x) if regularizer.normalize == "input" else None,
    )


def norms_of_images(classifier: Classifier, x: Tensor) -> Tensor:
    """The norms [b] of images [b, ...], by which margins may be divided; 1 for that of a black image."""
    norm = norm_for(classifier).of(x)
    return tf.where(norm > 0.0, norm, tf.ones_like(norm))
