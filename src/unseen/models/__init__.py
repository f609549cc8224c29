"""Any model as a restorer: our checkpoints, published weights, ONNX, other people's networks and code."""

from unseen.models.foreign import Foreign
from unseen.models.model import Model, always_restoring, turned
from unseen.models.opening import open_model
from unseen.tensors import read_weights

__all__ = ["Foreign", "Model", "always_restoring", "open_model", "read_weights", "turned"]
