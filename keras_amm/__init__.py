"""Large input-space margins for Keras classifiers: Adversarial Margin Maximization."""

from keras_amm import aggregation, callbacks, plots, shrinkage
from keras_amm.deepfool import DeepFool, Perturbation
from keras_amm.margins import evaluate_margins
from keras_amm.model import AMMModel, wrap
from keras_amm.regularizer import MarginRegularizer
from keras_amm.report import MarginReport

__version__ = "0.1.0"

__all__ = [
    "AMMModel",
    "DeepFool",
    "MarginRegularizer",
    "MarginReport",
    "Perturbation",
    "aggregation",
    "callbacks",
    "evaluate_margins",
    "plots",
    "shrinkage",
    "wrap",
]
