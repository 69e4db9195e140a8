"""torch.compile for who may not have a compiler: what cannot be compiled runs as it is."""

import warnings
from typing import Any

from torch import nn

__all__ = ["Compiled"]


class Compiled:
    """Calls a module in compiled form, made at the first call; where that fails, as it is, after one warning.

    One form serves one shape of inputs, which suits training: a further shape is a further compilation, of the same
    length.
    """

    def __init__(self, module: nn.Module):
        import torch._dynamo.exc  # an import of seconds, only for those who ask for it

        self.module = module
        self._failure = torch._dynamo.exc.TorchDynamoException
        self._compiled = torch.compile(module, dynamic=False)

    def __call__(self, *inputs: Any) -> Any:
        if self._compiled is not None:
            try:
                return self._compiled(*inputs)
            except self._failure as error:
                self._compiled = None
                reason = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"{type(self.module).__name__} runs uncompiled, to the same results: torch.compile failed "
                    f"({reason}). It needs a C++ compiler (CPU: for example g++; CUDA: Triton as well); set "
                    "compile=False to do without",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.module(*inputs)
