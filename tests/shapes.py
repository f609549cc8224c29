"""The type checker that conftest.py has jaxtyping apply to every function of the package, in tests only."""

from collections.abc import Callable
from typing import TypeVar

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception

Function = TypeVar("Function", bound=Callable)


def checked(function: Function) -> Function:
    """beartype, except on methods that name `Self`: it knows that only when it is given the whole class."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function
