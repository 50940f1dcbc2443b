"""Bad input: one clear error that quotes what came and names a cure, which works."""

import warnings

import PIL.Image
import pytest
import torch
from conftest import changed, images, rising, tiny_vae
from torch import nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, ClosureError, Guard, IDAATransform, ZeroGradientWarning

NAN = float("nan")
X = images((4, 3, 16, 16), 2)
GRAD = images(X.shape, 3)
BYTES = (255 * X).byte()
MEAN, STD = [0.5] * 3, [0.1] * 3
NORMALISED = v2.functional.normalize(X, MEAN, STD)
PICTURE = PIL.Image.new("RGB", (16, 16), "red")
to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def make(**settings):
    return IDAATransform(tiny_vae(), **settings)


def call(x=X, loss_fn=rising, **options):
    return make()(x, loss_fn=loss_fn, **options)


def embed(views):
    return F.adaptive_avg_pool2d(views, 4).flatten(1)


def cosine_with(anchor):
    return lambda views: -F.cosine_similarity(embed(views), anchor)


def with_negatives(views):
    scores = F.normalize(embed(views), dim=1) @ F.normalize(embed(X), dim=1).T
    return F.cross_entropy(scores / 0.1, torch.arange(4), reduction="none")


def in_a_block():
    aug = make()
    with aug.bound(rising):
        return aug(X)


# what is wrong, the error, a part of its message, and the cures that it names
CURES = {
    "integers": (
        lambda: call(BYTES), TypeError, r"uint8.*v2.ToDtype\(torch.float32, scale=True\)",
        [lambda: call(v2.ToDtype(torch.float32, scale=True)(BYTES))],
    ),
    "a picture": (
        lambda: call(PICTURE), TypeError, "got a Image; pass a float tensor .* v2.ToImage and v2.ToDtype",
        [lambda: call(to_float(PICTURE)[None])],
    ),
    "an array": (
        lambda: call(X.numpy()), TypeError, r"no images in ndarray; pass .*torch.from_numpy\(array\)",
        [lambda: call(torch.from_numpy(X.numpy()))],
    ),
    "a list of arrays": (
        lambda: call(list(X.numpy())), TypeError, r"no images in ndarray, ndarray, .*torch.stack\(list of tensors\)",
        [lambda: call(torch.stack(list(map(torch.from_numpy, X.numpy()))))],
    ),
    "nothing, by grad": (lambda: make()({"label": 3}, grad=GRAD), TypeError, "no images in int", []),
    "no batch": (
        lambda: call(X[0]), ValueError, r"\(3, 16, 16\), not \(B, C, H, W\); add the batch dimension: x\[None\]",
        [lambda: call(X[0][None])],
    ),
    "channels last": (
        lambda: call(X.permute(0, 2, 3, 1)), ValueError, r"takes 3 channels, not 16; .*x.permute\(0, 3, 1, 2\)",
        [lambda: call(X.permute(0, 2, 3, 1).permute(0, 3, 1, 2))],
    ),
    "a grey channel": (
        lambda: call(X[:, :1]), ValueError, r"takes 3 channels, not 1; .*x.expand\(-1, 3, -1, -1\)",
        [lambda: call(X[:, :1].expand(-1, 3, -1, -1))],
    ),
    "channels of mean": (
        lambda: CLAETransform(mean=MEAN, std=STD)(X[:, :2], loss_fn=rising), ValueError,
        r"mean=\(0.5, 0.5, 0.5\) takes 3 channels, not 2; give mean and std one number for each channel",
        [lambda: CLAETransform(mean=MEAN[:2], std=STD[:2])(NORMALISED[:, :2], loss_fn=rising)],
    ),
    "another device": (
        lambda: call(X.to("meta")), ValueError, r"images are on meta and the transform is on cpu; move it once: aug.to",
        [],
    ),
    "0..255": (
        lambda: call(255 * X), ValueError, r"to be in \[0, 1\], but their values go from .*divide by 255",
        [lambda: call(255 * X / 255)],
    ),
    "0..255 under mean and std": (
        lambda: make(mean=MEAN, std=STD)((255 * X - 0.5) / 0.1, loss_fn=rising), ValueError, "divide by 255, then norm",
        [lambda: make(mean=MEAN, std=STD)((255 * X / 255 - 0.5) / 0.1, loss_fn=rising)],
    ),
    "normalised": (
        lambda: call(NORMALISED), ValueError, "pass the mean= and std= they are normalised by",
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=rising)],
    ),
    "normalised twice": (
        lambda: make(mean=MEAN, std=STD)(v2.functional.normalize(NORMALISED, MEAN, STD), loss_fn=rising),
        UserWarning, "images are normalised once",
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=rising)],
    ),
    "NaN images": (lambda: call(X.where(X > 0.01, NAN)), ValueError, "images hold .* NaN or infinite values", []),
    "nothing to raise": (
        lambda: make()(X), ValueError, r"nothing to maximise.*loss_fn=.*grad=.*aug.bind.*aug.bound",
        [call, lambda: make()(X, grad=GRAD), lambda: make().bind(rising)(X), in_a_block],
    ),
    "two sources": (
        lambda: call(grad=GRAD), ValueError, "both loss_fn and grad .* pass only one",
        [call, lambda: make()(X, grad=GRAD)],
    ),
    "the value of a loss": (
        lambda: call(loss_fn=rising(X)), TypeError, "loss_fn is a Tensor; pass the function itself", [call],
    ),
    "an array as gradient": (
        lambda: make()(X, grad=GRAD.numpy()), TypeError, "grad is a ndarray, not a tensor; pass x.grad", [],
    ),
    "a gradient of another shape": (
        lambda: make()(X, grad=GRAD[..., :15]), ValueError, r"\(4, 3, 16, 15\).*shape and device of the images", [],
    ),
    "one gradient for two images": (
        lambda: make()(tv_tensors.Image(X), tv_tensors.Image(X), grad=GRAD), ValueError,
        "one grad was given for 2 batches of images; pass a list",
        [lambda: make()(tv_tensors.Image(X), tv_tensors.Image(X), grad=[GRAD, GRAD])[0]],
    ),
    "three closures for one image": (
        lambda: call(loss_fn=[rising] * 3), ValueError, "3 loss_fns were given for 1 batches of images; pass one for",
        [],
    ),
    "None": (lambda: call(loss_fn=lambda v: None), ClosureError, "returned None, not a tensor; .*return the loss", []),
    "a float": (lambda: call(loss_fn=lambda v: 1.0), ClosureError, "returned a float, not a tensor", []),
    "a loss for each pixel": (
        lambda: call(loss_fn=lambda v: v.square()), ClosureError,
        r"shape \(4, 3, 16, 16\) for a batch of 4; return \(\) or \(4,\), e.g. loss.flatten\(1\).sum\(1\)",
        [lambda: call(loss_fn=lambda v: v.square().flatten(1).sum(1))],
    ),
    "a loss for some": (
        lambda: call(loss_fn=lambda v: rising(v)[:2]), ClosureError, r"shape \(2,\) .* e.g. loss.sum\(\)",
        [lambda: call(loss_fn=lambda v: rising(v).sum())],
    ),
    "an integer loss": (
        lambda: call(loss_fn=lambda v: v.flatten(1).argmax(1)), ClosureError,
        "dtype torch.int64, which has no gradient",
        [],
    ),
    "a detached loss": (
        lambda: call(loss_fn=lambda v: rising(v.detach())), ClosureError,
        "does not depend on the views .*use the tensor that loss_fn is given", [call],
    ),
    "a loss of something else": (
        lambda: call(loss_fn=lambda v: nn.Parameter(torch.ones(4)) * 2), ClosureError, "does not depend on the views",
        [],
    ),
    "NaN losses": (
        lambda: call(loss_fn=lambda v: rising(v) * NAN), ClosureError,
        "NaN or infinite values for 4 images; look for log",
        [],
    ),
    "a NaN loss": (lambda: call(loss_fn=lambda v: rising(v).sum() * NAN), ClosureError, "returned nan; look for", []),
    "NaN gradients": (
        lambda: call(loss_fn=lambda v: (v * 0).sqrt().sum()), ClosureError,
        "NaN or infinite in all of 4 .* for sqrt", [],
    ),
    "a NaN gradient": (
        lambda: call(loss_fn=lambda v: (v[:3] * 0).sqrt().sum() + rising(v).sum()), ZeroGradientWarning,
        "NaN or infinite in some images, which come back as they are; look for sqrt", [],
    ),
    "a zero gradient": (
        lambda: call(loss_fn=lambda v: (v * 0).sum()), ZeroGradientWarning, "is zero, or nothing but rounding", [],
    ),
    "a zero gradient of one": (
        lambda: call(loss_fn=lambda v: rising(v)[1:].sum()), ZeroGradientWarning, "is zero for some images", [],
    ),
    "at its extreme": (
        lambda: call(loss_fn=cosine_with(embed(X))), ZeroGradientWarning,
        "nothing but rounding errors; .*anchor it on another view.*negatives.*random_start=True",
        [
            lambda: call(loss_fn=cosine_with(embed(X.flip(1)))),
            lambda: call(loss_fn=with_negatives),
            lambda: make(random_start=True)(X, loss_fn=cosine_with(embed(X))),
        ],
    ),
    "eps": (lambda: call(eps=-0.1), ValueError, "eps=-0.1 must be a finite number >= 0", [lambda: call(eps=0.1)]),
    "eps of three": (
        lambda: call(eps=torch.ones(3)), ValueError, r"eps of shape \(3,\).*\(4,\), one for each image",
        [lambda: call(eps=torch.ones(4))],
    ),
    "negative eps": (lambda: call(eps=-torch.ones(4)), ValueError, "its values go from -1 to -1", []),
    "no posterior": (
        lambda: IDAATransform(CLAETransform().autoencoder, 0.1, eps_unit="posterior")(X, loss_fn=rising), ValueError,
        "that of PixelSpace gives a Tensor: use eps_unit='latent'",
        [lambda: IDAATransform(CLAETransform().autoencoder, 0.1, eps_unit="latent")(X, loss_fn=rising)],
    ),
    "a reference alone": (
        lambda: make(guard=embed), TypeError, r"guard is a function; .*guard=Guard\(reference, 0.95\)",
        [lambda: make(guard=Guard(embed, 0.5))(X, loss_fn=rising)],
    ),
    "a name for an autoencoder": (
        lambda: IDAATransform("cifar10-vae"), TypeError, "autoencoder is a str.*use IDAATransform.from_pretrained",
        [lambda: IDAATransform.from_pretrained("cifar10-vae")(X, loss_fn=rising)],
    ),
    "something that is no autoencoder": (
        lambda: IDAATransform(nn.Linear(2, 2)), TypeError,
        "autoencoder is a Linear; it must be an nn.Module with encode",
        [],
    ),
    "mean alone": (
        lambda: make(mean=MEAN), ValueError, "say together what images are normalised by: a list each",
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=rising)],
    ),
    "a number as mean": (
        lambda: make(mean=0.5, std=0.1), ValueError,
        "mean=0.5 and std=0.1 .*a list each, with one number for each channel",
        [lambda: make(mean=[0.5] * 3, std=[0.1] * 3)(NORMALISED, loss_fn=rising)],
    ),
    "one mean": (lambda: make(mean=[0.5], std=[0.5]), ValueError, "one number for each of the 3 channels", []),
    "std of zero": (lambda: make(mean=MEAN, std=[0.5, 0.5, 0]), ValueError, "std above 0", []),
}  # fmt: skip


@pytest.mark.parametrize("kind", CURES)
def test_the_error_and_then_its_cures(kind):
    wrong, error, message, cures = CURES[kind]
    context = pytest.warns if issubclass(error, Warning) else pytest.raises
    with context(error, match=message):
        wrong()
    for cure in cures:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            views = cure()
        assert views.isfinite().all()
        assert views.ndim == 4
        if kind in ("a detached loss", "at its extreme", "nothing to raise", "no posterior", "a loss for each pixel"):
            assert changed(views, X).all()  # so that a cure which does nothing does not pass for one


@pytest.mark.parametrize(
    "settings",
    [{"norm": "l1"}, {"random_start": "uniform"}, {"steps": 0}, {"steps": 1.0}, {"chunk_size": 0}, {"step_size": -1.0},
     {"p": 1.5}, {"clip": (1.0, 0.0)}, {"eps": NAN}, {"eps": True}, {"eps": "0.1"}, {"eps_unit": "sd"},
     {"target_gain": -1.0}],
)  # fmt: skip
def test_settings(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=rf"{name}={value!r}".replace("(", r"\(").replace(")", r"\)")):
        make(**settings)


def test_an_unknown_setting():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epsilon'"):
        make(epsilon=0.1)


class TestTheSameInputGetsTheSameAnswer:
    """Values are read on every call on the CPU, whatever the calls before were."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"x": 255 * X}, "divide by 255"),
            ({"loss_fn": lambda v: rising(v) * NAN}, "NaN or infinite values for 4 images"),
            ({"loss_fn": lambda v: (v * 0).sqrt().sum()}, "NaN or infinite in all of 4"),
            ({"eps": -torch.ones(4)}, "from -1 to -1"),
        ],
    )
    def test_errors(self, options, message):
        aug = make()
        for _ in range(12):
            with pytest.raises(ValueError, match=message):
                aug(options.get("x", X), loss_fn=options.get("loss_fn", rising), eps=options.get("eps"))
            aug(X, loss_fn=rising)

    def test_warnings(self):
        aug = make()
        for _ in range(3):
            with pytest.warns(ZeroGradientWarning, match="zero for some images"):
                views = aug(X, loss_fn=lambda v: rising(v)[1:].sum())
            torch.testing.assert_close(views[0], X[0], atol=1e-6, rtol=0)
            with pytest.warns(ZeroGradientWarning, match="NaN or infinite in some images"):
                views = aug(X, grad=GRAD.where(torch.arange(4).view(4, 1, 1, 1) != 2, NAN))
            assert torch.equal(views[2], X[2])
            assert changed(views, X).tolist() == [True, True, False, True]
        assert aug.stats() == {"calls": 6, "attacked": 24, "unchanged": 6}

    def test_by_p_too(self):
        aug = make(p=0.5)
        for seed in range(4):
            with pytest.raises(ClosureError, match="does not depend on the views"):
                aug(X, loss_fn=lambda v: rising(v.detach()), generator=torch.Generator().manual_seed(seed))


def test_what_everybody_tries_first_is_warned_of_at_most():
    aug = IDAATransform.from_pretrained("cifar10-vae-small", mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="normalised by the given mean and std, but their values go from") as caught:
        views = aug(x, loss_fn=rising)
    assert len(caught) == 1
    assert changed(views, x).all()


def test_a_gradient_is_not_taken_for_zero(encoder):
    anchor = encoder.eval()(X.flip(-1)).detach()
    for loss_fn in (
        lambda v: 1e-6 * F.mse_loss(encoder(v), anchor),
        lambda v: 1 - F.cosine_similarity(encoder(v), anchor),
        lambda v: 1e6 * rising(v),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            call(loss_fn=loss_fn)


def test_inference_tensors_in_a_closure_and_their_cure(encoder):
    with torch.inference_mode():
        weight = torch.rand(4, 6)
    loss = lambda v: (encoder.eval()(v) * weight).sum(1)  # noqa: E731
    with pytest.raises(ClosureError, match=r"\.clone\(\).*Trainer\(inference_mode=False\)"):
        call(loss_fn=loss)
    weight = weight.clone()
    assert changed(call(loss_fn=loss), X).all()


@pytest.mark.parametrize("shape", [(2, 3, 0, 16), (2, 3, 16, 0), (0, 3, 0, 0)])
def test_images_without_a_pixel_and_batches_without_an_image(shape):
    for aug in (make(), CLAETransform()):
        with pytest.raises(ValueError, match="without a single value; look at what cut them"):
            aug(torch.zeros(shape), loss_fn=rising)
    assert call(torch.zeros(0, 3, 5, 7)).shape == (0, 3, 5, 7)


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("options", [{}, {"eps": 0.1, "eps_unit": "posterior"}, {"chunk_size": 1}])
def test_an_autoencoder_that_gives_no_numbers(value, options):
    vae = tiny_vae()
    nn.init.constant_(vae.to_mean.bias, value)
    for source in ({"loss_fn": rising}, {"grad": GRAD}):
        with pytest.raises(ValueError, match=r"latent of ConvVAE is NaN or infinite for 4 of 4 images; .*weights"):
            IDAATransform(vae, **options)(X, **source)
