"""A function in several processes of one group, as by torchrun, but forked from one that has imported torch."""

import multiprocessing
import os
import socket

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["torch", "torchvision", "lightly.loss", "kornia", "timm"])  # it does not know tests/


def rank_of(rank, world, port, function, arguments):
    """What one process does."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    os.environ |= {"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    function(*arguments)


def together(function, *arguments, world=2, seconds=300):
    """Run ``function(*arguments)`` in ``world`` processes until all have ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = [
        context.Process(target=rank_of, args=(rank, world, port, function, arguments), daemon=True)
        for rank in range(world)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(seconds)
    assert [process.exitcode for process in started] == [0] * world
