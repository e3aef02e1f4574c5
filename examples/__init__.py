"""The paper's experiments. Scripts run from this folder; `examples.architectures` may be imported."""
