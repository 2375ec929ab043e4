"""The trainer's tiny CLIP, for measurements too."""

from tests.trainer.conftest import tiny_clip

__all__ = ["tiny_clip"]
