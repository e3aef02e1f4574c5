"""How many steps a model has been trained, counted on from one `fit` to the next."""

import keras


class TrainingSteps:
    """Counts the training steps of a model inside `fit`, from those that it has done before.

    Args:
        model: `keras.Model`, compiled. Its optimizer says how many there were, so
            a callback makes the counter when a resumed run has restored it.
        every: int, of which steps to tell, the multiples of this number.

    Attributes:
        done: int, the number of steps done.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.compile("sgd", "mse")
    >>> steps = keras_amm.monitoring.training_steps.TrainingSteps(model, every=4)
    >>> steps.begin_epoch()
    >>> steps.advance(batch=2, per_epoch=None), steps.advance(batch=4, per_epoch=None), steps.done
    (False, True, 5)
    """

    def __init__(self, model: keras.Model, every: int) -> None:
        optimizer = model.optimizer
        updates = int(keras.ops.convert_to_numpy(optimizer.iterations))
        self.done = updates * (getattr(optimizer, "gradient_accumulation_steps", None) or 1)
        self._every = every
        self._last_batch = -1

    def begin_epoch(self) -> None:
        """Note that batches are counted from 0 again."""
        self._last_batch = -1

    def advance(self, batch: int, per_epoch: int | None) -> bool:
        """Note the end of one batch or, under `steps_per_execution`, of several.

        Args:
            batch: int, the index of the last one, as Keras tells it.
            per_epoch: int, the number of steps in an epoch; None if unknown.

        Returns:
            Whether one of them was a multiple of `every`.
        """
        # Keras counts beyond the last batch of an epoch.
        batch = min(batch, (per_epoch or batch + 1) - 1)
        before, self.done = self.done, self.done + batch - self._last_batch
        self._last_batch = batch
        return self.done // self._every > before // self._every
