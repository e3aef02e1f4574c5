"""SuperDeepFool: DeepFool whose perturbation is turned onto the normal of the boundary."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_amm.arguments import require_real, require_whole
from keras_amm.attack import Attack, Bound, changed
from keras_amm.network.classifier import Classifier
from keras_amm.search.box import box_around
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.path import Path
from keras_amm.search.super_deepfool import search
from keras_amm.typing import Tensor


@keras.saving.register_keras_serializable(package="keras_amm")
class SuperDeepFool(Attack):
    """The SuperDeepFool attack SDF(infinity, 1), batched, in the l2 or the l-infinity norm.

    At the nearest point of a boundary the perturbation stands at right angles
    to it, and DeepFool's last point seldom does. So when DeepFool has changed
    the prediction, the whole perturbation is projected on the boundary's
    normal there. If that takes the change back, DeepFool goes on from there,
    and so on, until a projected perturbation changes the prediction; then it
    is bisected.

    Ours are the limit to the number of rounds, that the smallest perturbation
    of all rounds is returned, the attack towards the label of misclassified
    images, that a perturbation along which the target's lead falls is not
    projected, the bounds, and that in the l-infinity norm the projection is
    the shortest perturbation in that norm.

    Args:
        rounds: int, projections after which an image keeps the smallest
            perturbation that was found.
        max_iterations: int, DeepFool's steps from one projection to the next.
        num_candidates: int >= 2, as in `DeepFool`.
        overshoot: float >= 0, as in `DeepFool`.
        refine_steps: int, bisection steps at the end, along the perturbation.
        from_logits: as in `DeepFool`.
        deviation: as in `DeepFool`.
        bounds: as in `DeepFool`. The projection, too, is the nearest point
            within them.
        norm: `"l2"` or `"linf"`, as in `DeepFool`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> keras_amm.SuperDeepFool().perturb(model, np.random.rand(5, 2)).norm.shape
    TensorShape([5])

    Reference: Abdollahpoorrostam et al., "Revisiting DeepFool: generalization and improvement", 2023.
    """

    def __init__(
        self,
        rounds: int = 10,
        max_iterations: int = 6,
        num_candidates: int = 10,
        overshoot: float = 0.02,
        refine_steps: int = 10,
        from_logits: bool | None = None,
        deviation: float | Sequence[float] | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        norm: str = "l2",
    ) -> None:
        super().__init__(
            refine_steps=refine_steps, from_logits=from_logits, deviation=deviation, bounds=bounds, norm=norm
        )
        for name, value, least in (
            ("rounds", rounds, 1),
            ("max_iterations", max_iterations, 1),
            ("num_candidates", num_candidates, 2),
        ):
            require_whole(name, value, least)
        require_real("overshoot", overshoot, lambda v: v >= 0, "at least 0")
        self.rounds = int(rounds)
        self.max_iterations = int(max_iterations)
        self.num_candidates = int(num_candidates)
        self.overshoot = overshoot

    def path(self, classifier: Classifier, clean: CleanPass, labels: Tensor | None) -> Path:
        """The search itself, before the bisection.

        Args:
            classifier: the network.
            clean: its pass over the images.
            labels: int32 tensor [B], or None.

        Returns:
            The `Path`, without steps.

        Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> classifier = keras_amm.network.classifier.Classifier(model)
        >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((1, 2)))
        >>> keras_amm.SuperDeepFool().path(classifier, clean, None).success.shape
        TensorShape([1])
        """
        box, checks = box_around(clean.x, self.bounds, self.deviation)
        path = search(
            classifier,
            clean,
            labels,
            rounds=self.rounds,
            max_iterations=self.max_iterations,
            num_candidates=self.num_candidates,
            overshoot=self.overshoot,
            box=box,
        )
        return path._replace(checks=[*path.checks, *checks])

    def for_labels(self) -> "SuperDeepFool":
        """This attack for images that all go towards their labels: two candidates, since more repeat the label.

        Returns:
            A `SuperDeepFool`.

        Example:
        >>> keras_amm.SuperDeepFool().for_labels().num_candidates
        2
        """
        return changed(self, num_candidates=2)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation.

        Returns:
            A dictionary.

        Example:
        >>> keras_amm.SuperDeepFool(rounds=3).get_config()["rounds"]
        3
        """
        return {
            "rounds": self.rounds,
            "max_iterations": self.max_iterations,
            "num_candidates": self.num_candidates,
            "overshoot": self.overshoot,
            **super().get_config(),
        }
