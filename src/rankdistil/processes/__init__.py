"""Several processes: which one this is, what they tell one another, how they start and stop."""
