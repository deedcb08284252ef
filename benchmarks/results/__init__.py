"""docs/results.md and docs/robustness.md, made from records."""
