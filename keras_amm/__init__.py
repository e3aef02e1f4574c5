"""Large input-space margins for Keras classifiers: Adversarial Margin Maximization."""

from keras_amm import adjoint, aggregation, checks, classifier, labels, norms, penalty, search, shrinkage
from keras_amm.deepfool import DeepFool, Perturbation
from keras_amm.model import AMMModel, wrap
from keras_amm.regularizer import MarginRegularizer

__version__ = "0.1.0"

__all__ = [
    "AMMModel",
    "DeepFool",
    "MarginRegularizer",
    "Perturbation",
    "aggregation",
    "shrinkage",
    "wrap",
]
