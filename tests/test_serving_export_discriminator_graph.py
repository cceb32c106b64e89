import dataclasses

import numpy as np
import pytest
import torch

from gan.networks.discriminator import Discriminator
from gan.rejection.discriminator_logits import DiscriminatorLogits, count_references
from serving.export.discriminator_graph import LogitOfImage


def images(count: int, seed: int) -> list:
    return list(np.random.default_rng(seed).integers(0, 256, [count, 16, 16, 3], np.uint8))


@pytest.mark.parametrize("group_size", [1, 2, 4])
@pytest.mark.parametrize("num_classes", [0, 2])
def test_the_graph_judges_as_the_critic(tiny_network, num_classes, group_size):
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_network, num_classes=num_classes, mbstd_group_size=group_size)
    D = Discriminator(config).eval().requires_grad_(False)
    for module in D.modules():
        if isinstance(getattr(module, "bias", None), torch.Tensor):
            module.bias.normal_()
    needed = count_references(D)
    references = [images(needed, seed) for seed in range(num_classes or 1)]
    pixels, classes = images(5, 9), [0, 1, 1, 0, 1]
    label = torch.tensor(classes)[:, None] if num_classes else None
    found = LogitOfImage(D, references)(torch.from_numpy(np.stack(pixels)), label)
    for index, image in enumerate(pixels):
        some = [classes[index]] if num_classes else None
        critic = DiscriminatorLogits(D, references[some[0] if some else 0], some and some * needed)
        assert found[index, 0] == pytest.approx(critic([image], some)[0], abs=1e-5)
