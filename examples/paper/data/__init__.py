"""The paper's data sets: training pipelines, whole splits in memory, and the part of MNIST in the repository."""
