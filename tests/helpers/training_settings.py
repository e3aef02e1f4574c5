"""The settings of a training as its command line would give them."""

from paper.training import settings as training_settings

DEFAULTS = {
    "groups": None, "amm": True, "method": None, "method_settings": [],
    "init_from": None, "two_step": None, "freeze_batch_normalization": None,
    "epochs": None, "batch_size": None, "learning_rate": None, "drop_at": None, "drop_to": None, "seed": 0,
    "strength": 32.0,
    "aggregation": "min", "shrinkage": "exp", "c": 2.0, "d": 1.0, "gradient": "unrolled", "screening": None,
    "interval": 1, "only_successful": True, "num_candidates": 10, "max_iterations": 6, "validation": False,
    "num_train": 0, "num_random_labels": 0, "augment": True, "shuffle": True, "eval_margins": 0, "log_margins": 0,
    "data_dir": None, "misclassified": None, "max_influence": None, "loss": "cross-entropy",
    "penalty": "paper",
}  # fmt: skip


def resolve(data_set, model, **given):
    return training_settings.resolve(data_set, {**DEFAULTS, "model": model, **given})
