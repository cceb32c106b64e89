"""The training step against one written out from the papers, on whole batches in float64.

Both draw from torch's global generator, in the same order, from the same seed.
"""

import copy

import numpy as np
import pytest
import torch

from gan.config import NetworkConfig, TrainingConfig
from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.training.learner import Learner

ITERATIONS = 6  # path length steps in 0, 2 and 4, R1 steps in 0 and 3
LABELS = np.array([0, 1, 1, 2, 2, 2])  # of the dataset that a conditional run trains on


class PaperStep:
    """StyleGAN2's step (Karras et al. 2020), with networks of the package and nothing else of it.

    Images that D sees are not augmented.
    """

    def __init__(self, config):
        torch.manual_seed(config.seed)
        self.config = config
        self.G, self.D = Generator(config.network), Discriminator(config.network)
        self.G_ema = copy.deepcopy(self.G)
        self.G_optimizer = self.lazy_adam(self.G, config.pl_interval, active=config.pl_weight > 0)
        self.D_optimizer = self.lazy_adam(self.D, config.r1_interval, active=config.r1_gamma > 0)
        self.pl_mean = torch.zeros([])
        self.iteration = 0

    def lazy_adam(self, network, interval, *, active):
        # Appendix B: c = k / (k + 1), lr' = c lr, beta' = beta^c.
        c = interval / (interval + 1) if active else 1
        betas = (self.config.beta1**c, self.config.beta2**c)
        return torch.optim.Adam(network.parameters(), c * self.config.learning_rate, betas, eps=1e-8, foreach=False)

    def draw(self, n):
        """-> ws of n images, c, noises. w_avg moves towards the ws before mixing (Karras et al. 2019, appendix B)."""
        network, c = self.config.network, None
        if network.num_classes:
            c = torch.eye(network.num_classes)[torch.from_numpy(LABELS)[torch.randint(len(LABELS), [n])]]
        z = torch.randn([n, network.z_dim])
        ws = mixed = self.G.mapping(z, c)
        self.G.mapping.w_avg.copy_(0.995 * self.G.mapping.w_avg + 0.005 * ws[:, 0].detach().mean(dim=0))
        if torch.rand([]) < self.config.style_mixing_prob:  # Karras et al. 2019, section 3.1
            layer = int(torch.randint(1, network.num_ws, []))
            mixed = torch.cat([ws[:, :layer], self.G.mapping(torch.randn_like(z), c)[:, layer:]], dim=1)
        across, down = network.base
        noises = [torch.randn([n, 1, down * scale, across * scale]) for scale in (1, 2, 2)]
        return mixed, c, noises

    def descend(self, network, optimizer, loss, frozen=()):
        parameters = {name: p for name, p in network.named_parameters() if not name.startswith(tuple(frozen))}
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        optimizer.zero_grad()
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        return sum(g.square().sum() for g in gradients if g is not None).sqrt()

    def step(self, pixels, classes):
        config, n, stats = self.config, self.config.batch_size, {}
        frozen = ["b8."][: config.freeze_d]  # Mo et al. 2020, section 3: D's layers next to the image
        real_img = pixels / 127.5 - 1
        real_c = torch.eye(config.network.num_classes)[classes] if config.network.num_classes else None

        # G: -log D(G(z)) (Goodfellow et al. 2014, section 3)
        ws, c, noises = self.draw(n)
        logits = self.D(self.G.synthesis(ws, noises=noises), c)
        loss = -logits.sigmoid().log().mean()
        stats |= {"loss/G": loss, "logits/generated": logits.mean()}
        stats["gradient/G"] = self.descend(self.G, self.G_optimizer, loss)

        # Path lengths: (||J^T y|| - a)^2, a the running mean (section 3.2)
        if config.pl_weight and self.iteration % config.pl_interval == 0:
            ws, _, noises = self.draw(n // config.pl_batch_shrink)
            img = self.G.synthesis(ws, noises=noises)
            y = torch.empty_like(img, memory_format=torch.channels_last).normal_()
            (jacobian,) = torch.autograd.grad((img * y).sum(), ws, create_graph=True)  # [N, num_ws, w_dim]
            lengths = (jacobian.square().sum(dim=2) / (img.shape[2] * img.shape[3])).mean(dim=1).sqrt()
            mean = (1 - config.pl_decay) * self.pl_mean + config.pl_decay * lengths.mean()
            penalty, self.pl_mean = (lengths - mean).square().mean(), mean.detach()
            stats |= {"path_length/mean": lengths.mean(), "path_length/penalty": penalty}
            self.descend(self.G, self.G_optimizer, config.pl_weight * config.pl_interval * penalty)

        # D: -log D(x) - log(1 - D(G(z)))
        ws, c, noises = self.draw(n)
        gen_logits = self.D(self.G.synthesis(ws, noises=noises).detach(), c)
        real_logits = self.D(real_img, real_c)
        loss = -(real_logits.sigmoid().log() + (1 - gen_logits.sigmoid()).log()).mean()
        stats |= {"loss/D": loss, "logits/real": real_logits.mean(), "accuracy/real": (real_logits > 0).float().mean()}
        stats["gradient/D"] = self.descend(self.D, self.D_optimizer, loss, frozen)

        # R1: gamma / 2 ||grad D(x)||^2 (Mescheder et al. 2018, equation 9)
        if config.r1_gamma and self.iteration % config.r1_interval == 0:
            real_img.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.D(real_img, real_c).sum(), real_img, create_graph=True)
            penalty = gradient.flatten(1).norm(dim=1).square().mean()
            stats["r1/penalty"] = penalty
            self.descend(self.D, self.D_optimizer, config.r1_gamma / 2 * config.r1_interval * penalty, frozen)

        # G_ema: half of what it holds is older than the half-life in images (Karras et al. 2018, section 4), which
        # grows with the images that were seen before (Karras et al. 2020, ADA, as published)
        half_life = 1000 * config.ema_kimg
        if config.ema_rampup is not None:
            half_life = min(half_life, config.ema_rampup * self.iteration * n)
        beta = 0.5 ** (n / half_life) if half_life else 0
        self.iteration += 1
        for old, new in zip(self.G_ema.parameters(), self.G.parameters(), strict=True):
            old.data = beta * old.data + (1 - beta) * new.data
        self.G_ema.mapping.w_avg.copy_(self.G.mapping.w_avg)
        return stats


def make_config(num_classes=0, base=(4, 4), image_channels=3, **values):
    sizes = {"z_dim": 6, "w_dim": 5, "mapping_layers": 2, "channel_base": 32, "channel_max": 6, "mbstd_group_size": 2}
    network = NetworkConfig(resolution=8, num_classes=num_classes, base=base, image_channels=image_channels, **sizes)
    defaults = {"batch_size": 4, "pl_interval": 2, "r1_interval": 3, "r1_gamma": 5.0, "beta1": 0.3, "pl_decay": 0.1}
    # Half-lives of 0, 2, 4, 6, 8 and then 9 images.
    defaults |= {"ema_kimg": 0.009, "ema_rampup": 0.5, "learning_rate": 0.003, "seed": 3}
    return TrainingConfig(network=network, dataset="d", **{**defaults, **values})


def batches(config):
    generator = torch.Generator().manual_seed(0)
    for _ in range(ITERATIONS):
        pixels = torch.randint(
            0, 256, [config.batch_size, *config.network.shape.chw], generator=generator, dtype=torch.uint8
        )
        yield pixels, torch.randint(0, 3, [config.batch_size], generator=generator)


def assert_same_optimizer(actual, expected):
    assert actual["state"].keys() == expected["state"].keys()
    torch.testing.assert_close(actual["state"], expected["state"], check_dtype=False)  # of the count of steps
    for name in ("lr", "betas", "eps", "weight_decay", "amsgrad"):
        assert actual["param_groups"][0][name] == pytest.approx(expected["param_groups"][0][name], rel=1e-14)


@pytest.mark.parametrize(
    ("values", "batch_gpu"),
    [
        ({}, None),
        ({"num_classes": 3, "style_mixing_prob": 0.5, "ema_rampup": None}, None),
        ({"augment": "ada", "ada_target": 1.0}, None),  # a target that is never exceeded, so that p stays at 0
        ({"freeze_d": 1}, None),
        ({"r1_gamma": 0.0, "pl_weight": 0.0, "beta1": 0.0}, None),
        ({"num_classes": 3, "batch_size": 8, "freeze_d": 1}, 4),
        ({"batch_size": 8, "pl_batch_shrink": 1, "style_mixing_prob": 0.0}, 2),
        ({"base": (6, 4), "image_channels": 4, "num_classes": 3}, None),
        ({"base": (4, 5), "image_channels": 1, "batch_size": 8}, 4),
    ],
)
def test_iterations_are_those_of_the_papers(double, values, batch_gpu):
    config = make_config(**values)
    learner = Learner(config, torch.device("cpu"), LABELS if config.network.num_classes else None, batch_gpu=batch_gpu)
    stats = [learner.step(*(images[learner.members] for images in batch)) for batch in batches(config)]
    reference = PaperStep(config)
    for actual, batch in zip(stats, batches(config), strict=True):
        expected = reference.step(*batch)
        assert actual.keys() - expected.keys() <= {"augment/rt", "augment/p"}
        torch.testing.assert_close({name: actual[name] for name in expected}, expected, rtol=1e-8, atol=1e-12)
    for name in ("G", "D", "G_ema"):
        actual, expected = getattr(learner, name).state_dict(), getattr(reference, name).state_dict()
        torch.testing.assert_close(
            actual, expected, rtol=1e-8, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )
    torch.testing.assert_close(learner.pl_mean, reference.pl_mean)
    for name in ("G_optimizer", "D_optimizer"):
        assert_same_optimizer(getattr(learner, name).state_dict(), getattr(reference, name).state_dict())
