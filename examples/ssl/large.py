"""Training on pictures that do not fit into memory, in steps: ImageNet at 224.

    torchrun --nproc-per-node 8 examples/ssl/train.py --recipe imagenet --method simsiam --view idaa --pair replace \\
        --data path/to/imagenet

Workers decode pictures and cut the random crops of each view out of them; all else of the augmentation is done on the
device. A batch, its views and their colours are the same whatever the number of processes. A run that was interrupted,
by whatever, goes on from the last checkpoint, in the middle of an epoch, and ends with the same weights as one that was
not.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from config import PLACE, Config
from crops import Cropped, RandomCrops, labelled_pictures, load
from probe import probe
from step import augmentations, learn, make_attack
from torch import Tensor, distributed, nn
from tqdm import tqdm
from train import finite, learning_rate, make_model, make_optimiser, set_rate

from examples.shared.parallel import augment_share
from examples.shared.runs import hours, now, read_log, resume, save, set_up, since, write_result
from idaa_transforms._util.provenance import provenance
from idaa_transforms.training.run import TrainingError, log_row, own_folder, stoppable


def train_stream(config: Config) -> dict[str, Any]:
    """Train, evaluate, and return what result.json holds; {} on all but the first process, and if stopped before."""
    origin = provenance()
    rank, world = set_up(config)
    learning, testing = labelled_pictures(config.data, config.root, config.train_images, config.test_images)
    steps = len(learning) // config.batch_size
    total = round(config.epochs * steps)
    if not total or config.batch_size % world:
        raise ValueError(
            f"{len(learning)} pictures in batches of {config.batch_size} for {world} processes leave some empty"
        )
    torch.manual_seed(config.seed)
    model = make_model(config, None)
    optimiser, attack = make_optimiser(config, model), make_attack(config, model)
    if config.compile:
        model.backbone.compile()
    crop = RandomCrops(config.image_size, config.crops, (config.crop, 1.0))
    place, look = augmentations(replace(config, crop=1), (3, config.image_size, config.image_size))
    augment = nn.Sequential(*place, *look)  # without crops, which workers cut

    def views(crops: Tensor) -> Iterator[Tensor]:
        """Flips, colours and blur of crops (b, V, C, H, W), uint8, then normalised."""
        for view in crops.to(config.device, non_blocking=True).unbind(1):
            yield model.normalise(augment_share(augment, view.float() / 255, rank, world))

    folder = Path(config.out)
    checkpoint, state = folder / "checkpoint.pt", {"model": model, "optimiser": optimiser}
    last = min(total, config.stop_after * steps or total)
    bar = tqdm(total=last, unit="step", disable=rank > 0)
    own_folder(folder)
    with bar, explained(checkpoint):
        at, spent = resume(checkpoint, config, state, (*PLACE, "data"))  # a folder of pictures may move
        same_everywhere(at)
        bar.n = bar.initial = at
        model.train()
        sums, row_of, started, waited = torch.zeros(2, device=config.device), at, now(), 0.0
        while at < last:
            epoch, done = divmod(at, steps)
            options = config.batch_size, config.workers, config.patience, rank, world
            batches = load(Cropped(learning, crop, f"{config.seed} {epoch}"), *options, (config.seed, epoch, done))
            asked = time.perf_counter()
            for crops, _ in itertools.islice(batches, last - at):
                waited += time.perf_counter() - asked
                torch.manual_seed(random.Random(f"{config.seed} {at}").getrandbits(32))
                set_rate(optimiser, learning_rate(config, at / steps))
                x1, x2, *more = views(crops)
                sums += learn(model, attack, optimiser, [x1, x2], more)
                at += 1
                bar.update()
                if at % config.every == 0 or at == last:
                    many = at - row_of
                    losses = finite(sums / many, f"by step {at}")
                    took = since(started)
                    spent = {name: spent[name] + took[name] for name in spent}
                    if rank == 0:
                        row = {"step": at, "epoch": at / steps, **losses}
                        row |= {"lr": optimiser.param_groups[0]["lr"], **took, "data_seconds": waited}
                        row |= {"images_per_second": many * config.batch_size / took["seconds"]}
                        log_row(folder / "log.csv", row, by="step")
                        save(checkpoint, config, state, at, spent)
                        bar.set_description(f"loss {losses['loss']:.3f}")
                    row_of, started, waited = at, now(), 0.0
                    sums.zero_()
                asked = time.perf_counter()
        bar.close()
        if at < total:
            return {}
        metrics = probe(config, model, learning, testing, folder, rank, world)
    if rank:
        return {}
    seen = {"processes": world, **hours(spent), "attack": attack.stats() if attack else {}}
    return write_result(folder, origin, config, PLACE, **seen, metrics=metrics, log=read_log(folder / "log.csv"))


def same_everywhere(step: int) -> None:
    """Raises a ValueError where the processes found different checkpoints, as on disks that they do not share."""
    if distributed.is_initialized():
        found: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(found, step)
        if len(set(found)) > 1:
            raise ValueError(f"processes go on from steps {found}: --out must be a folder that all machines share")


@contextmanager
def explained(checkpoint: Path) -> Iterator[None]:
    """Whatever ends a run is one line, with how to go on: workers and processes that die or hang, and SIGTERM."""
    try:
        with stoppable():
            yield
    except (KeyboardInterrupt, RuntimeError) as error:
        said = " ".join(str(error).split())
        if isinstance(error, KeyboardInterrupt):
            said = "stopped"
        elif "DataLoader" in said:
            said = f"workers that decode pictures ended or did not answer ({said[:120]}); use fewer --workers"
        elif any(word in said for word in ("gloo", "NCCL", "Timed out")):
            said = f"another process of this run ended or does not answer ({said[:160]})"
        elif not isinstance(error, TrainingError):
            raise
        left = f"goes on from {checkpoint}" if checkpoint.exists() else "begins anew, since there is no checkpoint yet"
        raise TrainingError(f"{said}; the same command {left}") from error
