"""SimCLR under accelerate, on one process or many: NT-Xent over the images of all of them, in the attack too.

python examples/accelerate_ddp.py
accelerate launch --multi_gpu --num_processes 2 examples/accelerate_ddp.py
torchrun --nproc-per-node 2 examples/accelerate_ddp.py
"""

import kornia.augmentation as K
import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from lightly.loss import NTXentLoss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from idaa_transforms import IDAATransform
from idaa_transforms.sample import cifar10_sample

EPOCHS = 8


def main() -> list[float]:
    """Train; return the mean loss of every epoch on this process."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    set_seed(0)
    model = timm.create_model("resnet10t", num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(cifar10_sample()[0]), batch_size=32 // accelerator.num_processes, shuffle=True)
    model, optimiser, loader = accelerator.prepare(model, optimiser, loader)
    set_seed(accelerator.process_index)  # other random views on each process
    random = nn.Sequential(K.RandomResizedCrop((32, 32)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4))
    criterion = NTXentLoss(gather_distributed=accelerator.num_processes > 1)
    idaa = IDAATransform.from_pretrained("cifar10-vae-small").to(accelerator.device)

    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for (x,) in loader:
            x1, x2 = random(x), random(x)
            z1, z2 = model(torch.cat([x1, x2])).chunk(2)  # one pass: DDP's broadcast of buffers would spoil a first one
            hard = idaa(x1, loss_fn=lambda views, z2=z2: criterion(model(views), z2.detach()))
            loss = criterion(z1, z2)
            accelerator.backward(loss)
            loss_hard = criterion(model(hard), z2.detach())
            accelerator.backward(loss_hard)
            optimiser.step()
            optimiser.zero_grad()
            total += (loss + loss_hard).item() / len(loader)
        losses.append(total)
        accelerator.print(f"epoch {epoch + 1}: loss {total:.3f} on {accelerator.num_processes} process(es)")
    accelerator.end_training()
    return losses


if __name__ == "__main__":
    main()
