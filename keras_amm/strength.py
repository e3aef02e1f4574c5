"""How strong the penalty is at each step of training: constant, scheduled, warming up, or in every n-th step only."""

import keras
from keras import ops

from keras_amm.typing import Tensor, TensorLike


class StrengthOverTime:
    """What `MarginRegularizer` knows of its strength, by its arguments of the same names."""

    strength: float | keras.optimizers.schedules.LearningRateSchedule | str
    max_influence: float | None
    interval: int
    warmup_steps: int
    above_chance: bool

    @property
    def is_off(self) -> bool:
        """Whether the strength is the constant 0."""
        return not callable(self.strength) and self.strength == 0

    @property
    def is_automatic(self) -> bool:
        """Whether each sample's strength follows from `max_influence`."""
        return isinstance(self.strength, str)

    @property
    def is_scheduled(self) -> bool:
        """Whether the strength differs from step to step."""
        return callable(self.strength) or self.interval > 1 or self.warmup_steps > 0 or self.above_chance

    def strength_at(self, step: TensorLike) -> Tensor:
        """The strength lambda at a step, 0 in the steps that have no penalty.

        Args:
            step: scalar integer tensor, the optimizer's iterations.

        Returns:
            Scalar float32 tensor; of `"auto"`, `max_influence`, of which the training error or, with two classes, the
            cross-entropy leaves a part.

        Example:
        >>> float(keras_amm.MarginRegularizer(strength=4.0).strength_at(0))
        4.0
        """
        strength = self.max_influence if self.is_automatic else self.strength
        value = ops.cast(strength(step) if callable(strength) else strength, "float32")
        if self.warmup_steps:
            value *= ops.minimum(ops.cast(step, "float32") / self.warmup_steps, 1.0)
        return value if self.interval == 1 else ops.where(step % self.interval == 0, value, ops.zeros_like(value))
