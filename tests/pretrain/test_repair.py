import torch

from pangu_cv.pretrain.patches import from_patches, to_patches
from pangu_cv.pretrain.repair import RepairConfig

CONFIG = RepairConfig(width=64, depth=1)


def test_patches_and_back() -> None:
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(from_patches(to_patches(images, 8), 8), images)
    assert to_patches(images, 8)[0, 1].view(8, 8, 3)[0, 0].tolist() == images[0, :, 0, 8].tolist()


def test_it_begins_by_changing_nothing() -> None:
    decoder = CONFIG.build(features=16, patch_px=8, side_px=32)
    clean = torch.rand(2, 3, 32, 32)
    damaged = clean + 0.3 * torch.randn(2, 3, 32, 32)
    keep = torch.tensor([[0, 3, 5], [1, 2, 15]])
    repaired = decoder(torch.randn(2, 3, 16), keep, damaged)
    losses = decoder.losses(repaired, damaged, clean, keep)
    assert 0.9 < losses.visible.item() <= 1
    assert 0.9 < losses.hidden.item() < 3


def test_losses_look_at_their_own_patches_only() -> None:
    decoder = CONFIG.build(features=16, patch_px=8, side_px=32)
    clean, keep = torch.rand(1, 3, 32, 32), torch.tensor([[0]])
    damaged = clean.clone()
    damaged[..., 8:, 8:] = 9.0  # only hidden patches are harmed
    repaired = decoder(torch.randn(1, 1, 16), keep, damaged)
    assert decoder.losses(repaired, damaged, clean, keep).visible.item() < 1e-6


def test_it_learns_to_take_noise_away() -> None:
    torch.manual_seed(0)
    decoder = CONFIG.build(features=16, patch_px=8, side_px=32)
    optimiser = torch.optim.Adam(decoder.parameters(), 5e-3)
    clean = torch.linspace(-1, 1, 32).expand(4, 3, 32, 32)
    for _ in range(40):
        damaged = clean + 0.3 * torch.randn(4, 3, 32, 32)
        loss = decoder.losses(decoder(torch.zeros(4, 16, 16), None, damaged), damaged, clean, None).visible
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.6


def test_views_of_another_size_are_repaired_too() -> None:
    decoder = CONFIG.build(features=16, patch_px=8, side_px=32)
    assert decoder(torch.randn(1, 36, 16), None, torch.rand(1, 3, 48, 48)).image_B3SS.shape == (1, 3, 48, 48)
