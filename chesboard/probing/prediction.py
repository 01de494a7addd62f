"""What theory predicts of a small training step: which tokens gain probability at a position.

Predicted gainers: docs/theory.md, equation 10. Dimensions: V vocabulary, D hidden
size.
"""

import torch
from torch import Tensor

from chesboard.pairs import TokenizedPair
from chesboard.records import Response


def preference_direction(unembedding_VD: Tensor, preferred_id: int, dispreferred_id: int) -> Tensor:
    """d_D = W[y+] - W[y-]: along it a small preference step moves the hidden state at the fork."""
    return (unembedding_VD[preferred_id] - unembedding_VD[dispreferred_id]).float()


def likelihood_direction(unembedding_VD: Tensor, initial_V: Tensor, token_id: int) -> Tensor:
    """d_D = W[y] - sum_v p_v W_v: the gradient of log p(y) with respect to the hidden state."""
    mean_D = initial_V.to(unembedding_VD.device, torch.float32) @ unembedding_VD.float()
    return unembedding_VD[token_id].float() - mean_D


def step_direction(
    unembedding_VD: Tensor,
    initial_V: Tensor,
    pair: TokenizedPair,
    response: Response,
    position: int,
    *,
    cross_entropy: bool,
) -> Tensor | None:
    """Direction in which a small training step moves the hidden state at a response position: the
    gradient of the objective's margin, or of log p(y+) for cross-entropy.

    None where that gradient is zero: before the fork, where both responses ask for the same token
    and the margin cancels, and at y- under cross-entropy, which does not depend on it.
    """
    preferred_ids, dispreferred_ids = pair.preferred_ids, pair.dispreferred_ids
    if cross_entropy:
        if response == "dispreferred" and position > pair.fork_position:
            return None
        return likelihood_direction(unembedding_VD, initial_V, preferred_ids[position])
    if position < pair.fork_position:
        return None
    if position == pair.fork_position:
        # grad log p(y+) - grad log p(y-): the mean over the vocabulary cancels.
        return preference_direction(
            unembedding_VD, preferred_ids[position], dispreferred_ids[position]
        )
    if response == "preferred":
        return likelihood_direction(unembedding_VD, initial_V, preferred_ids[position])
    return -likelihood_direction(unembedding_VD, initial_V, dispreferred_ids[position])


def predicted_changes(unembedding_VD: Tensor, initial_V: Tensor, direction_D: Tensor) -> Tensor:
    """Predicted change of every token's probability, up to a common positive factor (equation 10).

    p_z (<W_z, d> - sum_v p_v <W_v, d>) for every token z, in float64 on the CPU; sums to zero.
    """
    # Moving the hidden state by eps d moves the logits by eps W d ...
    logit_change_V = (unembedding_VD.float() @ direction_D.to(unembedding_VD.device)).double().cpu()
    p_V = initial_V.double()
    # ... and the softmax's Jacobian, diag(p) - p p^T, maps that to the change of probabilities.
    return p_V * (logit_change_V - (p_V * logit_change_V).sum())
