"""The demo: a generated channel, and the small encoder that is fine-tuned on it."""
