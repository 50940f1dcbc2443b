"""What a transform tells: how views came about, and counts."""

import torch


def test_explain_tells_how_the_views_came_about(x, aug, vae, loss_fn):
    found = aug.explain(x, loss_fn=loss_fn)
    assert torch.equal(found.views, aug(x, loss_fn=loss_fn))
    torch.testing.assert_close(found.reconstruction + found.residual, x)
    torch.testing.assert_close(found.loss_before, loss_fn(x).detach())
    torch.testing.assert_close(found.loss_after, loss_fn(found.views).detach())
    torch.testing.assert_close(found.latent, vae.encode((x - 0.5) / 0.25).mean)
    assert found.delta.shape == (4, 8)
    gradient = torch.randn_like(x)
    linear = aug.explain(x, grad=gradient)
    assert (linear.loss_after > linear.loss_before).all()


def test_stats_count_rows_without_a_finite_direction(x, aug, loss_fn):
    aug(x, loss_fn=loss_fn)
    gradient = torch.ones_like(x)
    gradient[2] = float("nan")
    views = aug(x, grad=gradient)
    assert torch.equal(views[2], x[2])
    assert aug.stats() == {"calls": 2, "attacked": 8, "unchanged": 1}
