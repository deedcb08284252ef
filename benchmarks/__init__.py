"""What faceforge is measured with. Run as modules from the repository root: `python -m benchmarks.results`."""
