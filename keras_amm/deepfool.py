"""DeepFool: the nearest decision boundary, by iterated linearisation."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_amm.arguments import require_real, require_whole
from keras_amm.attack import Attack, Bound, changed
from keras_amm.network.classifier import Classifier
from keras_amm.search.box import box_around
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.loop import search
from keras_amm.search.path import Path
from keras_amm.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_amm")
class DeepFool(Attack):
    """The DeepFool attack, batched, in the l2 or the l-infinity norm.

    Each step linearises the network and goes to the nearest boundary,
    `r = (1 + overshoot) * |f_k - f_p| / ||w|| * w / ||w||` with
    `w = grad f_k - grad f_p`, until the prediction changes. In the l-infinity
    norm it is `(1 + overshoot) * |f_k - f_p| / ||w||_1 * sign(w)`. After the first
    step, classes whose boundary was far away are not linearised again, except
    under XLA.

    Args:
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int >= 2, the number of classes considered in each
            step, those of the largest logits at the image (all, if there are fewer).
        overshoot: float >= 0, by what fraction each step goes beyond the
            linearised boundary.
        refine_steps: int, bisection steps along the perturbation after
            success, for measuring; training does not refine.
        from_logits: whether the model's output is logits (True) or a softmax
            (False); None finds out, and refuses when in doubt.
        deviation: by what the images of the model were divided, as in `(pixels - mean) / deviation`: float, or a
            sequence of one per channel, the last axis. Then distances are searched and measured in the units of the
            pixels. None for the units of the images.
        bounds: the smallest and the largest value of a pixel, in the units of
            the images given, such as `(0, 1)`, each a number or one for each
            channel: no step leaves them (not in the paper). None for no
            bounds. With bounds, a step is the shortest to the linearised
            boundary of the class that is nearest without them. Training can
            use them with `gradient="boundary"`.
        norm: `"l2"`, the paper's, or `"linf"`, the largest change of a pixel, by which the nearest boundary is searched
            and its distance measured. Its dual norm measures gradients: for `"linf"` the sum of their absolute values.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> found = keras_amm.DeepFool().perturb(model, np.random.rand(5, 2))
    >>> found.norm.shape
    TensorShape([5])

    Reference: Moosavi-Dezfooli et al. (2016), Section 3.4 for other norms; Equations 2-4 of the paper.
    """

    def __init__(
        self,
        max_iterations: int = 6,
        num_candidates: int = 10,
        overshoot: float = 0.02,
        refine_steps: int = 0,
        from_logits: bool | None = None,
        deviation: float | Sequence[float] | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        norm: str = "l2",
    ) -> None:
        super().__init__(
            refine_steps=refine_steps, from_logits=from_logits, deviation=deviation, bounds=bounds, norm=norm
        )
        require_whole("max_iterations", max_iterations, 1)
        require_whole("num_candidates", num_candidates, 2)
        require_real("overshoot", overshoot, lambda v: v >= 0, "at least 0")
        self.max_iterations = int(max_iterations)
        self.num_candidates = int(num_candidates)
        self.overshoot = overshoot

    def path(
        self,
        classifier: Classifier,
        clean: CleanPass,
        labels: Tensor | None,
        *,
        screening: float | None = None,
        keep_path: bool = False,
    ) -> Path:
        """Search with the settings of this attack; see `keras_amm.search.loop.search`.

        Args:
            classifier: the network.
            clean: its pass over the images.
            labels: int32 tensor [B], or None.
            screening: how many correct samples to search, as a fraction of the batch, or None for all.
            keep_path: bool, whether to record the steps.

        Returns:
            The recorded `Path`.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier = keras_amm.network.classifier.Classifier(model)
        >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((1, 2)))
        >>> path = keras_amm.DeepFool().path(classifier, clean, None)
        >>> path.success.shape
        TensorShape([1])
        """
        box, checks = box_around(clean.x, self.bounds, self.deviation)
        path = search(
            classifier,
            clean,
            labels,
            max_iterations=self.max_iterations,
            num_candidates=self.num_candidates,
            overshoot=self.overshoot,
            screening=screening,
            keep_path=keep_path,
            box=box,
        )
        return path._replace(checks=[*path.checks, *checks])

    def for_labels(self) -> "DeepFool":
        """This attack for images that all go towards their labels: two candidates, since more repeat the label.

        Returns:
            A `DeepFool`.

        Example:
        >>> keras_amm.DeepFool(overshoot=0.1).for_labels().overshoot
        0.1
        """
        return changed(self, num_candidates=2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation.

        Returns:
            A dictionary.

        Example:
        >>> keras_amm.DeepFool(overshoot=0.1).get_config()["overshoot"]
        0.1
        """
        return {
            "max_iterations": self.max_iterations,
            "num_candidates": self.num_candidates,
            "overshoot": self.overshoot,
            **super().get_config(),
        }
