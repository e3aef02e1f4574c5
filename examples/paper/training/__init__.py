"""One training: its settings, the paper's schedules and optimizer, the resumable trainer, and what a run leaves."""
