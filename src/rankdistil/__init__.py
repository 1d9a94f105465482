"""Small, fast BERT rankers by distillation."""
