"""Randomness has an address: the same address gives the same numbers, another one shares nothing with it."""

from itertools import combinations

import pytest
import torch

from unseen.seeding import generator, noise_field, placed, seed_of, seeded

ADDRESSES: tuple[tuple[int, tuple[str | int, ...]], ...] = (
    (0, ()), (1, ()), (0, ("train",)), (0, ("test",)), (0, ("train", 1)), (0, ("train", 11)), (0, ("train", 1, 1)),
    (1, ("train", 1)), (11, ("train",)), (0, ("tra", "in")), (0, ("train1",)), (0, ("", "train")), (0, ("train", "")),
)  # fmt: skip


def test_the_same_address_gives_the_same_numbers() -> None:
    assert torch.equal(torch.rand(20, generator=generator(3, "a", 7)), torch.rand(20, generator=generator(3, "a", 7)))


def test_addresses_that_differ_anywhere_have_seeds_that_differ() -> None:
    seeds = {seed_of(seed, *address) for seed, address in ADDRESSES}
    assert len(seeds) == len(ADDRESSES)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_do_not_change_between_versions() -> None:
    """A golden number: results on disk depend on it. To regenerate, print the seed; but then every result changes."""
    assert seed_of(0, "train", 17) == 4827409471122932057


def test_many_neighbouring_addresses_do_not_collide() -> None:
    assert len({seed_of(0, "train", index) for index in range(20_000)}) == 20_000


def test_numbers_of_different_addresses_are_independent() -> None:
    draws = [torch.rand(4000, generator=generator(seed, *address)) for seed, address in ADDRESSES]
    for one, other in combinations(draws, 2):
        correlation = torch.corrcoef(torch.stack((one, other)))[0, 1]
        assert abs(correlation) < 5 / 4000**0.5


def test_neighbouring_addresses_are_uniform_in_their_first_number() -> None:
    first = torch.tensor([torch.rand(1, generator=generator(0, "train", index)).item() for index in range(2000)])
    counts = torch.histc(first, 10, 0, 1)
    assert ((counts - 200).abs() < 5 * (200 * 0.9) ** 0.5).all()


def test_order_does_not_matter() -> None:
    forwards = [torch.rand(3, generator=generator(0, "x", index)).tolist() for index in range(5)]
    backwards = [torch.rand(3, generator=generator(0, "x", index)).tolist() for index in reversed(range(5))]
    assert forwards == backwards[::-1]


def test_a_generator_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=generator(0, "x"))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_draws_by_address_and_restores_the_state() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(0, "weights"):
            drawn.append(torch.rand(5))
        torch.rand(3)
    torch.set_rng_state(before)
    assert torch.equal(*drawn)
    with seeded(0, "other"):
        assert not torch.equal(torch.rand(5), drawn[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_restores_the_state_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(0, "weights"):
        torch.rand(5)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_part_of_an_image_has_the_noise_that_the_whole_has_there() -> None:
    whole = noise_field(3, 150, 210, 0, "test")
    assert whole.mean().abs() < 0.02 and abs(whole.std() - 1) < 0.02
    with placed(37, 70):
        part = noise_field(3, 100, 90, 0, "test")
    assert torch.equal(part, whole[:, 37:137, 70:160])
    assert torch.equal(noise_field(3, 5, 5, 0, "test"), whole[:, :5, :5])
