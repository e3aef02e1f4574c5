"""Backends of Keras other than TensorFlow."""

import importlib

import keras
import pytest

import keras_amm


def test_another_backend_is_refused_when_the_library_is_imported(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ImportError, match=r"KERAS_BACKEND=tensorflow .* Received: the backend 'jax'\."):
        importlib.reload(keras_amm)
