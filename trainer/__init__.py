"""The trainer: snapshots, mining, fine-tuning, evaluation and records. Importing it loads no heavy library."""
