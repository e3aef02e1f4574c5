"""Names for what Keras and TensorFlow leave untyped, so that signatures say what they mean."""

from typing import Any, TypeAlias

# A TensorFlow tensor, or the `keras.ops` tensor of another backend.
Tensor: TypeAlias = Any
# What `tf.convert_to_tensor` takes: a tensor, a NumPy array, a list or a number.
TensorLike: TypeAlias = Any
# A `tf.Variable` or `keras.Variable`.
Variable: TypeAlias = Any
