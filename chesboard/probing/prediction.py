"""What theory predicts of a small training step: which tokens gain probability at a position.

Predicted gainers: docs/theory.md, equation 10 (geometry) and equation 25 (squeezing).
Dimensions: V vocabulary, D hidden size.
"""

import torch
from torch import Tensor

from chesboard.pairs import TokenizedPair
from chesboard.records import PredictionKind, Response


def preference_direction(unembedding_VD: Tensor, preferred_id: int, dispreferred_id: int) -> Tensor:
    """d_D = W[y+] - W[y-]: along it a small preference step moves the hidden state at the fork."""
    return (unembedding_VD[preferred_id] - unembedding_VD[dispreferred_id]).float()


def likelihood_direction(unembedding_VD: Tensor, initial_V: Tensor, token_id: int) -> Tensor:
    """d_D = W[y] - sum_v p_v W_v: the gradient of log p(y) with respect to the hidden state."""
    mean_D = initial_V.to(unembedding_VD.device, torch.float32) @ unembedding_VD.float()
    return unembedding_VD[token_id].float() - mean_D


def _step_direction(
    unembedding_VD: Tensor,
    initial_V: Tensor,
    pair: TokenizedPair,
    position: int,
    *,
    cross_entropy: bool,
) -> Tensor | None:
    """Direction in which a small training step moves the hidden state at a position of y+: the
    gradient of the objective's margin, or of log p(y+) for cross-entropy. None where it is zero."""
    preferred_ids = pair.preferred_ids
    if position < pair.fork_position and not cross_entropy:
        return None
    if position == pair.fork_position and not cross_entropy:
        # grad log p(y+) - grad log p(y-): the mean over the vocabulary cancels.
        return preference_direction(
            unembedding_VD, preferred_ids[position], pair.dispreferred_ids[position]
        )
    return likelihood_direction(unembedding_VD, initial_V, preferred_ids[position])


def predicted_changes(unembedding_VD: Tensor, initial_V: Tensor, direction_D: Tensor) -> Tensor:
    """Predicted change of every token's probability, up to a common positive factor (equation 10).

    p_z (<W_z, d> - sum_v p_v <W_v, d>) for every token z, in float64 on the CPU; sums to zero.
    """
    # Moving the hidden state by eps d moves the logits by eps W d ...
    logit_change_V = (unembedding_VD.float() @ direction_D.to(unembedding_VD.device)).double().cpu()
    p_V = initial_V.double()
    # ... and the softmax's Jacobian, diag(p) - p p^T, maps that to the change of probabilities.
    return p_V * (logit_change_V - (p_V * logit_change_V).sum())


def squeezed_changes(initial_V: Tensor, token_id: int) -> Tensor:
    """Predicted change of every token's probability where only log p(y) is pushed down, up to a
    common positive factor (equation 25): p_z (p_z - 1[z = y] + p_y - sum_v p_v^2).

    A step against the gradient e_y - p of log p(y) with respect to the logits. What y loses goes
    where probability is already: most of it to the argmax, while tokens less likely than
    sum_v p_v^2 - p_y lose too ("squeezing", arXiv 2407.10490). In float64 on the CPU; sums to zero.
    """
    p_V = initial_V.double().cpu()
    logit_change_V = p_V.clone()
    logit_change_V[token_id] -= 1
    return p_V * (logit_change_V - (p_V * logit_change_V).sum())


def prediction_kind(pair: TokenizedPair, response: Response, position: int) -> PredictionKind:
    """Behind the fork, y- is pushed down alone, and the softmax decides where its mass goes.
    Everywhere else the geometry of the unembedding does."""
    is_pushed_down = response == "dispreferred" and position > pair.fork_position
    return "squeezing" if is_pushed_down else "geometry"


def predict(
    unembedding_VD: Tensor,
    initial_V: Tensor,
    pair: TokenizedPair,
    response: Response,
    position: int,
    *,
    cross_entropy: bool,
) -> Tensor | None:
    """Change of every token's probability by a small training step at a response position, up to
    a positive factor; float64 on the CPU. None where the step has no gradient there: before the
    fork, where the margin cancels, and at y- under cross-entropy, which does not depend on it."""
    if prediction_kind(pair, response, position) == "squeezing":
        return (
            None if cross_entropy else squeezed_changes(initial_V, pair.dispreferred_ids[position])
        )
    direction_D = _step_direction(
        unembedding_VD, initial_V, pair, position, cross_entropy=cross_entropy
    )
    if direction_D is None:
        return None
    return predicted_changes(unembedding_VD, initial_V, direction_D)
