"""What parameters are drawn from: ranges, choices, plain numbers, and whether two of them meet."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from unseen.ranges import Choice, Parameter, Range, overlaps
from unseen.seeding import generator

PARAMETER: TypeAdapter[Range | Choice] = TypeAdapter(Parameter)
PARAMETERS = (Range(low=-30, high=30), Range(low=3, high=3), Choice(values=(3, 5, 7)), Choice(values=(2,)))

ends = st.tuples(st.integers(-200, 200), st.integers(0, 200)).map(lambda end: Range(low=end[0], high=end[0] + end[1]))


@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_draws_stay_within_the_ends(parameter: Range | Choice) -> None:
    uniform = torch.cat([torch.rand(1000, generator=generator(0, "test")), torch.tensor([0.0, 1 - 2**-24, 1.0])])
    drawn = parameter.map(uniform)
    assert drawn.shape == uniform.shape
    assert drawn.min() >= parameter.low
    assert drawn.max() <= parameter.high


def test_a_range_maps_its_ends_to_the_ends_of_the_uniform_numbers() -> None:
    assert Range(low=-2, high=6).map(torch.tensor([0.0, 0.25, 1.0])).tolist() == [-2, 0, 6]


def test_a_choice_draws_each_value_equally_often_and_no_other() -> None:
    drawn = Choice(values=(3, 5, 7)).map(torch.arange(300) / 300)
    assert {value: int((drawn == value).sum()) for value in (3, 5, 7)} == {3: 100, 5: 100, 7: 100}


def test_the_ends_of_a_choice_are_its_extremes() -> None:
    choice = Choice(values=(5, 1, 3))
    assert (choice.low, choice.high) == (1, 5)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_scaling_a_parameter_scales_its_draws(parameter: Range | Choice) -> None:
    uniform = torch.rand(50, generator=generator(0, "test"))
    assert torch.allclose(parameter.scaled(0.5).map(uniform), 0.5 * parameter.map(uniform))


@pytest.mark.parametrize("number", [3, 3.0])
def test_a_plain_number_is_a_range_of_no_width(number: float) -> None:
    assert PARAMETER.validate_python(number) == Range(low=3, high=3)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_a_parameter_survives_json(parameter: Range | Choice) -> None:
    assert PARAMETER.validate_json(PARAMETER.dump_json(parameter)) == parameter


def test_a_range_upside_down_is_refused_with_a_reason() -> None:
    with pytest.raises(ValidationError, match=r"low is 5, above high, 3: swap them"):
        Range(low=5, high=3)


@pytest.mark.parametrize(
    "wrong", [{"values": []}, {"low": 1}, {"low": 0, "high": float("inf")}, {"low": 0, "high": 1, "mid": 0}, True, "3x"]
)
def test_what_is_no_parameter_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        PARAMETER.validate_python(wrong)


def test_parameters_are_values() -> None:
    assert Range(low=1, high=2) == Range(low=1, high=2)
    assert hash(Range(low=1, high=2)) == hash(Range(low=1, high=2))
    with pytest.raises(ValidationError, match="frozen"):
        Range(low=1, high=2).low = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (Range(low=0, high=1), Range(low=1, high=2), True),
        (Range(low=0, high=1), Range(low=1.01, high=2), False),
        (Range(low=0, high=9), Range(low=3, high=4), True),
        (Choice(values=(2, 3)), Range(low=2.5, high=2.5), True),  # between its ends, though not drawn
        (Choice(values=(2, 3)), Choice(values=(4, 5)), False),
    ],
)
def test_ranges_overlap_where_they_share_a_value(one: Range | Choice, other: Range | Choice, meet: bool) -> None:
    assert overlaps(one, other) is meet
    assert overlaps(other, one) is meet


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ((75, 90), (-70, 70), False),
        ((85, 95), (-90, -85), True),  # 95 is -85, 90 is -90
        ((90, 90), (-90, -90), True),
        ((40, 65), (-30, 30), False),
        ((40, 65), (-70, 70), True),
        ((0, 200), (300, 301), True),  # all directions
        ((-5, 5), (355, 359), True),
        ((-5, 5), (366, 370), False),
        ((-5, 5), (186, 190), False),
    ],
)
def test_directions_overlap_modulo_180(one: tuple[float, float], other: tuple[float, float], meet: bool) -> None:
    first, second = Range(low=one[0], high=one[1]), Range(low=other[0], high=other[1])
    assert overlaps(first, second, 180.0) is meet
    assert overlaps(second, first, 180.0) is meet


@given(one=ends, other=ends, turns=st.integers(-3, 3))
@settings(max_examples=150, deadline=None)
def test_overlap_is_symmetric_and_does_not_see_whole_turns(one: Range, other: Range, turns: int) -> None:
    meet = overlaps(one, other, 180.0)
    assert overlaps(other, one, 180.0) is meet
    assert overlaps(Range(low=one.low + 180 * turns, high=one.high + 180 * turns), other, 180.0) is meet
    # An independent way, exact because the ends are whole degrees.
    degrees = [{degree % 180 for degree in range(int(each.low), int(each.high) + 1)} for each in (one, other)]
    assert meet is bool(degrees[0] & degrees[1])
