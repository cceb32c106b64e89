"""What the request refuses by itself, and that its defaults are those of the commands."""

import pytest

from eval import cli
from eval.request import EvaluationRequest, FeatureRequest
from gan.errors import RequestError


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1; got 0"),
        ({"num_images": 0}, "`num_images` must be at least 1; got 0"),
        ({"ppl_space": "x"}, "`ppl_space` must be one of w, z; got x"),
        ({"ppl_sampling": "half"}, "`ppl_sampling` must be one of end, full; got half"),
    ],
)
def test_values_out_of_range_are_refused(fields, said):
    with pytest.raises(RequestError, match=said):
        EvaluationRequest(**fields)


@pytest.mark.parametrize("command, request_type", [("run", EvaluationRequest), ("reference", FeatureRequest)])
def test_a_command_asks_for_what_the_request_asks_for(command, request_type):
    options = {option.name: option for option in cli.evaluate.commands[command].params}
    for name, value in vars(request_type()).items():
        if name != "rejection":  # which has options of its own
            assert not options[name].required and (not value or options[name].default == value), name
