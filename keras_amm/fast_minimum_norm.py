"""Fast Minimum-Norm: gradient steps in a ball whose radius follows the boundary."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_amm.arguments import require_real, require_whole
from keras_amm.attack import SHARED, Attack, Bound, changed
from keras_amm.deepfool import DeepFool
from keras_amm.network.classifier import Classifier
from keras_amm.search.box import box_around
from keras_amm.search.fast_minimum_norm import Schedule, search
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.path import Path
from keras_amm.typing import Tensor

# At the end, steps are this part of their first size, and the radius changes by this fraction, as in the paper.
_LAST_STEP, _LAST_GAMMA = 0.01, 0.001


@keras.saving.register_keras_serializable(package="keras_amm")
class FastMinimumNorm(Attack):
    """The Fast Minimum-Norm attack (FMN), batched, in the l2 or the l-infinity norm.

    Each step computes one gradient, of the best other class's logit less that
    of the image's class, and goes along it within a ball around the image.
    The ball shrinks by the fraction gamma while the point in it is beyond the
    boundary, and grows while it is not. So the point slides along the boundary
    towards where it is nearest. The smallest perturbation on the way that
    changes the prediction is the result. Step size and gamma fall along half a
    cosine, to a hundredth of the first step and to 0.001.

    Ours are

    - the start from another attack's point, whose norm is the ball's first
      radius; the paper starts from another class's image, bisected, or from
      the image itself,
    - with a start and at least 20 steps, two short runs first: one from the
      start's point and one from the image, since they may end at different
      classes. Each has a quarter of the steps, at most 10, and a gamma of its
      own. The rest of the steps goes on from the nearer of the two points,
    - the unit of the step size, the ball's radius, so that the units of the
      images do not matter,
    - that the ball never grows beyond the best point, and while there is none
      at most doubles in a step, up to four times the first perturbation,
    - the attack towards the label of misclassified images.

    Where no point beyond the boundary is found, the result is the start's, or
    without a start the first step.

    Args:
        steps: int, the gradients of each image, besides those of the start.
        start: the attack whose points are made better, `DeepFool()` by
            default; None to start from the images. No result is farther than
            the start's. `from_logits`, `deviation` and `bounds` are the same
            for both attacks, and may be given to either.
        step_size: float > 0, the first step, in radii of the ball.
        gamma: float in (0, 1), by what fraction the ball first shrinks and grows, but in the two short runs.
        refine_steps: int, bisection steps at the end, along the perturbation.
        from_logits: as in `DeepFool`.
        deviation: as in `DeepFool`.
        bounds: the smallest and the largest value of a pixel, in the units of
            the images given, such as `(0, 1)`, each a number or one for each
            channel. As in the paper every point is clipped to them; ours is
            that pixels at a bound do not take part in a step beyond it. None
            for no bounds.
        norm: `"l2"` or `"linf"`, as in `DeepFool`, of this attack and of the start; None for the start's, and for
            `"l2"` where there is none.

    Raises:
        TypeError: the start is no attack.
        ValueError: an argument is out of its range, or the start has other `bounds`, `deviation` or `from_logits`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3)])
    >>> x = np.random.rand(5, 2)
    >>> found = keras_amm.FastMinimumNorm().perturb(model, x)
    >>> bool(np.all(found.norm <= keras_amm.DeepFool().perturb(model, x).norm))
    True

    Reference: Pintor et al., "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints", NeurIPS 2021.
    """

    def __init__(
        self,
        steps: int = 30,
        start: Attack | None = DeepFool(),  # noqa: B008
        step_size: float = 2.0,
        gamma: float = 0.05,
        refine_steps: int = 0,
        from_logits: bool | None = None,
        deviation: float | Sequence[float] | None = None,
        bounds: tuple[Bound, Bound] | None = None,
        norm: str | None = None,
    ) -> None:
        if start is not None and not isinstance(start, Attack):
            raise TypeError(f"`start` must be a keras_amm.Attack, such as DeepFool(), or None. Received: {start!r}.")
        norm = norm or ("l2" if start is None else start.norm)
        super().__init__(
            refine_steps=refine_steps, from_logits=from_logits, deviation=deviation, bounds=bounds, norm=norm
        )
        require_whole("steps", steps, 1)
        require_real("step_size", step_size, lambda v: v > 0, "greater than 0")
        require_real("gamma", gamma, lambda v: 0 < v < 1, "between 0 and 1")
        self.steps = int(steps)
        self.start = None if start is None else self._sharing(start)
        self.step_size = step_size
        self.gamma = gamma

    def path(self, classifier: Classifier, clean: CleanPass, labels: Tensor | None) -> Path:
        """The search itself, before any bisection.

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
        >>> keras_amm.FastMinimumNorm().path(classifier, clean, None).success.shape
        TensorShape([1])
        """
        box, checks = box_around(clean.x, self.bounds, self.deviation)
        path = search(
            classifier,
            clean,
            labels,
            None if self.start is None else self.start.path(classifier, clean, labels),
            steps=self.steps,
            step_size=Schedule(self.step_size, _LAST_STEP * self.step_size),
            gamma=Schedule(self.gamma, min(self.gamma, _LAST_GAMMA)),
            box=box,
        )
        return path._replace(checks=[*path.checks, *checks])

    def for_labels(self) -> "FastMinimumNorm":
        """This attack for images that all go towards their labels: from a start for such images.

        Returns:
            A `FastMinimumNorm`.

        Example:
        >>> keras_amm.FastMinimumNorm().for_labels().start.num_candidates
        2
        """
        start = None if self.start is None else self.start.for_labels()
        return changed(self, start=start)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation.

        Returns:
            A dictionary.

        Example:
        >>> keras_amm.FastMinimumNorm(steps=9).get_config()["steps"]
        9
        """
        return {
            "steps": self.steps,
            "start": None if self.start is None else keras.saving.serialize_keras_object(self.start),
            "step_size": self.step_size,
            "gamma": self.gamma,
            **super().get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FastMinimumNorm":
        """The attack of a configuration.

        Args:
            config: what `get_config` returned.

        Returns:
            A `FastMinimumNorm`.

        Example:
        >>> attack = keras_amm.FastMinimumNorm(start=keras_amm.DeepFool(2))
        >>> keras_amm.FastMinimumNorm.from_config(attack.get_config()).start.max_iterations
        2
        """
        start = config.get("start")
        if isinstance(start, dict):
            config = {**config, "start": keras.saving.deserialize_keras_object(start)}
        return cls(**config)

    def _sharing(self, start: Attack) -> Attack:
        """A copy of the start, so that the default of all is never changed; it and this attack share four settings."""
        for name in ("from_logits", "deviation", "bounds"):
            own, other = getattr(self, name), getattr(start, name)
            if own is None:
                setattr(self, name, other)
            elif other not in (None, own):
                raise ValueError(f"The start must have the same `{name}`, or None. Received: {own!r} and {other!r}.")
        return changed(start, **{name: getattr(self, name) for name in SHARED})
