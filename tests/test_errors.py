"""Bad input: one clear error that quotes what came and says what to do."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

from idaa_transforms import CLAETransform, ClosureError, IDAATransform, ZeroGradientWarning


def square(views):
    return views.square().flatten(1).sum(1)


NAN = float("nan")
IMAGES = {
    "uint8": (lambda x: (255 * x).byte(), TypeError, r"uint8.*ToDtype\(torch.float32, scale=True\)"),
    "integers": (lambda x: (255 * x).long(), TypeError, "int64"),
    "PIL": (lambda x: PIL.Image.new("RGB", (16, 16)), TypeError, "got a Image; pass a float tensor"),
    "no batch": (lambda x: x[0], ValueError, r"\(3, 16, 16\), not \(B, C, H, W\); add the batch dimension: x\[None\]"),
    "channels": (lambda x: x[:, :1], ValueError, r"takes 3 channels, not 1"),
    "size": (lambda x: x[:, :, :0], ValueError, r"shape \(4, 3, 0, 16\), without a single value"),
    "0..255": (lambda x: 255 * x, ValueError, r"to be in \[0, 1\], but their values go from .*divide by 255"),
    "normalised": (lambda x: 4 * x - 2, ValueError, "pass the mean= and std= they are normalised by"),
    "NaN": (lambda x: x.where(x > 0.01, NAN), ValueError, "images hold .* NaN or infinite values"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind, x, aug):
    spoil, error, message = IMAGES[kind]
    with pytest.raises(error, match=message):
        aug(spoil(x), loss_fn=square)
    assert aug.stats()["calls"] == 0
    assert torch.equal(aug(x, loss_fn=square), aug(x, loss_fn=square))  # and it works as before


def test_normalised_images_that_are_not(x, vae):
    aug = IDAATransform(vae, mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(ValueError, match="normalised by the given mean and std, but their values go from"):
        aug(10 * x, loss_fn=square)


@pytest.mark.parametrize(
    ("eps", "message"),
    [
        (-0.1, "eps=-0.1 must be a finite number >= 0"),
        (NAN, "eps=nan"),
        (True, "eps=True"),
        ("0.1", "eps='0.1'"),
        (torch.full((3,), 0.1), r"eps of shape \(3,\).*\(4,\), one for each image"),
        (torch.full((4,), -0.1), "its values go from -0.1 to -0.1"),
        (torch.ones(4, dtype=torch.int64), "int64"),
    ],
)
def test_eps(eps, message, x, aug):
    with pytest.raises(ValueError, match=message):
        aug(x, loss_fn=square, eps=eps)


def test_eps_that_was_set_later(x, aug):
    with pytest.raises(ValueError, match=r"eps=-1.0 must be a finite number"):
        aug.eps = -1.0
    aug.eps, aug.steps = 0.2, 2
    assert torch.equal(aug(x, loss_fn=square), IDAATransform(aug.autoencoder, 0.2, steps=2)(x, loss_fn=square))


CLOSURES = {
    "None": (lambda v: None, "returned None, not a tensor; it must return the loss"),
    "float": (lambda v: 1.0, "returned a float, not a tensor"),
    "shape": (lambda v: v.square(), r"returned shape \(4, 3, 16, 16\) for a batch of 4; return \(\) or \(4,\)"),
    "integers": (lambda v: v.flatten(1).argmax(1), "dtype torch.int64, which has no gradient"),
    "detached": (lambda v: square(v.detach()), "does not depend on the views"),
    "no path": (lambda v: nn.Parameter(torch.ones(4)) * 2, "does not depend on the views"),
    "NaN loss": (lambda v: square(v) * NAN, "NaN or infinite values for 4 images; look for log"),
    "NaN scalar": (lambda v: square(v).sum() * NAN, "returned nan; look for log"),
    "NaN gradient": (lambda v: (v[:3] * 0).sqrt().sum(), "NaN or infinite in 3 of 4 images; look for sqrt"),
}


@pytest.mark.parametrize("kind", CLOSURES)
def test_closures(kind, x, aug):
    loss_fn, message = CLOSURES[kind]
    with pytest.raises(ClosureError, match=message):
        aug(x, loss_fn=loss_fn)


def test_closures_that_are_checked_in_spite_of_p(x, vae):
    aug = IDAATransform(vae, p=0.5)
    for kind in ("None", "shape", "detached", "no path"):
        loss_fn, message = CLOSURES[kind]
        with pytest.raises(ClosureError, match=message):
            aug(x, loss_fn=loss_fn, generator=torch.Generator().manual_seed(3))


def test_values_are_read_on_the_first_call_only_or_always_when_strict(x, vae):
    for strict in (False, True):
        aug = IDAATransform(vae, strict=strict)
        aug(x, loss_fn=square)
        if strict:
            with pytest.raises(ClosureError, match="returned nan"):
                aug(x, loss_fn=CLOSURES["NaN scalar"][0])
            with pytest.raises(ValueError, match="divide by 255"):
                aug(255 * x, loss_fn=square)
        else:
            assert torch.equal(aug(x, loss_fn=CLOSURES["NaN scalar"][0]), x)
            assert aug.stats()["unchanged"] == 4


ZEROS = {
    "constant": (lambda e, x: lambda v: (v * 0).sum(), "is zero"),
    "squared distance to itself": (lambda e, x: lambda v: (e(v) - e(x)).square().sum(1) * 0, "is zero"),
    "cosine with itself": (
        lambda e, x: lambda v: -nn.functional.cosine_similarity(e(v), e(x).detach()),
        "nothing but rounding errors",
    ),
    "some images": (lambda e, x: lambda v: v[1:].square().sum(), "zero in 1 of 4 images"),
}


@pytest.mark.parametrize("kind", ZEROS)
def test_a_zero_gradient_is_told_once(kind, x, vae, encoder):
    make, message = ZEROS[kind]
    loss_fn = make(encoder.eval(), x)
    aug = IDAATransform(vae, strict=True)
    with pytest.warns(ZeroGradientWarning, match=message) as told:
        aug(x, loss_fn=loss_fn)
    assert "anchor it on another view" in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aug(x, loss_fn=loss_fn)


def test_images_without_a_slope_are_counted_as_unchanged(x, aug):
    aug(x, loss_fn=square)
    views = aug(x, loss_fn=lambda v: v[1:].square().sum())
    torch.testing.assert_close(views[0], x[0], atol=1e-6, rtol=0)
    assert aug.stats() == {"calls": 2, "attacked": 8, "unchanged": 1}


def test_a_gradient_is_not_taken_for_zero(x, vae, encoder):
    encoder.eval()
    anchor = encoder(x.flip(-1)).detach()
    for loss_fn in (
        lambda v: 1e-6 * nn.functional.mse_loss(encoder(v), anchor),
        lambda v: 1 - nn.functional.cosine_similarity(encoder(v), anchor),
        lambda v: 1e6 * square(v),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            IDAATransform(vae)(x, loss_fn=loss_fn)


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (torch.zeros(4, 3, 16, 15), ValueError, r"\(4, 3, 16, 15\).*shape and device of the images \(\(4, 3, 16, 16\)"),
        (torch.zeros(4, 3, 16, 16, dtype=torch.int32), ValueError, "int32"),
        (np.zeros((4, 3, 16, 16)), TypeError, "grad is a ndarray, not a tensor; pass x.grad"),
        (torch.full((4, 3, 16, 16), NAN), ClosureError, "NaN or infinite in 4 of 4 images"),
    ],
)
def test_given_gradients(grad, error, message, x, aug):
    with pytest.raises(error, match=message):
        aug(x, grad=grad)


def test_sources(x, aug):
    with pytest.raises(ValueError, match="both loss_fn and grad"):
        aug(x, loss_fn=square, grad=x)
    with pytest.raises(ValueError, match=r"nothing to maximise.*aug.bind"):
        aug(x)
    with pytest.raises(TypeError, match="loss_fn is a Tensor; pass the function itself"):
        aug(x, loss_fn=square(x))


def test_one_gradient_for_two_images(x, aug):
    from torchvision.tv_tensors import Image

    with pytest.raises(ValueError, match="one grad was given for 2 batches of images; pass a list"):
        aug(Image(x), Image(x), grad=x)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"norm": "l1"}, r"norm='l1' is not one of \('linf', 'l2'\)"),
        ({"start": "random"}, "start='random'"),
        ({"steps": 0}, "steps=0 must be a whole number"),
        ({"steps": 1.0}, "steps=1.0"),
        ({"chunk_size": 0}, "chunk_size=0"),
        ({"step_size": -1.0}, "step_size=-1.0"),
        ({"p": 1.5}, "p=1.5 is a probability"),
        ({"clip": (1.0, 0.0)}, r"clip=\(1.0, 0.0\)"),
        ({"mean": (0.5,) * 3}, "give both or neither"),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.5, 0.0)}, "std above 0"),
        ({"mean": (0.5,), "std": (0.5,)}, "one number for each of the 3 channels"),
    ],
)
def test_parameters(parameters, message, vae):
    with pytest.raises(ValueError, match=message):
        IDAATransform(vae, **parameters)


def test_something_that_is_no_autoencoder():
    with pytest.raises(TypeError, match=r"autoencoder is a Linear; it must be an nn.Module with encode"):
        IDAATransform(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"autoencoder is a str.*from_pretrained"):
        IDAATransform("cifar10-vae")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_devices_that_differ(x, aug):
    with pytest.raises(ValueError, match=r"images are on cuda:0 and the transform is on cpu; move it once"):
        aug(x.cuda(), loss_fn=square)


def test_meta_device_differs_too(x, aug):
    with pytest.raises(ValueError, match=r"images are on meta and the transform is on cpu; move it once: aug.to"):
        aug(x.to("meta"), loss_fn=square)


def test_clae_takes_any_range_but_unit_images(x):
    with pytest.raises(ValueError, match="divide by 255"):
        CLAETransform()(255 * x, loss_fn=square)


def test_a_loss_of_one_number_in_brackets_is_a_scalar(x, aug):
    loss = lambda v: square(v).mean()  # noqa: E731
    assert torch.equal(aug(x, loss_fn=lambda v: loss(v).view(1)), aug(x, loss_fn=loss))
    one = aug(x[:1], loss_fn=lambda v: loss(v).view(1))
    assert torch.equal(one, aug(x[:1], loss_fn=loss))


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        (lambda v: v.square().flatten(2).mean(2), "loss.flatten(1).sum(1)"),
        (lambda v: square(v).view(2, 2).sum(1), "loss.sum()"),
    ],
)
def test_the_cure_for_a_shape_works(wrong, cure, x, aug):
    with pytest.raises(ClosureError) as told:
        aug(x, loss_fn=wrong)
    assert cure in str(told.value)
    assert not torch.equal(aug(x, loss_fn=lambda v: eval(cure, {"loss": wrong(v)})), x)


class TestInferenceMode:
    def test_a_closure_over_inference_tensors_is_told_the_cure(self, x, aug, encoder):
        with torch.inference_mode():
            labels = torch.arange(4) % 6
            weight = torch.rand(4, 6)
        loss = lambda v: (encoder.eval()(v) * weight)[torch.arange(4), labels]  # noqa: E731
        with pytest.raises(ClosureError, match=r"\.clone\(\).*Trainer\(inference_mode=False\)"):
            aug(x, loss_fn=loss)
        weight, labels = weight.clone(), labels.clone()
        assert not torch.equal(aug(x, loss_fn=loss), x)

    def test_a_transform_made_there_works_anywhere(self, x, loss_fn, folder):
        from idaa_transforms.autoencoders import ConvVAE

        with torch.inference_mode():
            made = [IDAATransform(ConvVAE(16, 8, width=8)), IDAATransform.from_pretrained(folder), CLAETransform()]
        for aug in made:
            assert not torch.equal(aug(x, loss_fn=loss_fn), x)
            with torch.inference_mode():
                assert not torch.equal(aug(x.clone(), loss_fn=loss_fn), x)


class TestClosuresMayWriteToTheViews:
    """They get a copy that is no leaf, whatever p and whoever asks."""

    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    def test_in_place(self, p, x, vae):
        aug, before = IDAATransform(vae, p=p), x.clone()
        in_place = lambda v: square(v.sub_(0.5).div_(0.25))  # noqa: E731
        plain = lambda v: square((v - 0.5) / 0.25)  # noqa: E731
        for seed in range(3):
            views = [aug(x, loss_fn=f, generator=torch.Generator().manual_seed(seed)) for f in (in_place, plain)]
            assert torch.equal(*views)
        assert torch.equal(*[aug.explain(x, loss_fn=f).views for f in (in_place, plain)])
        found = aug.explain(x, loss_fn=in_place)
        torch.testing.assert_close(found.loss_before, plain(x))
        assert torch.equal(x, before)

    def test_what_a_closure_kept_is_not_the_result(self, x, aug):
        kept = []
        views = aug(x, loss_fn=lambda v: (kept.append(v), square(v))[1])
        found = aug.explain(x, loss_fn=lambda v: (kept.append(v), square(v))[1])
        for tensor in kept:
            with torch.no_grad():
                tensor.fill_(7.0)
        for result in (x, views, found.views, found.residual):
            assert not (result == 7).any()


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_in_the_closure(reentrant, x, aug, encoder):
    from torch.utils.checkpoint import checkpoint

    encoder.eval()
    loss = lambda v: checkpoint(encoder, v, use_reentrant=reentrant)[:, 0]  # noqa: E731
    views = aug(x, loss_fn=loss)
    torch.testing.assert_close(views, aug(x, loss_fn=lambda v: encoder(v)[:, 0]))
    assert all(p.grad is None for p in encoder.parameters())
