"""Learning rates that drop at given epochs."""

from collections.abc import Sequence

import keras


def dropping(
    initial: float, drop_at: Sequence[int], drop_to: Sequence[float], steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the optimizer's iterations, so that it resumes with them.

    Args:
        initial: float.
        drop_at: ints, the epochs from which it is lower; none for a constant one.
        drop_to: floats, the factors of the initial one from these epochs on.
        steps_per_epoch: int.

    Returns:
        What `keras.optimizers.Optimizer` takes.

    Example:
    >>> rate = dropping(1.0, drop_at=[2], drop_to=[0.5], steps_per_epoch=10)
    >>> float(rate(19)), float(rate(20))
    (1.0, 0.5)
    """
    if not drop_at:
        return initial
    # Keras keeps a value up to and including its boundary.
    boundaries = [epoch * steps_per_epoch - 1 for epoch in drop_at]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        boundaries, [initial * factor for factor in [1.0, *drop_to]]
    )
