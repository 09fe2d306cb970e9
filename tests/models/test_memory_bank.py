import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest
import torch
from torch import Tensor

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.models.memory_bank import MemoryBank, MemoryBankConfig, cover, nearest

SEEDS = range(6)


def clouds(seed: int, *, images: int = 12, patches: int = 40, features: int = 6) -> dict[str, Tensor]:
    """Images of patches that lie around a few places, as normal images do."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.randn(5, features, generator=rng)
    return {
        f"{n}.png": places[torch.randint(0, 5, (patches,), generator=rng)]
        + 0.3 * torch.randn(patches, features, generator=rng)
        for n in range(images)
    }


def filled(images: dict[str, Tensor], *, capacity: int = 10_000) -> MemoryBank:
    bank = MemoryBank(capacity=capacity, features=next(iter(images.values())).shape[1])
    for name, patches in images.items():
        bank.add(name, patches)
    return bank


def farthest(images: Iterable[Tensor], bank: MemoryBank) -> float:
    """Distance of the patch that lies farthest from its nearest centre."""
    return float(torch.cdist(torch.cat(list(images)).double(), bank.vectors_MD.double()).amin(1).max())


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Ends a loop that would never end."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_nearest_equals_brute_force() -> None:
    queries, centres = torch.randn(700, 5), torch.randn(90, 5)
    distances = torch.cdist(queries.double(), centres.double())
    found = nearest(queries, centres)
    torch.testing.assert_close(found.distances_P, distances.amin(1).float(), atol=1e-4, rtol=1e-4)
    assert torch.equal(found.indices_P, distances.argmin(1))


def test_nearest_can_leave_one_centre_out_per_query() -> None:
    vectors = torch.randn(600, 4)
    distances = torch.cdist(vectors.double(), vectors.double()).fill_diagonal_(float("inf"))
    found = nearest(vectors, vectors, excluding=torch.arange(600))
    torch.testing.assert_close(found.distances_P, distances.amin(1).float(), atol=1e-4, rtol=1e-4)


def test_nearest_of_nothing_is_nothing() -> None:
    assert len(nearest(torch.zeros(0, 3), torch.zeros(2, 3)).distances_P) == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 300, 1100])
def test_cover_is_a_maximal_independent_set(seed: int, count: int) -> None:
    vectors = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    radius = 0.7
    kept = cover(vectors, radius=radius)
    between = torch.cdist(vectors[kept].double(), vectors[kept].double()).fill_diagonal_(9)
    assert bool((between > radius - 1e-4).all())
    to_all = torch.cdist(vectors.double(), vectors[kept].double()).amin(1)
    assert bool((to_all <= radius + 1e-4).all())
    assert kept[0] == 0
    assert torch.equal(kept, kept.sort().values)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("capacity", [16, 50, 130])
def test_cap_is_never_exceeded_and_memory_never_moves(seed: int, capacity: int) -> None:
    bank = MemoryBank(capacity=capacity, features=6)
    buffers = (bank._vectors, bank._owners, bank._covered)
    before = [(b.data_ptr(), b.untyped_storage().nbytes()) for b in buffers]
    for name, patches in clouds(seed).items():
        bank.add(name, patches)
        assert 0 < bank.size <= capacity
        assert len(bank.vectors_MD) == len(bank.owners_M) == len(bank.covered_M) == bank.size
    now = [(b.data_ptr(), b.untyped_storage().nbytes()) for b in (bank._vectors, bank._owners, bank._covered)]
    assert now == before


def test_bytes_stay_below_what_was_asked() -> None:
    bank = MemoryBankConfig(max_mb=0.1).build(features=30)
    held = bank._vectors.nbytes + bank._owners.nbytes + bank._covered.nbytes
    assert held <= 0.1e6
    assert MemoryBankConfig(max_mb=0.1).build(features=30).capacity == bank.capacity > 100


@pytest.mark.parametrize("max_mb", [0.0, -1.0, 1e-4])
def test_cap_that_holds_nothing_is_refused(max_mb: float) -> None:
    with pytest.raises(SettingsError, match=r"bank\.max_mb"):
        MemoryBankConfig(max_mb=max_mb).build(features=100)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("capacity", [16, 50, 130, 10_000])
def test_every_patch_lies_within_the_cover_bound(seed: int, capacity: int) -> None:
    images = clouds(seed)
    bank = filled(images, capacity=capacity)
    assert farthest(images.values(), bank) <= bank.cover_bound + 1e-4


@pytest.mark.parametrize("capacity", [16, 30])
def test_image_larger_than_the_cap_is_covered_too(capacity: int) -> None:
    image = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    bank = filled({"0.png": image}, capacity=capacity)
    assert bank.size <= capacity
    assert farthest([image], bank) <= bank.cover_bound + 1e-4


@pytest.mark.parametrize("first", [0, 1])
def test_patches_all_equally_far_apart_are_thinned_too(first: int) -> None:
    """Rounding must not keep a pair apart for ever: one-hot patches have one distance between all of them."""
    bank = MemoryBank(capacity=16, features=64)
    with within(5):
        if first:
            bank.add("first", torch.eye(64)[:8])
        bank.add("second", torch.eye(64)[8:60])
    assert bank.size <= 16


def test_same_patch_again_and_again_takes_one_place() -> None:
    bank = filled({"0.png": torch.zeros(5, 3)})
    assert bank.add("1.png", torch.zeros(5, 3)) == 0
    assert bank.covered_M.sum() == 5
    assert float(bank.distances(torch.zeros(1, 3))) == 0


def test_uncapped_bank_holds_every_patch() -> None:
    images = clouds(0)
    bank = filled(images)
    torch.testing.assert_close(bank.vectors_MD, torch.cat(list(images.values())), atol=0, rtol=0)
    assert (bank.radius, bank.cover_bound) == (0, 0)
    assert bank.owners_M.tolist() == [n for n in range(12) for _ in range(40)]


def test_same_name_twice_is_refused_and_changes_nothing() -> None:
    bank = filled(clouds(0))
    before = bank.state()
    with pytest.raises(DataError, match=r"holds '3\.png' already"):
        bank.add("3.png", torch.zeros(2, 6))
    assert all(torch.equal(before[k], v) for k, v in bank.state().items())
    assert len(bank.images) == 12


@pytest.mark.parametrize("capacity", [60, 10_000])
def test_removed_image_leaves_no_vector_behind(capacity: int) -> None:
    images = clouds(1)
    bank = filled(images, capacity=capacity)
    queries = torch.randn(200, 6)
    before, size = bank.distances(queries), bank.size
    removal = bank.remove("4.png")
    assert removal.centres == size - bank.size
    assert float(nearest(images["4.png"], bank.vectors_MD).distances_P.min()) > 1e-3
    assert bool((bank.distances(queries) >= before).all())
    assert "4.png" not in bank.images


def test_nothing_of_a_removed_image_stays_in_memory() -> None:
    """As the docstring promises: not in the unused end of the block either."""
    bank = MemoryBank(capacity=32, features=2)
    bank.add("kept", torch.ones(4, 2))
    bank.add("secret", torch.full((4, 2), 7.0) + torch.arange(4)[:, None])
    bank.remove("secret")
    assert not bool((bank._vectors >= 7).any())


def test_removing_tells_what_loses_its_cover() -> None:
    bank = filled({"0.png": torch.zeros(1, 3), "1.png": torch.zeros(3, 3), "2.png": torch.ones(1, 3)})
    removal = bank.remove("0.png")
    assert (removal.centres, removal.covered_patches_of_others) == (1, 3)
    assert bank.size == 1


def test_unknown_image_cannot_be_removed() -> None:
    bank = filled(clouds(0))
    for name in ("no.png", ""):
        with pytest.raises(DataError, match="holds no image"):
            bank.remove(name)
    bank.remove("0.png")
    for name in ("0.png", ""):
        with pytest.raises(DataError, match="holds no image"):
            bank.remove(name)


def test_image_can_come_back() -> None:
    images = clouds(2)
    bank = filled(images)
    bank.remove("5.png")
    assert bank.add("5.png", images["5.png"]) == 40
    assert float(bank.distances(images["5.png"]).max()) < 1e-3
    bank.remove("5.png")
    assert float(nearest(images["5.png"], bank.vectors_MD).distances_P.min()) > 1e-3


def test_everything_removed_explains_nothing() -> None:
    images = clouds(0, images=2)
    bank = filled(images)
    for name in images:
        bank.remove(name)
    assert bank.size == 0
    assert bool(bank.distances(torch.zeros(3, 6)).isinf().all())
    assert bank.add("new", torch.zeros(2, 6)) > 0


def test_distances_without_an_image_are_those_of_a_bank_that_never_had_it() -> None:
    images = clouds(3)
    without = {name: patches for name, patches in images.items() if name != "7.png"}
    queries = images["7.png"]
    found = filled(images).distances(queries, without=["7.png"])
    torch.testing.assert_close(found, filled(without).distances(queries), atol=1e-6, rtol=1e-6)
    assert float(found.min()) > 0


@pytest.mark.parametrize("capacity", [50, 10_000])
def test_state_goes_to_disk_and_back(capacity: int) -> None:
    images = clouds(4)
    bank = filled(images, capacity=capacity)
    bank.remove("2.png")
    again = MemoryBank.restore(bank.state(), images=bank.images, capacity=bank.capacity)
    assert (again.radius, again.cover_bound, again.images) == (bank.radius, bank.cover_bound, bank.images)
    assert (again.size, again.capacity) == (bank.size, bank.capacity)
    for name in ("8.png", "2.png"):  # what follows is the same too
        if name in bank.images:
            assert bank.remove(name) == again.remove(name)
        assert bank.add(name, images[name]) == again.add(name, images[name])
    assert all(torch.equal(again.state()[key], value) for key, value in bank.state().items())


@pytest.mark.parametrize("seed", SEEDS)
def test_order_changes_the_centres_but_not_the_promise(seed: int) -> None:
    images = clouds(seed)
    backwards = dict(reversed(images.items()))
    for order in (images, backwards):
        bank = filled(order, capacity=60)
        assert bank.size >= 20  # a bank that thins itself to nothing wastes the memory it was given
        assert farthest(order.values(), bank) <= bank.cover_bound + 1e-4


def test_names_are_looked_up_and_not_searched_for() -> None:
    class Unsearched(list[str]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError("the list of names is searched")

        index = __contains__  # type: ignore[assignment]

    images = clouds(0)
    names = list(images)
    bank = filled(images)
    state = bank.state()
    for one in (bank, MemoryBank.restore(state, images=names, capacity=bank.capacity)):
        one.images = Unsearched(one.images)
        with pytest.raises(DataError, match="already"):
            one.add(names[3], images[names[3]])
        alone = one.distances(images[names[3]], without=[names[3]])
        one.remove(names[3])
        assert one.images[3] == ""
        torch.testing.assert_close(one.distances(images[names[3]]), alone)
        with pytest.raises(DataError, match=f"it holds {len(names) - 1} images"):
            one.remove(names[3])
        one.add(names[3], images[names[3]])
        assert list(one.images) == [*names[:3], "", *names[4:], names[3]]
