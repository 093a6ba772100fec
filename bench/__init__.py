"""What the service does in a second, each figure beside its floor, measured in one run: `make bench` (docs/benchmarks.md)."""
