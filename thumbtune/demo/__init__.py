"""The embedded default: a channel drawn here, and the small encoder to fine-tune on it."""
