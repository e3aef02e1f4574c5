"""Images at which the network has no gradient, so that nothing is known of their margins; and what to say of that."""

from keras_amm.typing import TensorLike


def have_no_gradient(norm: TensorLike, success: TensorLike) -> TensorLike:
    """Of searched images, boolean [B]: whether the search could not take a step; of arrays or tensors [B].

    Every gradient of the logits was zero there. An image at a boundary has norm 0 as well, but there the
    search succeeds.

    Example:
    >>> have_no_gradient(np.array([0.0, 0.0, 0.3]), np.array([False, True, False]))
    array([ True, False, False])
    """
    return (norm == 0.0) & ~success


def warning_of_zero_gradients(where: str, attack: str, from_logits: bool | None) -> str:
    """What to say where the gradient is zero; `where` ends a sentence, such as "all 60 images measured".

    The attack is named in the middle of one; `from_logits` is its argument.
    """
    return (
        f"The gradient of the logits with respect to the image is zero at {where}, so {attack} cannot take a step: a "
        "margin of 0 there means that the margin is not known. Likely causes: a cast to integers, a rounding or an "
        "Embedding of pixel values within the network, a tf.stop_gradient, or a network whose units are saturated or "
        "dead, or whose weights are zero. Keep the pixels floating-point numbers on their way through the network, "
        "give them in the range that the network was made for, and see that a tf.GradientTape finds a gradient of "
        f"model(x) with respect to x.{advice_on_logits(from_logits)}"
    )


def advice_on_logits(from_logits: bool | None) -> str:
    """A further sentence where `from_logits=True` was given: of a softmax, None finds the logits; otherwise empty."""
    if not from_logits:
        return ""
    return (
        " The attack has `from_logits=True`: if the model ends in a softmax, which has hardly any gradient where it is "
        "saturated, leave `from_logits` at None, and the logits behind the softmax are found."
    )
