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
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from config import PLACE, Config
from crops import Cropped, RandomCrops, labelled_pictures, load
from network import Model
from probe import probe
from step import augmentations, learn, make_attack
from torch import Tensor, distributed, nn
from tqdm import tqdm
from train import learning_rate, make_model, make_optimiser, set_rate, strength

from examples.shared.clock import Clock
from examples.shared.parallel import augment_share
from examples.shared.runs import hours, now, read_log, resume, save, set_up, since, write_result
from idaa_transforms._util.provenance import provenance
from idaa_transforms.training.pictures import Pictures
from idaa_transforms.training.run import TrainingError, log_row, own_folder, stoppable

PHASES = ("data", "augmentation", "view", "step", "checkpoint")


@dataclass
class Position:
    """How far a run has come, as a part of its checkpoint."""

    data: str
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Steps done, and on what data."""
        return {"step": self.step, "data": self.data}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ValueError: on other data.
        """
        if state["data"] != self.data:
            raise ValueError("the checkpoint is of other pictures than --data has now; use another --out")
        self.step = state["step"]


def train_stream(config: Config) -> dict[str, Any]:
    """Train, evaluate, and return what result.json holds; {} on all but the first process, and if stopped before."""
    origin = provenance()
    rank, world = set_up(config)
    learning, testing = labelled_pictures(config.data, config.root, config.train_images, config.test_images)
    steps = len(learning) // config.batch_size
    total = round(config.epochs * steps)
    if not total or config.batch_size % (world * config.accumulate):
        raise ValueError(
            f"{len(learning)} pictures in batches of {config.batch_size} for {world} processes, each in "
            f"{config.accumulate} parts, leave some empty"
        )
    torch.manual_seed(config.seed)
    model = make_model(config, None)
    optimiser = make_optimiser(config, model)
    attack = make_attack(config, model)
    if config.compile:
        model.backbone.compile()
    folder, position = Path(config.out), Position(learning.fingerprint())
    state = {"model": model, "optimiser": optimiser, "position": position}
    if rank == 0:
        own_folder(folder)
    with explained(folder / "checkpoint.pt"):
        aside = (*PLACE, "data")  # a folder may move: its fingerprint counts
        _, spent = resume(folder / "checkpoint.pt", config, state, aside)
        same_everywhere(position.step)
        run = Run(config, model, attack, optimiser, position, learning, steps, spent, rank, world)
        run.until(min(total, config.stop_after * steps or total))
        if position.step < total:
            return {}
        metrics = probe(config, model, learning, testing, folder, rank, world)
    if rank:
        return {}
    seen = {"processes": world, **hours(run.spent), "attack": attack.stats() if attack else {}}
    return write_result(folder, origin, config, PLACE, **seen, metrics=metrics, log=read_log(folder / "log.csv"))


@dataclass
class Run:
    """What a run of training has in hand; ``steps`` are those of an epoch."""

    config: Config
    model: Model
    attack: Any
    optimiser: torch.optim.Optimizer
    position: Position
    learning: Pictures
    steps: int
    spent: dict[str, float]
    rank: int
    world: int

    def __post_init__(self) -> None:
        size, config = self.config.image_size, self.config
        self.crops = RandomCrops([(size, config.crops, (config.crop, 1.0))])
        place, look = augmentations(replace(config, crop=1), (3, size, size))  # the crops are cut by the workers
        self.augment = nn.Sequential(*place, *look)
        self.clock = Clock(config.device)
        if self.attack is not None:
            self.clock.watch(self.attack, "view")

    def until(self, last: int) -> None:
        """Train until so many steps are done."""
        done = self.position.step
        with tqdm(total=last, initial=done, unit="step", disable=self.rank > 0) as bar:
            self.model.train()
            self.started, self.last_row = now(), done
            sums = torch.zeros(2, device=self.config.device)
            while self.position.step < last:
                batches = self.batches(last)
                while True:
                    with self.clock.phase("data"):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    sums += self.step(batch[0])
                    bar.update()
                    if self.position.step % self.config.every == 0 or self.position.step == last:
                        bar.set_description(f"loss {self.record(sums):.3f}")
                        sums.zero_()

    def batches(self, last: int) -> Iterator[Any]:
        """What is left of the epoch: this process's share of the crops of each batch, uint8, and labels."""
        epoch, done = divmod(self.position.step, self.steps)
        dataset = Cropped(self.learning, self.crops, f"{self.config.seed} {epoch}")
        options = self.config.workers, self.config.patience, self.rank, self.world
        batches = load(dataset, self.config.batch_size, *options, (self.config.seed, epoch, done))
        return itertools.islice(batches, last - self.position.step)

    def step(self, crops: list[Tensor]) -> Tensor:
        """One step on stacks of crops (b, V, C, H, W), seeded by its number; its two losses."""
        step, config = self.position.step, self.config
        torch.manual_seed(random.Random(f"{config.seed} {step}").getrandbits(32))
        set_rate(self.optimiser, learning_rate(config, step / self.steps))
        self.model.method.done = step / (config.epochs * self.steps)
        self.eps = strength(config, (step + 1) / self.steps)
        parts = zip(*(stack.chunk(config.accumulate) for stack in crops), strict=True)
        losses = learn(self.model, self.attack, self.optimiser, map(self.views, parts), self.eps)
        self.position.step += 1
        return losses

    def views(self, crops: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Random views of crops: flips, colours and blur, then normalised."""
        with self.clock.phase("augmentation"):
            views = [
                self.model.normalise(augment_share(self.augment, view.float() / 255, self.rank, self.world))
                for view in crops[0].to(self.config.device, non_blocking=True).unbind(1)
            ]
        return views[:2], views[2:]

    def record(self, sums: Tensor) -> float:
        """The first process writes a row of the log, with the losses whose ``sums`` these are, and a checkpoint.
        Returns the mean loss."""
        step, many = self.position.step, self.position.step - self.last_row
        loss, extra_loss = (sums / many).tolist()
        if not math.isfinite(loss + extra_loss):
            raise TrainingError(f"the loss became {loss} and {extra_loss} by step {step}; lower --lr or --eps")
        took, phases = since(self.started), self.clock.read()
        self.started, self.last_row = now(), step
        self.spent = {name: self.spent[name] + took[name] for name in self.spent}
        if self.rank:
            return loss
        row = {"step": step, "epoch": step / self.steps, "loss": loss, "extra_loss": extra_loss, "eps": self.eps}
        row |= {"lr": self.optimiser.param_groups[0]["lr"], **took}
        row |= {"images_per_second": many * self.config.batch_size / took["seconds"]}
        row |= {f"{name}_seconds": phases.get(name, 0.0) for name in PHASES}
        folder = Path(self.config.out)
        log_row(folder / "log.csv", row, by="step")
        if self.config.tensorboard:
            board(folder, row)
        state = {"model": self.model, "optimiser": self.optimiser, "position": self.position}
        with self.clock.phase("checkpoint"):
            save(folder / "checkpoint.pt", self.config, state, step // self.steps, self.spent)
        return loss


def board(folder: Path, row: dict[str, Any]) -> None:
    """The row of a log for TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for name, value in row.items():
            writer.add_scalar(name, value, row["step"])


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
    except KeyboardInterrupt:
        raise TrainingError(f"stopped; {how_to_go_on(checkpoint)}") from None
    except Exception as error:
        said = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and any(word in said for word in ("gloo", "NCCL", "Timed out")):
            said = f"another process of this run ended or does not answer ({said[:160]})"
        elif isinstance(error, RuntimeError) and "DataLoader worker" in said:
            said = f"a worker that decodes pictures ended ({said[:160]}); look at the memory, or use fewer --workers"
        elif not isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{said}; {how_to_go_on(checkpoint)}") from error


def how_to_go_on(checkpoint: Path) -> str:
    """What is left of a run that ended."""
    if checkpoint.exists():
        return f"the same command goes on from {checkpoint}"
    return "there was no checkpoint yet, so that the same command begins anew; --every makes them more often"
