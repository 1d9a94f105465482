"""Train a stage: ``python train.py +experiment=ranker_distill_6l``. Parents that are missing are trained first."""

from rankdistil.commands import start

if __name__ == "__main__":
    start("train")
