"""Before anything runs: what is missing, how long it takes, what was typed in vain."""
