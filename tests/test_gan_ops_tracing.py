"""Each operator as torch's own checks see it, and the networks as torch.compile and torch.export see them."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from test_gan_device import Names
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from gan.networks.discriminator import Discriminator
from gan.networks.generator import Generator
from gan.ops import add_image, bias_act, conv1x1, conv3x3, conv3x3_stride2, sample2d, upfirdn2d


def cases(dtype: torch.dtype):
    """name -> (operator, tensors, the other arguments). No two axes of a case are as long, as far as that can be."""
    torch.manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=dtype, requires_grad=True)

    f = upfirdn2d.setup_filter().to(dtype)
    grid = torch.rand(2, 3, 4, 2, dtype=dtype) * 2 - 1
    modulated = draw(2, 3, 4, 5), draw(3), draw(2, 3), draw(2, 1, 4, 5), None
    const = torch.randn(2, 1, 4, 5, dtype=dtype)  # noise with a strength is a constant
    big, small, weight = draw(2, 3, 5, 7), draw(2, 4, 2, 3), draw(4, 3, 3, 3)
    return {
        "bias_act": (bias_act._bias_act, modulated, ("lrelu", 0.7)),
        "bias_act of one noise": (bias_act._bias_act, (*modulated[:3], draw(1, 1, 4, 5), None), ("lrelu", 0.7)),
        "bias_act of a strength": (bias_act._bias_act, (*modulated[:3], const, draw()), ("lrelu", 0.7)),
        "bias_act of a bias": (bias_act._bias_act, (draw(2, 3, 4, 5), draw(3), None, None, None), ("linear", 0.7)),
        "bias_act of a scale": (bias_act._bias_act, (draw(2, 3, 4, 5), None, draw(2, 3), None, None), ("linear", 1.0)),
        "add_image": (add_image._add_image, (draw(2, 3, 4, 5), draw(2, 3, 4, 5), draw(3)), ()),
        "upfirdn2d up": (upfirdn2d._upfirdn2d, (draw(2, 3, 4, 5),), (f, 2, 1, [2, 1], 4.0, False)),
        "upfirdn2d down": (upfirdn2d._upfirdn2d, (draw(2, 3, 4, 5),), (f, 1, 2, [1, 1], 1.0, True)),
        "upfirdn2d of one pixel": (upfirdn2d._upfirdn2d, (draw(1, 1, 1, 1),), (f, 1, 1, [2, 1], 1.0, False)),
        "conv3x3": (conv3x3._conv3x3, (draw(2, 3, 4, 5), weight), ()),
        "conv3x3_transpose": (conv3x3._conv3x3_transpose, (draw(2, 4, 6, 5), weight), ()),
        "conv3x3_weight_gradient": (conv3x3._conv3x3_weight_gradient, (draw(2, 3, 6, 5), draw(2, 4, 6, 5)), ()),
        "conv3x3_down": (conv3x3_stride2._down, (big, weight), ()),
        "conv3x3_up": (conv3x3_stride2._up, (small, weight), ()),
        "conv3x3_stride2_weight_gradient": (conv3x3_stride2._weight_gradient, (big, small), ()),
        "conv1x1": (conv1x1._conv1x1, (draw(2, 7, 4, 5), draw(2, 3, 7)), ()),
        "conv1x1_kernel_gradient": (conv1x1._conv1x1_kernel_gradient, (draw(2, 3, 4, 5), draw(2, 6, 4, 5)), ()),
        "sample2d": (sample2d._sample, (draw(2, 3, 5, 4),), (grid,)),
        "sample2d_adjoint": (sample2d._adjoint, (draw(2, 3, 3, 4),), (grid, 5, 4)),
    }


NAMES = list(cases(torch.float32))


@pytest.mark.parametrize("name", NAMES)
def test_schema_fake_kernel_and_autograd_are_registered_as_torch_wants(name):
    op, tensors, others = cases(torch.float32)[name]
    opcheck(op.traced, (*tensors, *others))


@pytest.mark.parametrize(
    ("dtype", "needs"),
    [
        (torch.float32, [True, True, True]),
        (torch.bfloat16, [True, True, True]),
        (torch.float64, [True, True, True]),
        (torch.float32, [True, False, False]),
        (torch.float32, [False, True, False]),
    ],
    ids=str,
)
def test_the_backward_operator_of_bias_act_is_registered_too(dtype, needs):
    image, scale = (
        torch.randn(2, 3, 4, 5, dtype=dtype),
        torch.randn(2, 3, dtype=torch.promote_types(dtype, torch.float32)),
    )
    opcheck(bias_act._bias_act_gradients.traced, (image, image, image, scale, None, "lrelu", 0.7, needs))
    opcheck(bias_act._bias_act_gradients.traced, (image, image, None, None, image[:, :1], "linear", 0.7, needs))


def test_third_derivatives_of_bias_act():
    # The gradients' own second derivatives; y, whose sign they go by, is a constant.
    torch.manual_seed(0)
    g, x, noise, scale = (
        torch.randn(shape, dtype=torch.float64) for shape in [(2, 3, 2, 2)] * 2 + [(2, 1, 2, 2), (2, 3)]
    )
    y = torch.randn_like(x)

    def gradients(g, x, scale, noise=None, needs=(True, True, True)):
        return bias_act._bias_act_gradients(g, x, y, scale, noise, "lrelu", 0.7, list(needs))

    alone = [(None, needs) for needs in itertools.product([False, True], repeat=3) if sum(needs) == 1]
    for constants in ((), (noise,), *alone):
        inputs = [t.clone().requires_grad_(True) for t in (g, x, scale)]
        assert gradcheck(lambda *t, constants=constants: gradients(*t, *constants), inputs)
        assert gradgradcheck(lambda *t, constants=constants: gradients(*t, *constants), inputs, fast_mode=True)

    def along(x, v):
        """The derivative of the scale's gradients along v, by g, which is bilinear in x and v."""
        grad_scale = gradients(g.requires_grad_(), x, scale, needs=(False, True, False))[1]
        return torch.autograd.grad(grad_scale, g, v, create_graph=True)[0]

    v = torch.randn_like(scale)
    assert gradcheck(lambda x: along(x, v), x.clone().requires_grad_())
    assert gradcheck(lambda v: along(x, v), v.clone().requires_grad_())


@pytest.mark.parametrize("name", NAMES)
def test_first_and_second_derivatives(name):
    op, tensors, others = cases(torch.float64)[name]
    inputs = [t for t in tensors if t is not None]

    def function(*inputs: torch.Tensor) -> torch.Tensor:
        given = iter(inputs)
        return op.traced(*(None if t is None else next(given) for t in tensors), *others)

    assert gradcheck(function, inputs, fast_mode=True) and gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_registered_operator_is_the_one_called_eagerly(name):
    op, tensors, others = cases(torch.float32)[name]
    given = [t for t in tensors if t is not None and t.requires_grad]
    results = [call(*tensors, *others) for call in (op, op.traced)]
    assert torch.equal(*results)
    first, second = (torch.autograd.grad(y.square().sum(), given) for y in results)
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("name", NAMES)
def test_the_plain_form_computes_the_same(name):
    op, tensors, others = cases(torch.float64)[name]
    torch.testing.assert_close(op.plain(*tensors, *others), op(*tensors, *others))


@pytest.mark.parametrize("name", ["conv1x1", "conv3x3", "sample2d", "upfirdn2d up"])
@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is:DeprecationWarning")  # the ONNX exporter still uses it
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of sizes, which are constants here
def test_what_torch_jit_traces_is_the_plain_form(name):
    op, tensors, others = cases(torch.float32)[name]
    tensors = [t.detach() for t in tensors]
    traced = torch.jit.trace(lambda *t: op(*t, *others), tensors, check_trace=False)
    assert "salon" not in str(traced.inlined_graph) and "aten::" in str(traced.inlined_graph)
    torch.testing.assert_close(traced(*tensors), op.plain(*tensors, *others))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_one_input_alone_is_its_gradient_among_all(name):
    op, tensors, others = cases(torch.float64)[name]
    given = [t for t in tensors if t is not None and t.requires_grad]
    y = op(*tensors, *others)
    v = torch.randn_like(y)
    for alone, expected in zip(given, torch.autograd.grad(y, given, v, retain_graph=True), strict=True):
        inputs = [t if t is None or t is alone else t.detach() for t in tensors]
        (asked,) = torch.autograd.grad(y, alone, v, retain_graph=True)
        (needed,) = torch.autograd.grad(op(*inputs, *others), alone, v)
        torch.testing.assert_close([asked, needed], [expected, expected])


def test_a_backward_pass_computes_only_what_it_leads_to():
    of_weights = {"convolution_backward", "conv3x3_weight_gradient"}
    x, weight = torch.randn(1, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 3, 3, requires_grad=True)
    for call in (conv3x3._conv3x3, conv3x3._conv3x3.traced):
        y = call(x, weight * 1)
        with Names() as image:
            (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        with Names() as both:
            torch.autograd.grad(y.sum(), [x, weight], retain_graph=True)
        with Names() as second:
            g.square().sum().backward()
        assert not image.names & of_weights and both.names & of_weights and second.names & of_weights


def test_operators_differentiate_themselves_but_for_autocast():
    x, y = (torch.randn(2, channels, 5, 7, requires_grad=True) for channels in (3, 4))
    weight, b = torch.randn(4, 3, 3, 3), torch.randn(3)
    for ours, name, plain in (
        (lambda: conv3x3.conv3x3(x, weight), "conv3x3", lambda: F.conv2d(x, weight, padding=1)),
        (lambda: conv3x3_stride2.down(x, weight), "conv3x3_down", lambda: F.conv2d(x, weight, stride=2)),
        (lambda: conv3x3_stride2.up(y, weight), "conv3x3_up", lambda: F.conv_transpose2d(y, weight, stride=2)),
        (lambda: bias_act.bias_act(x, b), "bias_act", lambda: bias_act.bias_act_reference(x, b)),
    ):
        assert ours().grad_fn.name() == f"{name}Backward"
        torch.testing.assert_close(ours(), plain())
        with torch.autocast("cpu", torch.bfloat16):  # which knows torch's own operators
            assert ours().grad_fn.name() == plain().grad_fn.name()
            assert ours().dtype == plain().dtype and torch.equal(ours(), plain())


@pytest.fixture
def networks(tiny_network):
    """A conditional generator and discriminator, and the inputs of twelve images."""
    torch.manual_seed(0)
    config = dataclasses.replace(tiny_network, resolution=8, num_classes=3)
    z, c = torch.randn(12, config.z_dim), torch.eye(3)[torch.arange(12) % 3]
    return Generator(config), Discriminator(config), z, c


def test_both_networks_compile_without_a_graph_break(networks):
    G, D, z, c = networks
    torch._dynamo.reset()
    img = G(z, c, truncation_psi=0.7, noise_mode="const").detach()
    gradients = []
    for generate, discriminate in (
        (G, D),
        (torch.compile(network, fullgraph=True, backend="aot_eager") for network in (G, D)),
    ):
        results = generate(z, c, truncation_psi=0.7, noise_mode="const"), discriminate(img, c)
        for network, result in zip((G.synthesis, D), results, strict=True):
            gradients.append([result, *torch.autograd.grad(result.square().sum(), [*network.parameters()])])
    plain, compiled = gradients[0] + gradients[1], gradients[2] + gradients[3]
    for expected, found in zip(plain, compiled, strict=True):
        torch.testing.assert_close(found, expected)


class WithConstNoise(torch.nn.Module):
    def __init__(self, G: Generator) -> None:
        super().__init__()
        self.G = G

    def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.G(z, c, truncation_psi=0.7, noise_mode="const")


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # torch's own
def test_both_networks_export_with_a_free_batch(networks):
    G, D, z, c = networks
    generate, groups = WithConstNoise(G), torch.export.Dim("groups", min=2, max=64)
    img = generate(z, c).detach()
    for network, inputs, batch, fewer in (
        (generate, (z, c), torch.export.Dim("batch", min=1, max=64), 3),
        (D, (img, c), 4 * groups, 8),
    ):
        program = torch.export.export(network, inputs, dynamic_shapes=({0: batch}, {0: batch}))
        assert "salon.bias_act" in program.graph_module.code
        for count in (len(z), fewer):
            some = [t[:count] for t in inputs]
            torch.testing.assert_close(program.module()(*some), network(*some))
        plain = program.run_decompositions({op.traced: op.plain for op, _, _ in cases(torch.float32).values()})
        assert "salon." not in plain.graph_module.code
        torch.testing.assert_close(plain.module()(*inputs), network(*inputs))
