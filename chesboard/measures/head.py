"""What the first DPO step does to the preferred response through the output head.

`docs/theory.md`, equations 18 to 20. Derived from Theorem 3 of Razin et al. (arXiv 2410.08847),
whose coefficients alpha CHES sets to 1. Dimensions: B pairs.
"""

from dataclasses import dataclass

from torch import Tensor

from chesboard.forward.states import HeadGram


@dataclass(frozen=True, slots=True)
class HeadMeasures:
    """Of each pair of a batch, float64 on the CPU; gradients with respect to the unembedding.

    head_shift_B: ||grad z+||^2 - <grad z+, grad z->, the change of log p(y+) per unit of the push
    that DPO's first step of plain gradient descent gives the pair; negative: y+ falls.
    head_cosine_B: <grad z+, grad z-> / (||grad z+|| ||grad z-||) (Yuan et al., arXiv 2410.13828).
    """

    head_shift_B: Tensor
    head_cosine_B: Tensor
    preferred_grad_norm_B: Tensor
    dispreferred_grad_norm_B: Tensor


def head_measures(gram: HeadGram) -> HeadMeasures:
    """The measures of a batch from the inner products of its gradients.

    A response whose gradient is zero (the model is certain of every token) has no cosine: NaN.
    """
    # Rounding may leave a squared norm of a certain response a little below zero.
    preferred_B = gram.preferred_B.clamp(min=0).sqrt()
    dispreferred_B = gram.dispreferred_B.clamp(min=0).sqrt()
    return HeadMeasures(
        head_shift_B=gram.preferred_B - gram.cross_B,
        head_cosine_B=gram.cross_B / (preferred_B * dispreferred_B),
        preferred_grad_norm_B=preferred_B,
        dispreferred_grad_norm_B=dispreferred_B,
    )
