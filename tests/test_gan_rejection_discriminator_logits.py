"""One image, one logit: whatever else has one, and in what order."""

import dataclasses

import numpy as np
import pytest
import torch

from gan.data.images import to_float
from gan.errors import RequestError, SalonError
from gan.networks.discriminator import Discriminator
from gan.rejection.discriminator_logits import GROUPS, DiscriminatorLogits, count_references


def images(count, seed):
    return np.random.default_rng(seed).integers(0, 256, [count, 16, 16, 3], np.uint8)


def discriminator(config):
    torch.manual_seed(2)
    return Discriminator(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def D(tiny_network):
    return discriminator(tiny_network)


def test_a_logit_depends_on_its_image_alone(D):
    logits_of, pixels = DiscriminatorLogits(D, images(12, 0)), images(9, 1)
    logits = logits_of(pixels)
    assert logits.dtype == np.float64 and logits.shape == (9,) and len(set(logits)) == 9
    assert np.array_equal(logits_of(pixels[::-1])[::-1], logits)
    assert [logits_of(pixels[i : i + 1])[0] for i in range(9)] == logits.tolist()
    img = to_float(torch.from_numpy(pixels[:8])).permute(0, 3, 1, 2)
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    assert not torch.allclose(D(img)[order], D(img[order]), atol=1e-6)  # which DiscriminatorLogits undoes


def test_a_logit_is_the_mean_over_the_groups(D):
    references, pixels = images(12, 0), images(2, 1)
    logits = DiscriminatorLogits(D, references)(pixels)
    assert count_references(D) == 12 and GROUPS == 4
    for image, logit in zip(pixels, logits, strict=True):
        means = []
        for group in range(4):
            whole = np.stack([image, *references[group::4]])  # 4 images, which D takes as one group
            means.append(D(to_float(torch.from_numpy(whole)).permute(0, 3, 1, 2))[0].item())
        assert logit == pytest.approx(np.mean(means), abs=1e-5)
        assert np.ptp(means) > 1e-6


def test_classes_reach_the_discriminator(tiny_network):
    D = discriminator(dataclasses.replace(tiny_network, num_classes=3))
    logits_of, pixels = DiscriminatorLogits(D, images(12, 0), [1] * 12), images(3, 1)
    logits = logits_of(pixels, [0, 1, 2])
    assert logits.tolist() == [logits_of(pixels[i : i + 1], [i])[0] for i in range(3)]
    assert logits_of(pixels[:1], [1])[0] != logits[0]
    with pytest.raises(RequestError, match="`classes` must be given: the discriminator knows 3"):
        logits_of(pixels)


@pytest.mark.parametrize(("classes", "group"), [(0, 4), (3, 4), (3, 1)])
def test_batches_of_a_gpu_have_the_same_logits(tiny_network, classes, group, monkeypatch):
    # Here on a CPU, to rounding. The last batch is filled up, and no batch has another size.
    D = discriminator(dataclasses.replace(tiny_network, num_classes=classes, mbstd_group_size=group))
    references, pixels = images(4 * (group - 1), 0), images(13, 1)
    of_references, of_pixels = ([i % classes for i in range(n)] if classes else None for n in (len(references), 13))
    expected = DiscriminatorLogits(D, references, of_references)(pixels, of_pixels)
    sizes = set()
    features = D.features
    monkeypatch.setattr(D, "features", lambda img: sizes.add(len(img)) or features(img))
    logits_of = DiscriminatorLogits(D, references, of_references)
    logits_of.batch_size = 5
    sizes.clear()
    found = logits_of(iter(pixels), of_pixels)
    assert sizes == {5} and found.shape == (13,) and np.ptp(expected) > 1e-3
    assert found == pytest.approx(expected, abs=1e-6)


def test_groups_of_one_need_no_references(tiny_network):
    D = discriminator(dataclasses.replace(tiny_network, mbstd_group_size=1))
    pixels = images(3, 1)
    expected = D(to_float(torch.from_numpy(pixels)).permute(0, 3, 1, 2))[:, 0]
    assert DiscriminatorLogits(D, [])(pixels) == pytest.approx(expected.numpy(), abs=1e-5)
    D = discriminator(dataclasses.replace(tiny_network, mbstd_group_size=1, num_classes=3))
    img, c = to_float(torch.from_numpy(pixels)).permute(0, 3, 1, 2), torch.eye(3)
    assert DiscriminatorLogits(D, [])(pixels, [0, 1, 2]) == pytest.approx(D(img, c)[:, 0].numpy(), abs=1e-5)


def test_what_is_refused(D, tiny_network):
    with pytest.raises(ValueError, match="references must be 12 images; got 3 instead"):
        DiscriminatorLogits(D, images(3, 0))
    broken = discriminator(tiny_network)
    broken.b4.out.bias.fill_(torch.nan)
    with pytest.raises(SalonError, match="not finite"):
        DiscriminatorLogits(broken, images(12, 0))(images(1, 1))
