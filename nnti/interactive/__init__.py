"""What notebooks show and ask while a person is there: a dashboard of the training, an explorer of what it learned."""

from nnti.interactive.explorer import explore
from nnti.interactive.photo import segment_photo
from nnti.interactive.watch import watch

__all__ = ["explore", "segment_photo", "watch"]
