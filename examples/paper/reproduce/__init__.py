"""The paper's tables and figures on toy data and MNIST: what is trained for them, and a report beside its numbers."""
