"""What a training run survives: kills, signals, faults of the disk, numbers that are not finite."""
