"""Test finished rankers: ``python evaluate.py models=runs/ranker_distill/6l/seed0``."""

from rankdistil.commands import start

if __name__ == "__main__":
    start("evaluate")
