"""Does AMM help on problems that played no part in choosing its defaults? They were listed before any was measured.

    pip install -e ".[examples,benchmarks]"
    python -m benchmarks.unseen.run

`problems` lists them, `data` has their images, `networks` their networks, and `run` trains and measures what has no
record yet, and prints a table of all records.
"""
