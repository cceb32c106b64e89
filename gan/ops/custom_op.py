"""Operators over native kernels that torch.compile, torch.export and the ONNX exporter can trace."""

from collections.abc import Callable
from typing import Any

import torch
from torch.library import custom_op

PLAIN = (torch.Tensor, torch.nn.Parameter)  # tensors with numbers in memory; while tracing there are others


class CustomOp:
    """A kernel, registered with torch as salon::name, with a fake kernel and derivatives.

    schema    of its arguments and results, as torch's dispatcher writes it.
    kernel    the function of tensors and numbers; what it returns is new memory.
    fake      the same arguments -> empty tensors of the same shapes, dtypes and strides.
    plain     the same in operators of torch alone: what torch.jit traces, which knows no custom operators.
    setup     (ctx, inputs, output): keeps in ctx what backward needs.
    backward  (ctx, gradient) -> a gradient for each argument, made of operators that differentiate themselves; of an
              operator with a list of results it takes a list of gradients. None: the operator has no derivatives.

    Outside of tracing, the kernel is called through an autograd.Function of the same derivatives: the dispatcher's way
    to a custom op written in Python takes more than twice as long, and a training step has hundreds of calls.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        kernel: Callable[..., Any],
        fake: Callable[..., Any],
        plain: Callable[..., Any],
        setup: Callable[..., None] | None = None,
        backward: Callable[..., Any] | None = None,
    ) -> None:
        registered = custom_op(f"salon::{name}", kernel, mutates_args=(), schema=schema)
        registered.register_fake(fake)
        self.traced: Any = registered._opoverload
        self.kernel, self.plain, self.function = kernel, plain, None
        if backward:
            assert setup is not None
            registered.register_autograd(backward, setup_context=setup)
            self.function = _function(name, kernel, setup, backward, schema.endswith("Tensor[]"))

    def __call__(self, *arguments: Any) -> Any:
        if torch.compiler.is_compiling() or type(arguments[0]) not in PLAIN:
            return self.traced(*arguments)
        if torch._C._is_tracing():  # torch.jit's
            return self.plain(*arguments)
        if self.function is None or not torch.is_grad_enabled():
            return self.kernel(*arguments)
        return self.function.apply(*arguments)


def _function(
    name: str, kernel: Callable[..., Any], setup: Callable[..., None], backward: Callable[..., Any], of_list: bool
) -> Any:
    def forward(ctx: Any, *arguments: Any) -> Any:
        output = kernel(*arguments)
        setup(ctx, arguments, output)
        return tuple(output) if isinstance(output, list) else output

    def backward_of_list(ctx: Any, *gradients: Any) -> Any:
        return backward(ctx, list(gradients))

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward_of_list if of_list else backward)}
    return type(name, (torch.autograd.Function,), methods)
