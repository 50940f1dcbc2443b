"""Ready closures: what to raise, for the usual methods. Each returns a ``loss_fn(views)`` for a transform.

``embed`` is the model up to its projector. An anchor is an embedding that is made once, outside, and held fixed: of the
*other* view of the image unless said otherwise. At the start of an attack the view is the image itself, so that its
distance to an anchor of the very same image gives no gradient; each docstring says where the gradient comes from.

Anchors, labels, keys and codes may also come from a block of ``torch.inference_mode``, as in Lightning's validation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .functional import Loss, outside_inference
from .losses import info_nce, instance_spreading, nt_xent

Embed = Callable[[Tensor], Tensor]


def simclr(embed: Embed, anchor: Tensor, temperature: float = 0.5) -> Loss:
    """NT-Xent with ``anchor`` (B, D), of the other view or, as in the IDAA paper, of the same image.

    With the same image the direction comes from the negatives alone; with the other view the positive pair pulls too.
    """
    anchor = _held(anchor)
    return lambda views: nt_xent(embed(views), anchor, temperature)


def plain(embed: Embed, anchor: Tensor, temperature: float = 0.1) -> Loss:
    """One-directional InfoNCE, rows ``anchor`` (B, D), columns the views; the paper anchors on the same image, where
    the negatives give the direction."""
    anchor = _held(anchor)
    return lambda views: info_nce(anchor, embed(views), temperature)


def uel(embed: Embed, anchor: Tensor, temperature: float = 0.1) -> Loss:
    """The instance loss of UEL on [anchor; views]; on the same image, as in the paper, the spreading term gives the
    direction."""
    anchor = _held(anchor)
    return lambda views: instance_spreading(anchor, embed(views), temperature)


def simsiam(embed: Embed, predictor: Embed, anchor: Tensor) -> Loss:
    """-cos(predictor(embed(view)), anchor): SimSiam and, with the target network's embedding as anchor, BYOL.

    The predictor is not the identity, so that the cosine is below 1 and has a gradient also on the same image.
    """
    anchor = _held(anchor)
    return lambda views: -F.cosine_similarity(predictor(embed(views)), anchor, dim=1)


def moco(embed: Embed, keys: Tensor, queue: Tensor, temperature: float = 0.2) -> Loss:
    """InfoNCE of the views against ``keys`` (B, D) of the momentum encoder and a ``queue`` (K, D), which is read only:
    enqueue in the training step. Direction from the queue, and from the keys of the other view."""
    keys, queue = _held(keys), _held(queue).clone()
    return lambda views: info_nce(embed(views), keys, temperature, queue)


def swav(embed: Embed, prototypes: Embed, codes: Tensor, temperature: float = 0.1) -> Loss:
    """Cross-entropy of the views' prototype scores against ``codes`` (B, K), the other view's assignment (SwAV, Caron
    et al., NeurIPS 2020). Codes are sharper than the scores, so that there is a gradient."""
    codes = _held(codes)
    scores = lambda views: prototypes(F.normalize(embed(views), dim=1)) / temperature  # noqa: E731
    return lambda views: -(codes * scores(views).log_softmax(1)).sum(1)


def dino(
    student: Embed,
    teacher: Tensor,
    center: Tensor | float = 0.0,
    temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> Loss:
    """Cross-entropy of the student's softmax with the teacher's, centred and sharpened (DINO, Caron et al., ICCV 2021).

    DINO never compares teacher and student on the same crop: the diagonal of its loss is zero. So ``teacher`` is what
    the teacher makes of the *other* global crop, logits (B, K). Multi-crop: for a hard local crop stack those of all
    global crops, (T, B, K), and for a hard global crop all but its own; the view then joins the student's crops. The
    teacher is sharper than the student, so that there is a gradient.

    Args:
        student: backbone and head, images to logits (B, K).
        teacher: its logits of the crops that the view is compared with.
        center: that of the loss, such as ``criterion.center`` of lightly's ``DINOLoss``. It is not updated.
        temperature, teacher_temperature: of the two softmaxes.
    """
    with torch.inference_mode(False):
        targets = ((_held(teacher) - _held(torch.as_tensor(center))) / teacher_temperature).softmax(-1)
        targets = targets.reshape(-1, *teacher.shape[-2:]).mean(0)
    return lambda views: -(targets * (student(views) / temperature).log_softmax(1)).sum(1)


def redundancy_reduction(embed: Embed, criterion: Callable[[Tensor, Tensor], Tensor], anchor: Tensor) -> Loss:
    """Barlow Twins, VICReg and others with a criterion over two batches of embeddings, such as lightly's
    ``BarlowTwinsLoss()`` or ``VICRegLoss()``. It mixes the batch, so that views depend on their neighbours; the terms
    on correlations or variances give a direction also on the same image."""
    anchor = _held(anchor)
    return lambda views: criterion(embed(views), anchor)


def supervised(model: Embed, labels: Tensor, label_smoothing: float = 0.0) -> Loss:
    """Cross-entropy with the true ``labels``, (B,) or mixed (B, K), as AdvProp raises it. The anchor is the label."""
    labels = _held(labels)
    return lambda views: F.cross_entropy(model(views), labels, reduction="none", label_smoothing=label_smoothing)


def fixmatch(model: Embed, logits: Tensor, threshold: float = 0.95) -> Loss:
    """FixMatch: cross-entropy of the views with the labels that ``logits`` (B, K) of the weak views predict with a
    confidence of at least ``threshold``. The others have no gradient: their views are the images, and are warned of."""
    with torch.inference_mode(False):
        confidence, labels = _held(logits).softmax(1).max(1)
        sure = (confidence >= threshold).float()
    return lambda views: F.cross_entropy(model(views), labels, reduction="none") * sure


def _held(anchor: Tensor) -> Tensor:
    """``anchor``, held fixed, as a tensor that autograd may use."""
    with torch.inference_mode(False):
        return outside_inference(anchor)
