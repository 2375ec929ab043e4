"""Make the trainer's tiny CLIP available to the benchmark tests."""

from tests.trainer.conftest import tiny_clip

__all__ = ["tiny_clip"]
