"""Matrix products of the output head: torch's, and the interface of a faster backend.

A linear layer names the backend for its products in its attribute `products`; without one they are
torch's. `chesboard.cpu` installs such layers. The core itself never imports a backend.

Dimensions: R rows, I inputs, O outputs.
"""

from typing import Protocol

import torch
from torch import Tensor


class Products(Protocol):
    """Products outside of autograd. The caller provides for the backward pass."""

    def linear(self, input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """result_RO = input @ weight.T + bias, in the factors' dtype."""

    def add_product(self, sum_RO: Tensor, left_RI: Tensor, right_IO: Tensor) -> None:
        """sum += left @ right in place: the sum in float32, both factors of one dtype."""


class TorchProducts:
    """Products by torch."""

    def linear(self, input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return torch.nn.functional.linear(input_RI, weight_OI, bias_O)

    def add_product(self, sum_RO: Tensor, left_RI: Tensor, right_IO: Tensor) -> None:
        if sum_RO.dtype == left_RI.dtype:
            sum_RO.addmm_(left_RI, right_IO)
        else:
            sum_RO += left_RI @ right_IO


TORCH_PRODUCTS = TorchProducts()
