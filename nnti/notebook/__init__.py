"""What notebooks show while a person is there: a dashboard of the training, an explorer of what it learned."""

from nnti.notebook import colab
from nnti.notebook.dashboard import watch
from nnti.notebook.explorer import explore
from nnti.notebook.photo import segment_photo

__all__ = ["colab", "explore", "segment_photo", "watch"]
