"""A zoo of small networks, one for each thing that could go wrong."""

import keras

NAMES = (
    "linear",
    "relu_mlp",
    "tanh_mlp",
    "softplus_mlp",
    "max_pool_cnn",
    "avg_pool_cnn",
    "batch_norm_cnn",
    "group_norm_cnn",
    "softmax_head",
    "residual",
    "nested",
)
SMOOTH = ("tanh_mlp", "softplus_mlp", "tanh_cnn")
# Layers between smooth activations, for comparisons with finite differences.
CURVED = ("max_pool_tanh", "strided_tanh", "grouped_tanh", "group_norm_tanh", "squeeze_excite", "dense_block")
SHAPE = (8, 8, 1)
CLASSES = 5


def build(name: str) -> keras.Model:
    """A network of the zoo, with weights as large as a trained one's."""
    inputs = keras.Input(SHAPE, dtype=keras.config.dtype_policy().variable_dtype)
    outputs = _BODIES[name](inputs)
    model = keras.Model(inputs, outputs, name=name)
    if name == "batch_norm_cnn":
        norm = model.get_layer(index=2)
        norm.moving_mean.assign(keras.random.normal(norm.moving_mean.shape, stddev=0.3, seed=5))
        norm.moving_variance.assign(keras.random.uniform(norm.moving_variance.shape, 0.5, 2.0, seed=6))
    return model


def images(number: int, seed: int = 0):
    """Images of the zoo's shape."""
    return keras.ops.convert_to_numpy(keras.random.normal((number, *SHAPE), seed=seed))


def _dense(units: int, activation: str | None = None) -> keras.layers.Dense:
    spread = keras.initializers.RandomNormal(stddev=0.4)
    return keras.layers.Dense(units, activation, kernel_initializer=spread, bias_initializer=spread)


def _conv(filters: int, activation: str | None = None, **options) -> keras.layers.Conv2D:
    spread = keras.initializers.RandomNormal(stddev=0.4)
    options |= {"kernel_initializer": spread, "bias_initializer": spread}
    return keras.layers.Conv2D(filters, 3, activation=activation, **options)


def _mlp(activation: str, head: str | None = None):
    def body(x):
        x = keras.layers.Flatten()(x)
        x = _dense(16, activation)(x)
        x = _dense(12, activation)(x)
        return _dense(CLASSES, head)(x)

    return body


def _cnn(*between, activation: str = "relu"):
    def body(x):
        x = _conv(4)(x)
        for layer in between:
            x = layer()(x)
        x = keras.layers.Activation(activation)(x)
        x = _conv(6, activation)(x)
        return _dense(CLASSES)(keras.layers.Flatten()(x))

    return body


def _residual(x):
    x = _conv(4, "relu")(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    return _dense(CLASSES)(x)


def _squeeze_excite(x):
    """As in SENet, with its ReLU: no step of finite differences is as long as the way to its kink."""
    x = _conv(4, "tanh")(x)
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    scale = _dense(4, "sigmoid")(_dense(2, "relu")(scale))
    x = keras.layers.Multiply()([x, scale])
    return _dense(CLASSES)(keras.layers.Flatten()(x))


def _dense_block(x):
    """As in DenseNet: normalised, convolved, and beside what it was made of."""
    x = _conv(4, "tanh")(x)
    for _ in range(2):
        spread = keras.initializers.RandomUniform(0.5, 2.0, seed=6)
        norm = keras.layers.BatchNormalization(moving_mean_initializer=spread, moving_variance_initializer=spread)
        grown = keras.layers.Activation("tanh")(norm(x))
        x = keras.layers.Concatenate()([x, _conv(2, padding="same")(grown)])
    return _dense(CLASSES)(keras.layers.GlobalAveragePooling2D()(x))


def _nested(x):
    inner = keras.Sequential(
        [keras.Input(SHAPE), _conv(4, "relu"), keras.layers.MaxPooling2D(2), keras.layers.Flatten()]
    )
    x = keras.layers.Rescaling(2.0, offset=-0.1)(x)
    return keras.Sequential([keras.Input((36,)), keras.layers.Dropout(0.5), _dense(CLASSES)])(inner(x))


_BODIES = {
    "linear": lambda x: _dense(CLASSES)(keras.layers.Flatten()(x)),
    "relu_mlp": _mlp("relu"),
    "tanh_mlp": _mlp("tanh"),
    "softplus_mlp": _mlp("softplus"),
    "max_pool_cnn": _cnn(lambda: keras.layers.MaxPooling2D(2, strides=1)),
    "avg_pool_cnn": _cnn(lambda: keras.layers.AveragePooling2D(2)),
    "tanh_cnn": _cnn(lambda: keras.layers.AveragePooling2D(2), activation="tanh"),
    "max_pool_tanh": _cnn(lambda: keras.layers.MaxPooling2D(2), activation="tanh"),
    "strided_tanh": _cnn(lambda: _conv(4, strides=2, padding="same"), activation="tanh"),
    "grouped_tanh": _cnn(lambda: _conv(4, groups=2), activation="tanh"),
    "group_norm_tanh": _cnn(lambda: keras.layers.GroupNormalization(2), activation="tanh"),
    "squeeze_excite": _squeeze_excite,
    "dense_block": _dense_block,
    "batch_norm_cnn": _cnn(keras.layers.BatchNormalization),
    "group_norm_cnn": _cnn(lambda: keras.layers.GroupNormalization(2)),
    "softmax_head": _mlp("relu", "softmax"),
    "residual": _residual,
    "nested": _nested,
}
