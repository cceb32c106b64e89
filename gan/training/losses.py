"""The losses of StyleGAN2. All return one value an image, unless said otherwise."""

import torch
import torch.nn.functional as F


def generator_loss(gen_logits: torch.Tensor) -> torch.Tensor:
    """Non-saturating logistic loss, -log sigmoid(D(G(z))) (Goodfellow et al. 2014); [N, 1]."""
    return F.softplus(-gen_logits)


def discriminator_loss(real_logits: torch.Tensor, gen_logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic loss of the real and of the generated images (Goodfellow et al. 2014); [N, 1] each."""
    return F.softplus(-real_logits), F.softplus(gen_logits)


def r1_penalty(real_img: torch.Tensor, real_logits: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    """||grad_x D(x)||^2 at real images (Mescheder et al. 2018, eq. 9, without gamma/2); [N]. Differentiable.

    `scale` []: the gradient is taken times it, and divided by it afterwards, for networks in float16.
    """
    gradient = _gradient(real_logits, real_img, torch.ones_like(real_logits), scale)
    return gradient.square().sum([1, 2, 3])


def path_lengths(
    img: torch.Tensor, ws: torch.Tensor, noise: torch.Tensor, scale: torch.Tensor | None = None
) -> torch.Tensor:
    """||J_w^T y|| for unit-variance `noise` of the image's shape (Karras et al. 2020, eq. 4); [N]. Differentiable.

    y is scaled by 1/sqrt(H*W), and the norm is averaged over the layers' ws, so that lengths do not depend on either.
    `scale` is as of r1_penalty.
    """
    deviation = (img.shape[2] * img.shape[3]) ** -0.5
    gradient = _gradient(img, ws, noise * deviation, scale)  # [N, num_ws, w_dim]
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(
    lengths: torch.Tensor, mean: torch.Tensor, decay: float, batch_mean: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(lengths - a)^2 with the running mean a (Karras et al. 2020, eq. 4) -> penalty [N], the new a.

    The mean of the penalties has a gradient through a, too. `batch_mean` is that of the whole batch where `lengths` are
    a part of it.
    """
    batch_mean = lengths.detach().mean() if batch_mean is None else batch_mean
    mean = mean.lerp(batch_mean, decay)
    # The gradient through a: a constant times the lengths, so that a part of the batch has its part of it. No value.
    through_mean = 2 * decay * (batch_mean - mean) * (lengths - lengths.detach())
    return (lengths - mean).square() - through_mean, mean


def _gradient(y: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    # Of the sum of y times weights with respect to x.
    weights = weights if scale is None else weights * scale
    (gradient,) = torch.autograd.grad(y, x, weights, create_graph=True)
    return gradient if scale is None else gradient / scale
