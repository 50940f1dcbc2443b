"""SimCLR in Lightning: hard views on the device, in on_after_batch_transfer, for training, validation and test.

python examples/lightning_simclr.py
"""

import kornia.augmentation as K
import pytorch_lightning as L
import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

EPOCHS = 4


class SimCLR(L.LightningModule):
    """Two random views and a hard one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model("resnet10t", num_classes=64)
        self.model.maxpool = nn.Identity()  # for small images
        self.random = nn.Sequential(
            K.RandomResizedCrop((32, 32)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4)
        )
        self.idaa = IDAATransform.from_pretrained("cifar10-vae-small")  # a module: Lightning moves it to the device
        self.losses: list[float] = []

    def on_after_batch_transfer(self, batch: list[torch.Tensor], dataloader_idx: int) -> tuple[torch.Tensor, ...]:
        """The views of a batch. Also in validation and test, which run in inference mode."""
        (x,) = batch
        x1, x2 = self.random(x), self.random(x)
        return x1, x2, self.idaa(x1, loss_fn=objectives.simclr(self.model, self.model(x2)))

    def training_step(self, batch: tuple[torch.Tensor, ...], batch_idx: int) -> torch.Tensor:
        """The usual loss, and the same against the hard view."""
        z1, z2, z3 = map(self.model, batch)
        loss = nt_xent(z1, z2).mean() + nt_xent(z1, z3).mean()
        self.log("loss", loss, prog_bar=True)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, ...], batch_idx: int) -> None:
        """How much harder the hard view is."""
        z1, z2, z3 = map(self.model, batch)
        self.log("harder_by", (nt_xent(z3, z2) - nt_xent(z1, z2)).mean(), prog_bar=True)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The VAE is frozen: only the model is trained."""
        return torch.optim.Adam(self.model.parameters(), lr=1e-3)


def main() -> list[float]:
    """Fit, validate and test; return the loss of every step."""
    L.seed_everything(0)
    system, loader = SimCLR(), DataLoader(TensorDataset(cifar10_sample()[0]), batch_size=32)
    trainer = L.Trainer(max_epochs=EPOCHS, accelerator="auto", logger=False, enable_checkpointing=False)
    trainer.fit(system, loader, loader)
    trainer.test(system, loader)
    return system.losses


if __name__ == "__main__":
    main()
