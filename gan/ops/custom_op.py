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
              In ctx.needs_input_grad it finds what this backward pass leads to: a gradient with respect to an image
              needs none of the weights'.

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
            setup, backward = _narrowed(setup, backward)
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


def _narrowed(
    setup: Callable[..., None], backward: Callable[..., Any]
) -> tuple[Callable[..., None], Callable[..., Any]]:
    # The same, of which backward is told what is needed now. Torch tells functions in Python only what required
    # gradients when they were called.
    def setup_and_mark(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        setup(ctx, inputs, output)
        ctx.is_tensor = [isinstance(value, torch.Tensor) for value in inputs]

    def backward_of_needed(ctx: Any, *gradients: Any) -> Any:
        edges = iter(ctx.next_functions)
        nodes = [next(edges)[0] if is_tensor else None for is_tensor in ctx.is_tensor]
        ctx.needs_input_grad = tuple(map(leads_to, nodes))
        return backward(ctx, *gradients)

    return setup_and_mark, backward_of_needed


def leads_to(node: Any) -> bool:
    """Whether the backward pass that runs goes on to this node of autograd's graph, one of a next_functions."""
    if node is None:
        return False
    try:
        return bool(torch._C._will_engine_execute_node(node))
    except RuntimeError:  # torch refuses leaves whose gradients are asked for
        return True


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
