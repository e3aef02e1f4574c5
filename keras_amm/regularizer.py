"""The margin penalty as a function of a batch's norms: which samples count, and how much."""

from typing import Any

import keras
from keras import ops

from keras_amm import aggregation as aggregations
from keras_amm import shrinkage as shrinkages
from keras_amm.arguments import serialize_function, serialize_schedule
from keras_amm.regularizer_arguments import BEFORE_THEY_EXISTED, OF_PAPER, PLAIN, require_valid
from keras_amm.running import RunningStatistics
from keras_amm.selection import Selection
from keras_amm.strength import StrengthOverTime
from keras_amm.typing import Tensor, TensorLike


@keras.saving.register_keras_serializable(package="keras_amm")
class MarginRegularizer(Selection, StrengthOverTime, keras.layers.Layer):
    """The penalty of a batch's margins (Equation 6), as a serialisable layer.

    `strength / B * [sum_correct R(-c ||delta||) + sum_wrong R(d ||delta||)]` over the samples that the aggregation
    selects, B the whole batch; `AMMModel` computes the norms and their gradients. The defaults have no units, so that
    they fit any images, network and optimizer; `from_paper` has the paper's.

    Args:
        strength: float >= 0, lambda, or a `keras.optimizers.schedules.LearningRateSchedule` of the optimizer's
            iterations. While that is 0 nothing is searched. `"auto"` pulls a correct sample at the boundary as hard as
            `max_influence` allows, and one further away by less, by `min(R'(t), 1)` times that.
            Of more than two classes it is `(30 / z)**2` of that where the logits change by z > 30 over the batch's
            median margin.
        aggregation: `"min"`, `"avg"`, `"nearest"` or a callable, `(norm, labels, correct, success, *, top_fraction)`
            to a mask [B].
        shrinkage: `"lin"`, `"exp"`, `"inv"`, `"hinge"`, or a callable of `t = -c ||delta||` or `t = d ||delta||`.
            For `"hinge"` c is the margin that is wanted: `max(0, c - ||delta||)` and `max(0, c + ||delta||)`.
        c: float > 0, the scale of correctly classified samples.
        d: float > 0, the scale of misclassified samples; of `"auto"` without effect in training.
        top_fraction: float in (0, 1], how much of the batch `"nearest"` and `"min"` look at. With `strength="auto"` and
            two classes `"nearest"` looks at all of it, and `screening` has no effect.
        max_penalty: float > 0, the cap of a sample's `strength * R`, where its gradient ends; LIN and HINGE have none.
        gradient: `"unrolled"`, the exact second-order one; `"masked"`, input gradients held constant; `"boundary"`,
            first-order, from the implicit function theorem at the boundary point.
        screening: float in (0, 1], for `search="exact"`: search this part of the batch, correct ones near by estimate.
        only_successful: bool, whether to ignore samples whose attack failed. If False, the distance they moved is
            their margin: with `DeepFool(max_iterations=1)` that is the linear estimate of Elsayed et al. (2018).
        interval: int >= 1, the training steps from one penalty to the next, which is multiplied by it, caps included.
            In the steps between nothing is searched. That is cheaper, and not the paper's method.
        misclassified: which misclassified samples count: `"all"`; `"farthest"`, one of each label, farthest from it and
            among the first `top_fraction` of the batch (the authors' code under MIN); `"none"` (their `--pos-only`);
            None for what the aggregation does. With `"auto"` they count only with more than two classes and a training
            error below 10%, and are pulled by a quarter of the influence at 1%, and by all of it at 0.27% and below.
        normalize: the unit of the norms that c and d scale: None for the images' (Equation 6); `"input"`, the norm of
            the image (Deep Defense, Equation 5); `"median"`, the running mean of the batches' median margins.
        max_influence: float > 0, the most by which the penalty may pull on a sample's logits, as a multiple of the most
            that cross-entropy can; None for no bound. It is multiplied by `s = max(0.01 / e, 0.1)` where the running
            training error e is above 1%, but with two classes by `0.1 * max(1 - 2e, 0)**3`. With `"auto"` c is
            multiplied by the root of s. Two classes with `"auto"` have u in place of that 0.1, the mean of `1 - p` over
            the batch, p the probability of the label, or of `max(t - p, 0)` where smoothed labels want t of it; c is
            multiplied by `1 - max(1 - 2e, 0)**3 / 2`, but for the hinge, and both are pulled equally.
        warmup_steps: int >= 0, updates in which the strength grows linearly to its full value.
        above_chance: bool, whether there is no penalty until the training's running accuracy is better than chance.
        search: `"exact"`, every sample; `"ranks"`, best first, those that the selection probably depends on;
            `"cheap"`, fewer, by estimates, and without looking where the last, short step of a correct one ends;
            `"rough"`, towards fewer classes, with more last steps not looked at, and of `"avg"` the nearest 70% only.
        relative_clipnorm: float > 0, the largest norm of the penalty's gradient in `fit`, as a multiple of the largest
            running mean of the norm of the loss's gradient in a training that began with new weights; None for no
            limit. `"auto"` is 1.0 where a BatchNormalization is trained, not frozen, and None elsewhere.
        **kwargs: arguments of `keras.layers.Layer`, such as `name`.

    Raises:
        ValueError: an argument is out of its range, or a name is not known.

    Example:
    >>> regularizer = keras_amm.MarginRegularizer.from_paper("min-lin")
    >>> penalty = regularizer(np.array([1.0, 2.0]), np.array([0, 1]), np.array([True, True]), np.array([True, True]))
    >>> float(penalty)
    -0.25

    Reference: Section 3.3, with the caps of the authors' code; `max_influence` and `"nearest"` are ours.
    """

    def __init__(
        self,
        strength: float | keras.optimizers.schedules.LearningRateSchedule | str = "auto",
        aggregation: str | aggregations.Aggregation = "nearest",
        shrinkage: str | shrinkages.Shrinkage = "exp",
        c: float = 3.0,
        d: float = 1.0,
        top_fraction: float = 0.35,
        max_penalty: float = 50.0,
        gradient: str = "boundary",
        screening: float | None = None,
        only_successful: bool = True,
        interval: int = 1,
        misclassified: str | None = "farthest",
        normalize: str | None = "median",
        max_influence: float | None = 4.0,
        warmup_steps: int = 0,
        above_chance: bool = False,
        search: str = "cheap",
        relative_clipnorm: float | str | None = "auto",
        **kwargs: Any,
    ) -> None:
        # Norms stay in the precision of the search.
        super().__init__(autocast=False, **kwargs)
        self._aggregation = aggregations.find_entry(aggregation)
        self._shrinkage = shrinkages.find_entry(shrinkage)
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
        self.interval = interval
        self.misclassified = misclassified
        self.normalize = normalize
        self.max_influence = max_influence
        self.warmup_steps = warmup_steps
        self.above_chance = above_chance
        self.search = search
        self.relative_clipnorm = relative_clipnorm
        require_valid({name: getattr(self, name) for name in ("strength", "aggregation", *PLAIN)})
        self.running: RunningStatistics | None = None
        self.built = True

    @property
    def has_cap(self) -> bool:
        """Whether a sample's `strength * R` is at most `max_penalty`: not of LIN and HINGE, nor if it is automatic."""
        return self._shrinkage.is_capped and not self.is_automatic

    def prepare(self) -> None:
        """Make the weights that the arguments need; `AMMModel` does, in the scope of its strategy."""
        needs = (self.normalize == "median", self.above_chance, self.max_influence, self.relative_clipnorm)
        if self.running is None and (any(needs) or self.search != "exact"):
            self.running = RunningStatistics(name="running")

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
        each = self._shrinkage.penalty_per_sample(
            norm, correct, ops.cast(strength, norm.dtype), c=self.c, d=self.d, max_penalty=self.max_penalty
        )
        total = ops.sum(ops.where(selected, each, ops.zeros_like(each)))
        return self.interval * total / ops.cast(batch_size, norm.dtype)

    def call(
        self, norm: TensorLike, labels: TensorLike, correct: TensorLike, success: TensorLike, step: TensorLike = 0
    ) -> Tensor:
        """The penalty of a batch's norms, by the rules for more than two classes.

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
        """The penalty is a scalar; `norm_shape` is not used. Returns the empty tuple."""
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
            **{name: getattr(self, name) for name in PLAIN},
        }

    @classmethod
    def from_paper(cls, name: str, /, **changes: Any) -> "MarginRegularizer":
        """The paper's own penalty.

        Args:
            name: aggregation and shrinkage: `"avg-lin"`, `"avg-inv"`, `"avg-exp"`, `"min-lin"`, `"min-inv"` or
                `"min-exp"`.
            **changes: arguments that differ from the paper's, such as `gradient="boundary"`.

        Returns:
            A `MarginRegularizer`, of the paper's strength, c and d; all else is as in the authors' code.

        Raises:
            ValueError: there is no such row.

        Example:
        >>> regularizer = keras_amm.MarginRegularizer.from_paper("min-exp")
        >>> regularizer.strength, regularizer.c, regularizer.d
        (32.0, 2.0, 1.0)

        Reference: Table 1 of the paper's appendix; misclassified samples as in the authors' code.
        """
        if name not in OF_PAPER:
            raise ValueError(f"The paper's penalties are {sorted(OF_PAPER)}. Received: {name!r}.")
        return cls(**{**OF_PAPER[name], **changes})

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
        config = {**BEFORE_THEY_EXISTED, **config}
        for name in ("strength", "aggregation", "shrinkage"):
            if isinstance(config.get(name), dict):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
