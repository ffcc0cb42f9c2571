"""The objectives: Diffusion-DPO (Wallace et al. 2023, arXiv:2311.12908, Eq. 14 and 46) and its successors, as pure functions.

b counts pairs. An error is the mean over c, h, w of (prediction - target)**2 in float32, at one timestep and one noise
that both images of the pair share. Every function gives one value a pair; the caller reduces, losses and never margins.

beta is the authors' (their 5000 is our 5000) and z = beta / 2 * margin is the logit of "the winner is preferred".
docs/objectives.md compares the objectives and says which settings each one reads.
"""
# ruff: noqa: ARG001  what the four arguments of an objective mean is said once, by the protocol

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from aifeedback_dpo.settings.training import PAIRWISE, ObjectiveName

NAMES: tuple[str, ...] = get_args(ObjectiveName)

Link = Callable[[Tensor], Tensor]  # what a pair costs, as a function of z

# MaPO's constants in the authors' code: mapo-t2i/mapo, args.py `snr_value`, and the 1000 training steps of SDXL's schedule.
MAPO_SNR, MAPO_STEPS = 0.5, 1000


class PairErrors(NamedTuple):
    """One network's denoising errors on the preferred and on the other image of each pair."""

    win: Float[Tensor, " b"]
    lose: Float[Tensor, " b"]


@runtime_checkable
class Objective(Protocol):
    """One loss a pair. `preferred` is P(winner preferred) in [1/2, 1], 1 with hard labels; `zero_point` is for KTO only.

    `reference` may be None for those in REFERENCE_FREE.
    """

    def __call__(
        self,
        policy: PairErrors,
        reference: PairErrors | None,
        preferred: Float[Tensor, " b"],
        zero_point: Float[Tensor, ""],
    ) -> Float[Tensor, " b"]: ...


def objective(name: str, *, beta: float, smoothing: float = 0.0, alpha: float = 1.0) -> Objective:
    """The objective of that name (one of NAMES) with its hyperparameters bound.

    `smoothing` is for PAIRWISE, in [0, 1/2), and for robust, in (0, 1/2); `alpha` is for poly; sft reads none of them.
    """
    assert name in NAMES, f"no objective '{name}', only {', '.join(NAMES)}"
    assert 0 <= smoothing < 0.5, f"smoothing {smoothing} is not in [0, 1/2)"
    assert smoothing == 0 or name in (*PAIRWISE, "robust"), f"{name} has no smoothing"
    if name == "robust":
        assert smoothing > 0, "robust needs the rate of flipped labels as smoothing; with 0 it is dpo"
        return partial(robust, beta=beta, smoothing=smoothing)
    if name == "mapo":
        return partial(mapo, beta=beta)
    if name == "kto":
        return partial(kto, beta=beta)
    if name == "sft":
        return sft
    links: dict[str, Link] = {
        "dpo": log_loss,
        "ipo": ipo_loss,
        "hinge": hinge_loss,
        "poly": partial(poly_loss, alpha=alpha),
    }
    return partial(pairwise, link=links[name], beta=beta, smoothing=smoothing)


def squared_error(prediction: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The mean squared error of each image, in float32 whatever the network runs in.

    A bfloat16 error would be multiplied by beta / 2 and move the loss of identical networks from 0.69 to 3.
    """
    return (prediction.float() - target.float()).square().mean(dim=(1, 2, 3))


def implicit_margin(policy: PairErrors, reference: PairErrors) -> Float[Tensor, " b"]:
    """By how much more than the reference the policy tells the winner from the loser; > 0 is right."""
    return (reference.win - policy.win) - (reference.lose - policy.lose)


def implicit_accuracy(policy: PairErrors, reference: PairErrors) -> Float[Tensor, " b"]:
    """1 where the margin is right, 0 where it is wrong, 1/2 where it is zero."""
    return (torch.sign(implicit_margin(policy, reference)) + 1) / 2


def gradient_factor(policy: PairErrors, reference: PairErrors, *, beta: float) -> Float[Tensor, " b"]:
    """sigma(-z) in [0, 1]: how strongly DPO still pulls at each pair; 1/2 for identical networks, 0 for a learned pair."""
    return torch.sigmoid(-0.5 * beta * implicit_margin(policy, reference))


def summed_beta(beta: float, elements: int) -> float:
    """The same strength in the convention of Eq. 14, which sums squared errors and has no half; `elements` is c * h * w."""
    return beta / 2 / elements


def log_loss(z: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """DPO's -log sigma(z)."""
    return -logsigmoid(z)


def ipo_loss(z: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """(z - 1/2)**2 (IPO, Azar et al. 2023, arXiv:2310.12036, Eq. 17), least at the margin 1 / beta.

    It is diffusers' (margin - 1 / (2 b))**2 with b = beta / 2, times b**2. The minimiser is the same, and the gradient is
    of DPO's size (twice DPO's at the start), so that the learning rate and the clipping mean the same.
    """
    return (z - 0.5).square()


def hinge_loss(z: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """max(0, 1 - z) (SLiC, Zhao et al. 2023, arXiv:2305.10425, on DPO's logit)."""
    return torch.relu(1 - z)


def poly_loss(z: Float[Tensor, " b"], *, alpha: float) -> Float[Tensor, " b"]:
    """-log p + alpha (1 - p), p = sigma(z) (Poly-DPO; ViPO, Li et al. 2026, arXiv:2604.24953).

    Its slope in z is -(1 - p)(1 + alpha p): nothing at the start with alpha -2, and uphill below that.
    """
    return -logsigmoid(z) + alpha * torch.sigmoid(-z)


def pairwise(
    policy: PairErrors,
    reference: PairErrors | None,
    preferred: Float[Tensor, " b"],
    zero_point: Float[Tensor, ""],
    *,
    link: Link,
    beta: float,
    smoothing: float,
) -> Float[Tensor, " b"]:
    """P link(z) + (1 - P) link(-z), where P is `preferred` drawn towards 1/2 by the smoothing.

    With DPO's link: soft labels are the cross-entropy against the judge's probability, and smoothing is conservative DPO
    (Mitchell 2023, https://ericmitchell.ai/cdpo.pdf).
    """
    z = _logit(policy, reference, beta=beta)
    target = (1 - smoothing) * preferred + smoothing * (1 - preferred)
    return target * link(z) + (1 - target) * link(-z)


def robust(
    policy: PairErrors,
    reference: PairErrors | None,
    preferred: Float[Tensor, " b"],
    zero_point: Float[Tensor, ""],
    *,
    beta: float,
    smoothing: float,
) -> Float[Tensor, " b"]:
    """DPO's loss of the true labels, without bias, where a share `smoothing` of them is flipped.

    ((1 - s) l(z) - s l(-z)) / (1 - 2 s) (rDPO, Chowdhury et al. 2024, arXiv:2403.00409). It has no lower bound.
    """
    z = _logit(policy, reference, beta=beta)
    return ((1 - smoothing) * log_loss(z) - smoothing * log_loss(-z)) / (1 - 2 * smoothing)


def mapo(
    policy: PairErrors,
    reference: PairErrors | None,
    preferred: Float[Tensor, " b"],
    zero_point: Float[Tensor, ""],
    *,
    beta: float,
) -> Float[Tensor, " b"]:
    """win - beta log sigma(T (h(win) - h(lose))) (MaPO, Hong et al. 2024, arXiv:2406.06424); its beta is about 0.1."""
    ratio = MAPO_STEPS * (_mapo_score(policy.win) - _mapo_score(policy.lose))
    return policy.win - beta * logsigmoid(ratio)


def kto(
    policy: PairErrors,
    reference: PairErrors | None,
    preferred: Float[Tensor, " b"],
    zero_point: Float[Tensor, ""],
    *,
    beta: float,
) -> Float[Tensor, " b"]:
    """1 - utility, the mean of both images (Diffusion-KTO, Li et al. 2024, arXiv:2404.04465, its sigmoid utility).

    The utility of the winner is sigma(beta / 2 q), that of the loser sigma(-beta / 2 q), q = reference - policy - zero point.
    The zero point is what the policy gained on an image in the mean of a whole batch, at least 0. The trainer passes that of
    the step before, so that micro-batches and processes do not change it; the first step's is 0, as the networks are equal.
    """
    assert reference is not None
    win = torch.sigmoid(0.5 * beta * (reference.win - policy.win - zero_point))
    lose = torch.sigmoid(-0.5 * beta * (reference.lose - policy.lose - zero_point))
    return 1 - (win + lose) / 2


def sft(
    policy: PairErrors,
    reference: PairErrors | None,
    preferred: Float[Tensor, " b"],
    zero_point: Float[Tensor, ""],
) -> Float[Tensor, " b"]:
    """The policy's error on the winner: supervised fine-tuning, the baseline that does not see losers."""
    return policy.win


def overlap(winner_residual: Float[Tensor, "b c h w"], loser_residual: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """The mean over c, h, w of the product of the residuals, prediction - target, of a pair's two images.

    To be multiplied by the weight of the timestep wherever the errors are, or the safeguard's scale is off by that weight.
    """
    return (winner_residual * loser_residual).mean(dim=(1, 2, 3))


def safeguard_scale(
    winner_error: Float[Tensor, " b"], overlap: Float[Tensor, " b"], *, mu: float
) -> Float[Tensor, " b"]:
    """The largest share of the loser's gradient, up to 1, that keeps `mu` (in [0, 1]) of the winner's own first-order gain.

    clip((1 - mu) * winner_error / overlap, 0, 1) where the residuals overlap, else 1: Diffusion-SDPO (Fu et al. 2025,
    arXiv:2511.03317) in closed form, in the space of the outputs, and of each pair where the authors' code takes a batch.
    """
    assert 0 <= mu <= 1, f"mu {mu} is not in [0, 1]"
    limit = (1 - mu) * winner_error / overlap
    return torch.where(overlap > 0, limit.clamp(max=1), 1.0).detach()


def safeguarded(policy: PairErrors, overlap: Float[Tensor, " b"], *, mu: float) -> PairErrors:
    """The same errors, with the loser's gradient scaled by `safeguard_scale`.

    The guarantee is for objectives of the margin (PAIRWISE and robust), which pull at both errors with one strength, and
    as long as they ask for a larger margin.
    """
    scale = safeguard_scale(policy.win, overlap, mu=mu)
    value = policy.lose.detach()
    return PairErrors(policy.win, value + scale * (policy.lose - value))


def _logit(policy: PairErrors, reference: PairErrors | None, *, beta: float) -> Float[Tensor, " b"]:
    assert reference is not None
    return 0.5 * beta * implicit_margin(policy, reference)


def _mapo_score(error: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """h(x) = c x / (exp(c x) - 1): 1 at no error, falling; finite, with its gradient, from 0 to where exp overflows."""
    scaled = MAPO_SNR * error
    # The quotient is 0 / 0 at 0 and its gradient cancels near it. The series' next term, scaled**6 / 30240, is below 4e-11.
    small = scaled < 0.1
    series = 1 - scaled / 2 + scaled**2 / 12 - scaled**4 / 720
    large = torch.where(small, 1.0, scaled)  # where() multiplies the gradient of the other branch by 0, and 0 / 0 stays
    return torch.where(small, series, large * torch.exp(-large) / -torch.expm1(-large))
