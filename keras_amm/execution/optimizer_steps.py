"""How many updates an optimizer has made, and of how many training steps each is made."""

import keras


def updates_of(optimizer: keras.optimizers.Optimizer) -> int:
    """The number of updates so far, read outside of a training step.

    Example:
    >>> keras_amm.execution.optimizer_steps.updates_of(keras.optimizers.SGD())
    0
    """
    return int(keras.ops.convert_to_numpy(optimizer.iterations))


def steps_per_update(optimizer: keras.optimizers.Optimizer) -> int:
    """How many training steps make one update: more than one where gradients are accumulated.

    Example:
    >>> scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(gradient_accumulation_steps=4))
    >>> keras_amm.execution.optimizer_steps.steps_per_update(scaled)
    4
    """
    # The optimizer that scales the loss has the iterations of the one within it, but not its accumulation.
    both = (optimizer, getattr(optimizer, "inner_optimizer", optimizer))
    return max(getattr(each, "gradient_accumulation_steps", None) or 1 for each in both)
