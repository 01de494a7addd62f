"""float32 matrix products by the faster of the two libraries that PyTorch is built with.

On a CPU PyTorch multiplies float32 with MKL, which uses AVX-512 on Intel's processors only. On
others that have it (AMD's since Zen 4) oneDNN, which uses it wherever it is, takes as little as
half the time. PyTorch calls oneDNN for float32 only when compiling; what is called here is the
operator that its compiler then calls.

Dimensions: R rows, I inputs, O outputs.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chesboard.cpu.processor import capabilities
from chesboard.products import TORCH_PRODUCTS


@functools.cache
def mkl_is_slow() -> bool:
    """Whether this processor has AVX-512 and MKL would not use it."""
    processor = capabilities()
    return (
        bool(processor.get("avx512_f"))
        and "Intel" not in str(processor.get("cpu_name"))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def is_for(*factors: Tensor) -> bool:
    """Whether oneDNN should multiply these: float32 on a CPU where MKL is slow."""
    return mkl_is_slow() and all(
        factor.dtype == torch.float32 and factor.device.type == "cpu" for factor in factors
    )


def linear(input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """torch.nn.functional.linear without gradient."""
    if not is_for(input_RI, weight_OI):
        return torch.nn.functional.linear(input_RI, weight_OI, bias_O)
    return _linear(input_RI, weight_OI, bias_O)


def add_product(sum_RO: Tensor, left_RI: Tensor, right_IO: Tensor) -> None:
    """sum += left @ right, the sum in float32 and the factors of one dtype; without gradient."""
    if is_for(left_RI, right_IO):
        sum_RO += _linear(left_RI, right_IO.T)
    else:
        TORCH_PRODUCTS.add_product(sum_RO, left_RI, right_IO)


class OneDNNProducts:
    """This module's products as a backend of the output head (`chesboard.products`)."""

    def linear(self, input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        return linear(input_RI, weight_OI, bias_O)

    def add_product(self, sum_RO: Tensor, left_RI: Tensor, right_IO: Tensor) -> None:
        add_product(sum_RO, left_RI, right_IO)


class OneDNNLinear(torch.nn.Linear):
    """A linear layer that differs from torch's in the library that multiplies. Under autocast it is
    torch's; else an input wider than its weights is multiplied in the input's precision."""

    products = OneDNNProducts()
    """Read by `chesboard.model.head_of`."""
    widens_weights = True
    """Read by `chesboard.model.reads_float32_with_narrow_weights`."""

    def forward(self, input: Tensor) -> Tensor:
        if torch.is_autocast_enabled(input.device.type):
            return super().forward(input)
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if input.dtype == torch.float32 != weight.dtype:
            weight, bias = weight.float(), None if bias is None else bias.float()
        if not is_for(input, weight):
            return torch.nn.functional.linear(input, weight, bias)
        if torch.is_grad_enabled():
            result: Tensor = _Linear.apply(input, weight, bias)  # type: ignore[no-untyped-call]
            return result
        return _linear(input, weight, bias)


def install(model: torch.nn.Module) -> None:
    """Let the model's linear layers multiply by this module. Nothing else about them changes:
    names, weights, hooks, and `isinstance(module, torch.nn.Linear)`."""
    for module in model.modules():
        if type(module) is torch.nn.Linear:
            module.__class__ = OneDNNLinear


def uninstall(model: torch.nn.Module) -> None:
    """Make the layers that `install` replaced torch's again."""
    for module in model.modules():
        if type(module) is OneDNNLinear:
            module.__class__ = torch.nn.Linear  # type: ignore[assignment]  # its base class


def is_installed(model: torch.nn.Module) -> bool:
    return any(type(module) is OneDNNLinear for module in model.modules())


class _Linear(torch.autograd.Function):
    """y = x W^T + b with the products of both its derivatives by oneDNN: reverse mode for training,
    forward mode for a pre-flight."""

    @staticmethod
    def forward(ctx: Any, input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(input_RI, weight_OI)
        ctx.save_for_forward(input_RI, weight_OI)
        return _linear(input_RI, weight_OI, bias_O)

    @staticmethod
    def jvp(
        ctx: Any, input_RI: Tensor | None, weight_OI: Tensor | None, bias_O: Tensor | None
    ) -> Tensor:
        """The arguments are the tangents: dy = x dW^T + dx W^T + db."""
        at_input_RI, at_weight_OI = ctx.saved_tensors
        rows = at_input_RI.shape[:-1]
        tangent_RO: Tensor = at_input_RI.new_zeros(*rows, len(at_weight_OI))
        if input_RI is not None:
            tangent_RO += _linear(input_RI.contiguous(), at_weight_OI)
        if weight_OI is not None:
            tangent_RO += _linear(at_input_RI, weight_OI)
        if bias_O is not None:
            tangent_RO += bias_O
        return tangent_RO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RO: Tensor) -> tuple[Tensor | None, ...]:
        input_RI, weight_OI = ctx.saved_tensors
        wants_input, wants_weight, wants_bias = ctx.needs_input_grad
        flat_RO, flat_RI = grad_RO.flatten(0, -2), input_RI.flatten(0, -2)
        return (
            _linear(grad_RO, weight_OI.T) if wants_input else None,
            _linear(flat_RO.T, flat_RI.T) if wants_weight else None,
            flat_RO.sum(0) if wants_bias else None,
        )


def _linear(input_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(input_RI, weight_OI, bias_O, "none", [], "")
    return result
