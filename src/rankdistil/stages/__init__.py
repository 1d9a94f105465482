"""What a run does, in its order."""
