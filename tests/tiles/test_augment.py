"""Drawn changes: what was drawn is what is in the matrix, and pixels are moved whole exactly where nothing else was drawn."""
import pytest
import torch

from planet_course.tiles import augment, dihedral_matrix, get_transforms, TfmParams, Transforms


def in_the_matrix(homography, square):
    "The slow way: which tile's matrix is a symmetry that its shape has?"
    known = dihedral_matrix(torch.arange(8 if square else 4)).to(homography)
    return (homography[:, None] == known).flatten(2).all(2)


@pytest.mark.parametrize('h, w', [(64, 64), (48, 80)])
@pytest.mark.parametrize('settings', [dict(symmetries=8), dict(symmetries=2, max_rotate=9.), dict(symmetries=8, max_zoom=1.2), dict(max_warp=.2),
                                      dict(symmetries=8, max_rotate=9., max_zoom=1.2, max_warp=.2), dict(symmetries=8, p_affine=0, max_rotate=9.)])
@pytest.mark.parametrize('p', [.02, .5])
def test_what_was_drawn_is_in_the_matrix(h, w, settings, p):
    tfms = Transforms(**{'p_affine': p, **settings})
    for seed in range(20):
        params = tfms.sample(30, h, w, torch.Generator().manual_seed(seed))
        found = in_the_matrix(params.homography, h == w)
        fits = ~params.affine & ((params.symmetry < 4) | (h == w))
        assert torch.equal(found.any(1), fits)
        assert torch.equal(found.int().argmax(1)[fits], params.symmetry[fits])
        assert augment._only_pixels_move(params, h == w) == bool(found.any(1).all())
        some = params[:3]
        assert augment._only_pixels_move(some, h == w) == bool(found[:3].any(1).all())


def test_nothing_drawn():
    params = Transforms().sample(4, 64, 64)
    assert vars(params) == vars(TfmParams()) and vars(params[:2]) == vars(TfmParams())
    lit = Transforms(max_lighting=.1).sample(4, 64, 64)
    assert lit.symmetry is lit.affine is lit.homography is None and len(lit[:3].contrast) == 3


def test_a_homography_of_ones_own():
    "It need not say what it is made of; it is sampled then."
    xb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    own = TfmParams(dihedral_matrix(torch.tensor([1, 6])).float())
    moved = Transforms().apply(xb, own)
    assert (moved[0] - xb[0].flip(-1)).abs().max() < 1e-4


def test_seeds_draw_what_they_always_drew():
    "The first numbers of three seeds, as they were in the first version."
    train, _ = get_transforms(flip_vert=True)
    drawn = [train.sample(2, 64, 96, torch.Generator().manual_seed(seed)) for seed in range(3)]
    assert [p.symmetry.tolist() for p in drawn] == [[7, 3], [0, 5], [7, 7]]
    assert torch.allclose(torch.stack([p.homography[0, 0] for p in drawn]), torch.tensor([[0.010106, -0.684348, -0.03918], [0.97441, 0.058514, 0.011031], [-0.062573, -0.590406, 0.075829]]), atol=1e-6)
    assert torch.allclose(torch.stack([p.brightness for p in drawn]), torch.tensor([[0.097602, -0.218744], [-0.092457, 0.0], [0.247646, -0.044621]]), atol=1e-6)
