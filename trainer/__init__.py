"""The trainer: snapshots, mines, fine-tunes, evaluates and records. Importing it loads nothing heavy."""
