"""Speed, cost and identity, measured: `python -m benchmarks.bench` and its neighbours. README.md has the results."""
