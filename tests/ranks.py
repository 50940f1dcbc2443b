"""examples/ssl/train.py on several processes, as torchrun starts it, but forked from one that has imported all."""

import multiprocessing
import os
import socket
import sys

import large  # noqa: F401  train.py imports it when it is needed
import train

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["torch", "torchvision", "lightly.loss", "kornia", "timm"])  # it does not know tests/


def rank_of(rank, world, port, arguments, file):
    """What one process does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    with open(file, "w") as told:
        os.dup2(told.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    train.main(arguments)


def start(world, folder, arguments):
    """The processes; what they say goes to files in ``folder``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    folder.mkdir(parents=True, exist_ok=True)
    started = [
        context.Process(target=rank_of, args=(rank, world, port, list(map(str, arguments)), folder / f"rank{rank}"))
        for rank in range(world)
    ]
    for process in started:
        process.start()
    return started


def ended(started, folder, seconds=300):
    """Exit status and last line of each."""
    for process in started:
        process.join(seconds)
        assert process.exitcode is not None, "it hangs"
    told = [(folder / f"rank{rank}").read_text().strip().splitlines() for rank in range(len(started))]
    return [(process.exitcode, lines[-1] if lines else "") for process, lines in zip(started, told, strict=True)]
