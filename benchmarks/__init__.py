"""Measurements of what the package claims, one command per claim."""
