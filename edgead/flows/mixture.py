"""Hierarchical Gaussian mixture, the base distribution of HGAD, and its losses."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgead.errors import ShapeError

CENTRE_DISTANCE = 5.0
LABEL_SMOOTHING = 0.02
LIKELIHOOD_WEIGHT = 1.0
INFORMATION_WEIGHT = 100.0
LossTerm = Literal["information", "entropy", "intra", "log_sigmoid"]
LOSS_TERMS: tuple[LossTerm, ...] = get_args(LossTerm)


class HierarchicalMixture(nn.Module):
    r"""Mixture of Gaussians of unit covariance: one main centre per class, surrounded by the mixed centres of the class.

    HGAD (Yao et al., 2024, arXiv:2403.13349): between classes :math:`p(z) = \sum_k \pi_k \mathcal N(z; \mu_k, I)`,
    within class y :math:`p(z \mid y) = \sum_i w_{y,i} \mathcal N(z; \nu_{y,i}, I)` with :math:`\nu_{y,1} = \mu_y` and
    :math:`\nu_{y,i} = \mu_y + \delta_{y,i-1}`; :math:`\pi` and :math:`w_y` are the softmax of :math:`\psi` and
    :math:`\phi_y`. The mixed centres follow the main ones and give them no gradient.

    Starts as in the reference implementation: main centres at pairwise distance 5 (a scaled identity, tiled along the
    channels), offsets from N(0, 1), uniform weights. Deviates for K > C, where no tile fits and the published centres
    would all be zero: the rows of as many random orthogonal matrices as needed, of norm 5 / sqrt(2), so that centres
    from one matrix are at distance 5 and those from different ones at 5 in the root mean square.

    Every method is per position. The squared norm of z is the same for all centres, so probabilities of classes and
    components come from :math:`z \cdot \nu - \lVert\nu\rVert^2 / 2`, one 1x1 convolution, and stay exact far from all
    centres. The exported graph has no ReduceLogSumExp or LogSoftmax: TensorRT computes those without subtracting the
    maximum.

    Args:
        channels: Number of channels C of the latent.
        classes: Number of classes K >= 1.
        components: Number of Gaussians M >= 1 per class: the main centre and M - 1 mixed ones.

    Attributes:
        mu: Main centres, `(K, C)`.
        psi: Logits of the class weights, `(K,)`.
        delta: Offsets of the mixed centres, `(K, M-1, C)`.
        phi: Logits of the component weights, `(K, M)`, the main centre first.

    Raises:
        ValueError: If one of the numbers is below 1.

    Example:
        >>> mixture = HierarchicalMixture(channels=8, classes=2, components=3)
        >>> z = mixture.mu[1].detach().view(1, 8, 1, 1)
        >>> mixture.class_affinity(z).argmax(dim=1).item()
        1
        >>> round(mixture.entropy(z).item(), 3)
        0.0
    """

    def __init__(self, channels: int, classes: int, components: int = 10) -> None:
        super().__init__()
        if min(channels, classes, components) < 1:
            raise ValueError(f"channels, classes and components must be >= 1, got {channels}, {classes}, {components}")
        self.channels = channels
        self.classes = classes
        self.components = components
        self.mu = nn.Parameter(_spread_centres(classes, channels))
        self.psi = nn.Parameter(torch.zeros(classes))
        self.delta = nn.Parameter(torch.randn(classes, components - 1, channels))
        self.phi = nn.Parameter(torch.zeros(classes, components))

    def class_affinity(self, z: Tensor) -> Tensor:
        r""":math:`z \cdot \mu_k - \lVert\mu_k\rVert^2 / 2`, `(N, K, h, w)`: `class_logits` up to a term that is the same for all classes."""
        return _affinity(z, self.mu, 0.0)

    def class_logits(self, z: Tensor) -> Tensor:
        r""":math:`-\lVert z - \mu_k\rVert^2 / 2`, `(N, K, h, w)`, nats, <= 0 up to rounding."""
        return self.class_affinity(z) - _half_norm(z).unsqueeze(1)

    def entropy(self, z: Tensor) -> Tensor:
        """Entropy of the class given z, `(N, h, w)`, nats, 0..log K, for equally frequent classes (Eq. 9)."""
        return softmax_entropy(self.class_affinity(z))

    def marginal_log_likelihood(self, z: Tensor, log_det: Tensor) -> Tensor:
        """Log-density without a label, `(N, h, w)`, nats; as in Eq. 6 without the constant -C log(2 pi) / 2."""
        return (
            log_sum_exp(self.class_affinity(z) + log_softmax(self.psi, 0).view(1, -1, 1, 1)) - _half_norm(z) + log_det
        )

    def mutual_information(self, z: Tensor, labels: Tensor) -> Tensor:
        r"""Mutual information of z and the class, `(N, h, w)`, nats; maximised (Eq. 8); 0 for one class.

        :math:`\sum_k q_k (\log p(k \mid z) - \log \pi_k)` with labels smoothed by 0.02,
        :math:`q_k = 0.98\,[k = y] + 0.02 / K`, and weights without a gradient from it.
        """
        log_prior = log_softmax(self.psi.detach(), 0).view(1, -1, 1, 1)
        ratio = log_softmax(self.class_affinity(z) + log_prior) - log_prior
        own = ratio.gather(1, _per_position(labels, z).unsqueeze(1)).squeeze(1)
        return (1.0 - LABEL_SMOOTHING) * own + LABEL_SMOOTHING * ratio.mean(dim=1)

    def component_logits(self, z: Tensor) -> Tensor:
        r""":math:`\log w_{k,i} + z \cdot \nu_{k,i} - \lVert\nu_{k,i}\rVert^2 / 2`, `(N, M K, h, w)`, nats.

        Channel i K + k is component i of class k. Only the offsets and the component weights get gradients.
        """
        nu = self.mu.detach().unsqueeze(0)
        if self.components > 1:
            nu = torch.cat([nu, nu + self.delta.transpose(0, 1)])
        return _affinity(z, nu.reshape(-1, self.channels), log_softmax(self.phi).T.reshape(-1))

    def log_likelihood(self, z: Tensor, log_det: Tensor, class_bias: Tensor | None = None) -> Tensor:
        r"""Log-density `(N, h, w)`, nats, under the components of the allowed classes.

        Args:
            z: Latents `(N, C, h, w)`.
            log_det: Log-determinants `(N, h, w)`, nats.
            class_bias: Bias `(N, K)`, added to the logits of all components of a class: 0 = allowed, -1e4 = excluded. One
                allowed class gives its density, all of them (or None) :math:`\log \sum_k p(z \mid k)` without class
                weights: where only one class explains z, the two agree. An excluded class has no effect unless it
                explains z by 10,000 nats better than the allowed ones.
        """
        logits = self.component_logits(z)
        if class_bias is not None:
            logits = logits + torch.cat([class_bias] * self.components, dim=1).unsqueeze(-1).unsqueeze(-1)
        return log_sum_exp(logits) - _half_norm(z) + log_det + self._gaussian_constant

    def class_log_likelihood(self, z: Tensor, log_det: Tensor, labels: Tensor) -> Tensor:
        """Log-density under the components of the given class, `(N, h, w)`, nats; `labels` as in `hgad_loss`."""
        logits = self.component_logits(z).unflatten(1, (self.components, self.classes))
        index = _per_position(labels, z)[:, None, None].expand(-1, self.components, -1, -1, -1)
        own = logits.gather(2, index).squeeze(2)
        return log_sum_exp(own) - _half_norm(z) + log_det + self._gaussian_constant

    @property
    def _gaussian_constant(self) -> float:
        return -0.5 * self.channels * math.log(2.0 * math.pi)


class HgadLoss(NamedTuple):
    """Terms of `hgad_loss`, each a scalar: the mean over the positions, not weighted.

    Attributes:
        total: Objective to minimise.
        likelihood: Term L_g, nats per channel.
        information: Term L_mi, nats; subtracted.
        entropy: Term L_e, nats.
        intra: Term L_in, nats per channel; 0 in stage 1.
        log_sigmoid: Term L_z; 0 in stage 1 and where it is switched off.
    """

    total: Tensor
    likelihood: Tensor
    information: Tensor
    entropy: Tensor
    intra: Tensor
    log_sigmoid: Tensor


def hgad_loss(
    mixture: HierarchicalMixture,
    z: Tensor,
    log_det: Tensor,
    labels: Tensor,
    stage: int,
    *,
    terms: Collection[LossTerm] = LOSS_TERMS,
) -> HgadLoss:
    r"""Objective of HGAD for one level (Eq. 6, 8, 9 and the within-class terms of the reference implementation).

    .. math:: \lambda_1 L_g - \lambda_2 L_{mi} + L_e \;[+\; L_{in} + L_z \text{ in stage 2}], \qquad
       L_g = -\overline{\log p(z)} / C,\quad L_{in} = -\overline{\log p(z \mid y)} / C,\quad
       L_z = -\overline{\log \sigma(\log p(z \mid y) / C)}

    with :math:`\lambda_1 = 1, \lambda_2 = 100`; L_g and L_in leave the Gaussian constant out. The flow learns from all
    terms, mu from the first three, psi from L_g, delta and phi from the last two. L_z is not known to be in the paper;
    the reference implementation adds it.

    Args:
        mixture: Base distribution of this level.
        z: Latents `(N, C, h, w)`; of random feature vectors `(1, C, 1, n)`.
        log_det: Log-determinants `(N, h, w)`, nats.
        labels: Class indices 0..K-1, int64: `(N,)`, or one per position, `(N, h, w)`.
        stage: 1 for the main centres alone, 2 for all terms.
        terms: Terms that count besides L_g: L_mi, L_e, L_in and L_z; the others are 0.

    Raises:
        ShapeError: If the labels match neither the images nor the positions.
        ValueError: If `stage` is neither 1 nor 2.
    """
    if stage not in (1, 2):
        raise ValueError(f"stage must be 1 or 2, got {stage}")
    likelihood = -mixture.marginal_log_likelihood(z, log_det).mean() / mixture.channels
    none = likelihood.new_zeros(())
    information = mixture.mutual_information(z, labels).mean() if "information" in terms else none
    entropy = mixture.entropy(z).mean() if "entropy" in terms else none
    total = LIKELIHOOD_WEIGHT * likelihood - INFORMATION_WEIGHT * information + entropy
    intra = log_sigmoid = none
    if stage == 2:
        per_channel = mixture.class_log_likelihood(z, log_det, labels) / mixture.channels
        intra = -per_channel.mean() - 0.5 * math.log(2.0 * math.pi) if "intra" in terms else none
        log_sigmoid = -F.logsigmoid(per_channel).mean() if "log_sigmoid" in terms else none
        total = total + intra + log_sigmoid
    return HgadLoss(total, likelihood, information, entropy, intra, log_sigmoid)


def log_sum_exp(x: Tensor, dim: int = 1) -> Tensor:
    """Log of the sum of exponentials over `dim`, which is removed; made of plain operators, for export."""
    top = x.detach().amax(dim, keepdim=True)
    return ((x - top).exp().sum(dim, keepdim=True).log() + top).squeeze(dim)


def softmax_entropy(x: Tensor, dim: int = 1) -> Tensor:
    """Entropy, nats, of the softmax over `dim`, which is removed; never 0 times infinity.

    Example:
        >>> round(softmax_entropy(torch.zeros(1, 4)).item(), 4)  # log 4
        1.3863
    """
    shifted = x - x.detach().amax(dim, keepdim=True)
    weights = shifted.exp()
    total = weights.sum(dim)
    return total.log() - (weights * shifted).sum(dim) / total


def log_softmax(x: Tensor, dim: int = 1) -> Tensor:
    """Log of the softmax: `x` minus its `log_sum_exp`."""
    return x - log_sum_exp(x, dim).unsqueeze(dim)


def _affinity(z: Tensor, centres: Tensor, log_weights: Tensor | float) -> Tensor:
    bias = log_weights - 0.5 * centres.square().sum(dim=1)
    return F.conv2d(z, centres.unsqueeze(-1).unsqueeze(-1), bias)


def _half_norm(z: Tensor) -> Tensor:
    return 0.5 * z.square().sum(dim=1)


def _per_position(labels: Tensor, z: Tensor) -> Tensor:
    shape = (z.shape[0], *z.shape[2:])
    if labels.shape == shape[:1]:
        return labels.view(-1, 1, 1).expand(shape)
    if labels.shape != shape:
        raise ShapeError("labels", expected=f"{shape[:1]} or {shape}", actual=tuple(labels.shape))
    return labels


def _spread_centres(classes: int, channels: int) -> Tensor:
    """Centres `(K, C)` at pairwise distance about 5; see `HierarchicalMixture`."""
    if classes > channels:
        blocks = [torch.linalg.qr(torch.randn(channels, channels))[0] for _ in range(math.ceil(classes / channels))]
        return torch.cat(blocks)[:classes] * (CENTRE_DISTANCE / math.sqrt(2.0))
    scale = CENTRE_DISTANCE / math.sqrt(2 * channels // classes)
    centres = torch.zeros(classes, channels)
    tiles = channels // classes
    centres[:, : tiles * classes] = torch.eye(classes).repeat(1, tiles) * scale
    return centres
