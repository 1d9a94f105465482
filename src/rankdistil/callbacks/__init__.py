"""Callbacks: they hear step outputs and files, never private state of a module or a dataset."""
