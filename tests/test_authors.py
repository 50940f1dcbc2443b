"""The authors' checkpoints: their layout, written out in reference.py, gives the same numbers."""

import pytest
import torch
from conftest import randomise, tiny_vae
from reference import AuthorsVAE, authors_views

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders.authors import load_authors_checkpoint
from idaa_transforms.cli import main


@pytest.mark.parametrize(("size", "latent_dim"), [(32, 128), (64, 512), (84, 64), (224, 64)])
def test_the_same_views_from_their_file(size, latent_dim, tmp_path):
    torch.manual_seed(0)
    theirs = randomise(AuthorsVAE(size, latent_dim, width=16))
    torch.save({f"module.{k}": v for k, v in theirs.state_dict().items()}, tmp_path / "model_epoch300.pth")
    main(["convert", str(tmp_path / "model_epoch300.pth"), str(tmp_path / "out")])
    vae = IDAATransform.from_pretrained(tmp_path / "out").autoencoder
    assert (vae.image_size, vae.latent_dim, vae.width) == ((size, size), latent_dim, 16)
    x = 3 * torch.rand(2, 3, size, size) - 1.5
    weight = torch.randn(3, size, size)
    loss = lambda v: (v * weight).flatten(1).sum(1)  # noqa: E731
    ours = IDAATransform(vae, 0.1, mean=vae.mean, std=vae.std)(x, loss_fn=loss)
    torch.testing.assert_close(ours, authors_views(x, theirs, loss, 0.1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: [s.pop("fc12.bias"), s.pop("fc12.weight")], r"has no tensors \['fc12'\]; its keys begin with"),
        (lambda s: s.update({"encoder.0.weight": torch.zeros(8, 3, 3, 3)}), "not one of the authors' networks"),
        (lambda s: s.pop("decoder.7.weight"), "tensors where the authors' network has"),
        (lambda s: s.update(note="text"), "holds a dict, not a state dict of tensors"),
        (lambda s: [s.clear(), s.update(tiny_vae().state_dict())], r"its keys begin with \['decoder', 'encoder'"),
    ],
)
def test_other_files_are_refused(spoil, message, tmp_path):
    state = dict(AuthorsVAE(32, 16, width=16).state_dict())
    spoil(state)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message):
        load_authors_checkpoint(tmp_path / "model.pth")


def test_nothing_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    torch.save({"encoder.0.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="is not a state dict of tensors"):
        load_authors_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "written").exists()
