"""What the request refuses by itself, and that its defaults are those of the commands."""

import re
from pathlib import Path

import pytest

from eval import cli
from eval.request import ComparisonRequest, EvaluationRequest, FeatureRequest
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


@pytest.mark.parametrize(
    "fields, said",
    [
        ({}, "`evaluated` or `group` must say what to compare, one of the two; got neither"),
        ({"evaluated": (Path("a"),), "groups": ("A=a", "B=b")}, "one of the two; got both"),
        ({"groups": ("A=a,b",)}, "`group` must be given twice or more, to compare groups; got A=a,b alone"),
        ({"groups": ("A=a", "b,c")}, "`group` must be NAME=PATH,PATH,...; got b,c instead"),
        ({"groups": ("A=a,,b", "B=c")}, "`group` must be NAME=PATH,PATH,...; got A=a,,b instead"),
        ({"groups": ("=a", "B=c")}, "got =a instead"),
        ({"groups": ("A=a", "A=b")}, "`group` must have names that differ; got A twice"),
    ],
)
def test_a_comparison_is_of_paths_or_of_groups(fields, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        ComparisonRequest(**fields)


def test_groups_are_read_from_their_text():
    request = ComparisonRequest(groups=("old=a,b/c", " new =x=y, z"))
    assert request.members == {"old": (Path("a"), Path("b/c")), "new": (Path("x=y"), Path("z"))}
    assert ComparisonRequest(evaluated=(Path("a"),)).members == {}
