"""The backend of Keras, which must be TensorFlow."""

import keras


def require_tensorflow() -> None:
    """Refuse another backend of Keras than TensorFlow, whose training loop and tapes the library uses.

    Raises:
        ImportError: Keras has another backend.

    Example:
    >>> require_tensorflow()
    """
    backend = keras.config.backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_amm needs the TensorFlow backend of Keras. Set it before Keras is imported, by the environment "
            'variable KERAS_BACKEND=tensorflow or by "backend": "tensorflow" in ~/.keras/keras.json. '
            f"Received: the backend {backend!r}."
        )
