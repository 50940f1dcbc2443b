"""How a closure reaches a transform that a container calls: bound and bind."""

import threading

import pytest
import torch
from conftest import Encoder

from idaa_transforms import IDAATransform


def test_reaches_only_its_own_transform_and_block(x, vae, loss_fn):
    aug, other = IDAATransform(vae), IDAATransform(vae)
    with aug.bound(loss_fn):
        assert torch.equal(aug(x), aug(x, loss_fn=loss_fn))
        with pytest.raises(ValueError, match="nothing to maximise"):
            other(x)
    with pytest.raises(ValueError, match="nothing to maximise"):
        aug(x)


def test_nested_blocks_and_arguments(x, aug, loss_fn):
    opposite = lambda v: -loss_fn(v)  # noqa: E731
    with aug.bound(loss_fn):
        outer = aug(x)
        with aug.bound(opposite):
            assert torch.equal(aug(x), aug(x, loss_fn=opposite))
            assert torch.equal(aug(x, loss_fn=loss_fn), outer)
        assert torch.equal(aug(x), outer)


def test_is_gone_after_an_exception(x, aug, loss_fn):
    with pytest.raises(ZeroDivisionError), aug.bound(loss_fn):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="nothing to maximise"):
        aug(x)


def test_belongs_to_its_thread(x, aug, loss_fn):
    caught = []

    def elsewhere():
        try:
            aug(x)
        except ValueError as error:
            caught.append(str(error))

    with aug.bound(loss_fn):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert "in the same thread" in caught[0]


def test_threads_with_closures_of_their_own(x, aug, loss_fn):
    """As two threads that load and augment side by side would use one transform."""
    losses = [loss_fn, lambda v: -loss_fn(v)]
    expected, found = [aug(x, loss_fn=loss) for loss in losses], [[], []]
    barrier = threading.Barrier(2, timeout=30)

    def work(i):
        with aug.bound(losses[i]):
            for _ in range(5):
                barrier.wait()
                found[i].append(aug(x))

    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(found[i]) == 5 and all(torch.equal(v, expected[i]) for v in found[i]) for i in (0, 1))


def test_bound_twice_is_refused(x, aug, loss_fn):
    bound = aug.bind(loss_fn)
    for again in (bound.bind, bound.bound):
        with pytest.raises(TypeError, match=r"bind\(loss\) has its closure; bind another to the transform itself"):
            again(loss_fn)
    with aug.bound(loss_fn), pytest.raises(ValueError, match="is bound twice, by bind"):
        bound(x)


def test_bind_does_not_register_a_module_of_the_users(aug):
    bound = aug.bind(Encoder())
    assert len(list(bound.parameters())) == len(list(aug.parameters()))
    assert repr(bound) == f"{aug!r}.bind(Encoder)"


def test_blocks_in_generators_may_end_in_any_order(x, aug, vae, loss_fn):
    """As fixtures and loaders that yield within a block: each end takes away its own closure and no other."""
    other, opposite = IDAATransform(vae), lambda v: -loss_fn(v)

    def block(transform, closure):
        with transform.bound(closure):
            yield

    first, second, third = block(aug, loss_fn), block(other, opposite), block(aug, opposite)
    for generator in (first, second, third):
        next(generator)
    expected = IDAATransform(vae)(x, loss_fn=opposite)
    first.close()
    assert torch.equal(other(x), expected)
    assert torch.equal(aug(x), expected)
    third.close()
    with pytest.raises(ValueError, match="nothing to maximise"):
        aug(x)
    assert torch.equal(other(x), expected)
    second.close()
