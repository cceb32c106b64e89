"""torch's Adam, without the import of torch's compiler."""

from inspect import unwrap

import torch


class Adam(torch.optim.Adam):
    """torch.optim.Adam as it is outside of a compiled graph.

    torch wraps these methods in marks for its compiler, which the first call of one imports: two seconds at the start
    of every process that trains.
    """

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    add_param_group = unwrap(torch.optim.Adam.add_param_group)
    zero_grad = unwrap(torch.optim.Adam.zero_grad)
    state_dict = unwrap(torch.optim.Adam.state_dict)
    load_state_dict = unwrap(torch.optim.Adam.load_state_dict)
