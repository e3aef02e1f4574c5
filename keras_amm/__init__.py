"""Large input-space margins for Keras classifiers: Adversarial Margin Maximization."""

from keras_amm import aggregation, callbacks, model, plots, shrinkage
from keras_amm.attack import Attack, Perturbation
from keras_amm.deepfool import DeepFool
from keras_amm.execution.backend import require_tensorflow as _require_tensorflow
from keras_amm.fast_minimum_norm import FastMinimumNorm
from keras_amm.margins import evaluate_margins
from keras_amm.model import AMMModel
from keras_amm.regularizer import MarginRegularizer
from keras_amm.report import MarginReport
from keras_amm.super_deepfool import SuperDeepFool
from keras_amm.wrapping import wrap

__version__ = "0.1.0"

__all__ = [
    "AMMModel",
    "Attack",
    "DeepFool",
    "FastMinimumNorm",
    "MarginRegularizer",
    "MarginReport",
    "Perturbation",
    "SuperDeepFool",
    "aggregation",
    "callbacks",
    "evaluate_margins",
    "plots",
    "shrinkage",
    "wrap",
]

_require_tensorflow()

# `keras_amm.model.wrap` is another name of it. That module cannot import it, since `wrap` imports the module.
vars(model)["wrap"] = wrap
