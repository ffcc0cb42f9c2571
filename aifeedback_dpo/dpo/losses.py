"""The Diffusion-DPO objective (Wallace et al. 2023, arXiv:2311.12908, Eq. 14 and 46), as pure functions.

b counts pairs. An error is the mean over c, h, w of (prediction - target)**2 in float32, at one timestep and one noise
that both images of the pair share. Every function gives one value a pair; the caller reduces.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


class PairErrors(NamedTuple):
    """One network's denoising errors on the preferred and on the other image of each pair."""

    win: Float[Tensor, " b"]
    lose: Float[Tensor, " b"]


def squared_error(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The mean squared error of each image, in float32 whatever the network runs in.

    A bfloat16 error would be multiplied by beta / 2 and move the loss of identical networks from 0.69 to 3.
    """
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))


def implicit_margin(policy: PairErrors, reference: PairErrors) -> Float[Tensor, " b"]:
    """By how much more than the reference the policy tells the winner from the loser; > 0 is right."""
    return (reference.win - policy.win) - (reference.lose - policy.lose)


def dpo_loss(policy: PairErrors, reference: PairErrors, *, beta: float) -> Float[Tensor, " b"]:
    """-log sigmoid(beta / 2 * margin); beta as in the authors' code (their 5000 is our 5000)."""
    return -logsigmoid(0.5 * beta * implicit_margin(policy, reference))


def implicit_accuracy(policy: PairErrors, reference: PairErrors) -> Float[Tensor, " b"]:
    """1 where the margin is right, 0 where it is wrong, 1/2 where it is zero."""
    return (torch.sign(implicit_margin(policy, reference)) + 1) / 2


def summed_beta(beta: float, elements: int) -> float:
    """The same strength in the convention of Eq. 14, which sums squared errors and has no half; `elements` is c * h * w."""
    return beta / 2 / elements
