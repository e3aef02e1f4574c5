"""Does it help? One setting of the margin penalty for cells of data, network and optimizer that users would recognise.

    pip install -e ".[examples,benchmarks]"
    python -m benchmarks.helps.run
    python -m benchmarks.helps.report

`cells` lists the cells, `arms` what is trained in each, `run` trains and measures what has no record yet, and `report`
writes docs/results/helps.md from the records.
"""
