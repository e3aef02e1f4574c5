"""What training and measuring cost, and how tight the margins are: `python -m benchmarks.step_cost` and so on."""
