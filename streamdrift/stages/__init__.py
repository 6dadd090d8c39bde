"""The stages of the topology: each reads topics, folds, and says what to commit."""
