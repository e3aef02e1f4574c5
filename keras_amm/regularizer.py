"""The margin penalty as a function of a batch's norms: which samples count, and how much."""

from typing import Any

import keras
from keras import ops

from keras_amm import aggregation as aggregations
from keras_amm import shrinkage as shrinkages
from keras_amm.arguments import require_real, require_whole, serialize_function, serialize_schedule
from keras_amm.typing import Tensor, TensorLike

_GRADIENTS = ("unrolled", "masked", "boundary")


@keras.saving.register_keras_serializable(package="keras_amm")
class MarginRegularizer(keras.layers.Layer):
    """The penalty of a batch's margins (Equation 6), as a serialisable layer.

    `strength / B * [sum_correct R(-c ||delta||) + sum_wrong R(d ||delta||)]` over the samples that the aggregation
    selects, B the whole batch. It has no weights; `AMMModel` computes the norms and their gradients.

    Args:
        strength: float >= 0, lambda, or a `keras.optimizers.schedules.LearningRateSchedule` of the optimizer's
            iterations. While it is 0 nothing is searched.
        aggregation: `"min"`, `"avg"`, or a callable `(norm, labels, correct, success, *, top_fraction) -> mask [B]`.
        shrinkage: `"lin"`, `"exp"`, `"inv"`, `"hinge"`, or a callable of `t = -c ||delta||` or `t = d ||delta||`.
            For `"hinge"` c is the margin that is wanted: `max(0, c - ||delta||)` and `max(0, c + ||delta||)`.
        c: float > 0, the scale of correctly classified samples.
        d: float > 0, the scale of misclassified samples.
        top_fraction: float in (0, 1], how much of the batch `"min"` looks at.
        max_penalty: float > 0, the cap of one sample's `strength * R`. Beyond it the sample has no gradient; `"lin"`
            and `"hinge"` are not capped.
        gradient: `"unrolled"`, the exact second-order gradient; `"masked"`, input gradients held constant;
            `"boundary"`, first-order, from the implicit function theorem at the boundary point.
        screening: float in (0, 1], how many of the correctly classified samples, as a fraction of the batch, `"min"`
            searches in full: the nearest by a first-order estimate. None searches all. A fraction smaller than
            `top_fraction` leaves out samples that `"min"` would look at.
        only_successful: bool, whether samples whose attack failed within its step limit count for nothing. If not,
            the way they came counts as their margin: with `DeepFool(max_iterations=1)` that is the linear estimate
            of Elsayed et al. (2018).
        interval: int >= 1, the training steps from one penalty to the next. The penalty is then multiplied by it,
            caps included, and in the steps between nothing is searched. That is cheaper, and not the paper's method.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Raises:
        ValueError: an argument is out of its range, or a name is not known.

    Example:
    >>> regularizer = keras_amm.MarginRegularizer(strength=1.0, shrinkage="lin", c=0.5, d=4.0)
    >>> penalty = regularizer(np.array([1.0, 2.0]), np.array([0, 1]), np.array([True, True]), np.array([True, True]))
    >>> float(penalty)
    -0.25

    Reference: Section 3.3; the defaults are Table 1 of the appendix, MIN+EXP, and the caps those of the authors' code.
    """

    def __init__(
        self,
        strength: float | keras.optimizers.schedules.LearningRateSchedule = 32.0,
        aggregation: str | aggregations.Aggregation = "min",
        shrinkage: str | shrinkages.Shrinkage = "exp",
        c: float = 2.0,
        d: float = 1.0,
        top_fraction: float = 0.2,
        max_penalty: float = 50.0,
        gradient: str = "unrolled",
        screening: float | None = None,
        only_successful: bool = True,
        interval: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(strength, keras.optimizers.schedules.LearningRateSchedule):
            require_real("strength", strength, lambda v: v >= 0, "at least 0, or a LearningRateSchedule")
        require_real("c", c, lambda v: v > 0, "greater than 0")
        require_real("d", d, lambda v: v > 0, "greater than 0")
        require_real("top_fraction", top_fraction, lambda v: 0 < v <= 1, "in (0, 1]")
        require_real("max_penalty", max_penalty, lambda v: v > 0, "greater than 0")
        if gradient not in _GRADIENTS:
            raise ValueError(f"`gradient` must be one of {_GRADIENTS}. Received: gradient={gradient!r}.")
        self._aggregation = aggregations.find_entry(aggregation)
        self._shrinkage = shrinkages.find_entry(shrinkage)
        if screening is not None:
            require_real("screening", screening, lambda v: 0 < v <= 1, "in (0, 1], or None")
            if not self._aggregation.counts_near_only:
                near = " or ".join(repr(e.identifier) for e in aggregations.ENTRIES if e.counts_near_only)
                raise ValueError(
                    "`screening` leaves out samples far from the boundary, which only "
                    f"aggregation={near} never counts. "
                    f"Received: screening={screening!r}, aggregation={aggregation!r}."
                )
        if not only_successful and (gradient == "boundary" or screening is not None):
            raise ValueError(
                "`only_successful=False` counts samples that are not at a boundary, and all must be searched: it goes "
                "neither with gradient='boundary' nor with `screening`. "
                f"Received: gradient={gradient!r}, screening={screening!r}."
            )
        require_whole("interval", interval, 1)
        self.strength = strength
        self.aggregation = self._aggregation.identifier
        self.shrinkage = self._shrinkage.identifier
        self.c = c
        self.d = d
        self.top_fraction = top_fraction
        self.max_penalty = max_penalty
        self.gradient = gradient
        self.screening = screening
        self.only_successful = only_successful
        self.interval = int(interval)
        self.built = True

    @property
    def is_off(self) -> bool:
        """Whether the strength is the constant 0."""
        return not callable(self.strength) and self.strength == 0

    @property
    def is_scheduled(self) -> bool:
        """Whether the strength differs from step to step."""
        return callable(self.strength) or self.interval > 1

    def strength_at(self, step: TensorLike) -> Tensor:
        """The strength lambda at a step, 0 in the steps of an interval that have no penalty.

        Args:
            step: scalar integer tensor, the optimizer's iterations.

        Returns:
            Scalar float32 tensor.

        Example:
        >>> float(keras_amm.MarginRegularizer(strength=4.0).strength_at(0))
        4.0
        """
        value = ops.cast(self.strength(step) if callable(self.strength) else self.strength, "float32")
        return value if self.interval == 1 else ops.where(step % self.interval == 0, value, ops.zeros_like(value))

    def select(self, norm: Tensor, labels: Tensor, correct: Tensor, success: Tensor) -> Tensor:
        """Which samples the penalty counts.

        Args:
            norm: float tensor [B].
            labels: integer tensor [B].
            correct: boolean tensor [B].
            success: boolean tensor [B].

        Returns:
            Boolean tensor [B]; never a sample whose attack failed, if `only_successful`.

        Example:
        >>> mask = keras_amm.MarginRegularizer(aggregation="avg").select(
        ...     np.ones(2), np.zeros(2, int), np.array([True, False]), np.array([True, False]))
        >>> np.asarray(mask)
        array([ True, False])

        Reference: Section 3.3.1.
        """
        success = success if self.only_successful else ops.ones_like(success)
        mask = self._aggregation.function(norm, labels, correct, success, top_fraction=self.top_fraction)
        return ops.logical_and(ops.cast(mask, "bool"), success)

    def max_selected(self, batch_size: int | Tensor, num_classes: int) -> int | Tensor:
        """The largest number of samples that `select` can return.

        Args:
            batch_size: int or scalar integer tensor.
            num_classes: int, the number of classes.

        Returns:
            An int or a scalar integer tensor.

        Example:
        >>> keras_amm.MarginRegularizer().max_selected(100, num_classes=10)
        20
        """
        return self._aggregation.max_selected(batch_size, num_classes, self.top_fraction)

    def penalize(
        self, norm: Tensor, correct: Tensor, selected: Tensor, strength: TensorLike, batch_size: TensorLike
    ) -> Tensor:
        """The penalty of selected norms, differentiable with respect to them.

        Args:
            norm: float tensor [B].
            correct: boolean tensor [B].
            selected: boolean tensor [B].
            strength: scalar float tensor, lambda.
            batch_size: scalar, the size of the whole (global) batch.

        Returns:
            Scalar float tensor, lambda, 1/B and the interval included.

        Example:
        >>> regularizer = keras_amm.MarginRegularizer(shrinkage="exp", c=2.0)
        >>> float(regularizer.penalize(np.zeros(1, "float32"), np.array([True]), np.array([True]), 32.0, 1))
        32.0

        Reference: Equation 6.
        """
        norm = ops.where(selected, norm, ops.zeros_like(norm))
        strength = ops.cast(strength, norm.dtype)
        each = self._shrinkage.penalty_per_sample(
            norm, correct, strength, c=self.c, d=self.d, max_penalty=self.max_penalty
        )
        total = ops.sum(ops.where(selected, each, ops.zeros_like(each)))
        return self.interval * total / ops.cast(batch_size, norm.dtype)

    def call(
        self, norm: TensorLike, labels: TensorLike, correct: TensorLike, success: TensorLike, step: TensorLike = 0
    ) -> Tensor:
        """The penalty of a batch's norms.

        Args:
            norm: float tensor [B], the perturbation norms.
            labels: integer tensor [B], the ground truth.
            correct: boolean tensor [B], whether the sample is correctly classified.
            success: boolean tensor [B], whether the attack succeeded.
            step: scalar integer, the optimizer's iterations, for a scheduled strength.

        Returns:
            Scalar float tensor, lambda and 1/B included.

        Example:
        >>> regularizer = keras_amm.MarginRegularizer(strength=1.0, shrinkage="hinge", c=3.0)
        >>> one = np.ones(1)
        >>> float(regularizer(one, one.astype(int), one.astype(bool), one.astype(bool)))
        2.0
        """
        norm, labels = ops.convert_to_tensor(norm, "float32"), ops.convert_to_tensor(labels)
        correct, success = ops.convert_to_tensor(correct, "bool"), ops.convert_to_tensor(success, "bool")
        selected = self.select(norm, labels, correct, success)
        return self.penalize(norm, correct, selected, self.strength_at(step), ops.shape(norm)[0])

    def compute_output_shape(self, norm_shape: Any, *_: Any) -> tuple[()]:
        """The penalty is a scalar.

        Args:
            norm_shape: not used.

        Returns:
            The empty tuple.

        Example:
        >>> keras_amm.MarginRegularizer().compute_output_shape((8,))
        ()
        """
        return ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation.

        Returns:
            A dictionary.

        Raises:
            ValueError: a callable is not registered with Keras, so that a saved model could not be loaded.

        Example:
        >>> keras_amm.MarginRegularizer().get_config()["shrinkage"]
        'exp'
        """
        return {
            **super().get_config(),
            "strength": serialize_schedule("strength", self.strength) if callable(self.strength) else self.strength,
            "aggregation": serialize_function("aggregation", self.aggregation),
            "shrinkage": serialize_function("shrinkage", self.shrinkage),
            "c": self.c,
            "d": self.d,
            "top_fraction": self.top_fraction,
            "max_penalty": self.max_penalty,
            "gradient": self.gradient,
            "screening": self.screening,
            "only_successful": self.only_successful,
            "interval": self.interval,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MarginRegularizer":
        """The regularizer of a configuration.

        Args:
            config: what `get_config` returned.

        Returns:
            A `MarginRegularizer`.

        Example:
        >>> config = keras_amm.MarginRegularizer(c=3.0).get_config()
        >>> keras_amm.MarginRegularizer.from_config(config).c
        3.0
        """
        config = dict(config)
        for name in ("strength", "aggregation", "shrinkage"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
