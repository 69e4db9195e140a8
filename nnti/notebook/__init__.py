"""Interactive parts of notebooks: a dashboard of the training, an explorer of its results, a photo box."""

from nnti.notebook import colab
from nnti.notebook.dashboard import watch
from nnti.notebook.explorer import explore
from nnti.notebook.photo import segment_photo
