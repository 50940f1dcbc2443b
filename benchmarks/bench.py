"""Is a hard view nearly free? Measure it here, beside the targets.

    python -m benchmarks.bench                                      # the table of targets; minutes on two cores
    python -m benchmarks.bench --suites all                         # everything, then the report with its plots
    python -m benchmarks.bench --suites all --device cuda --batch 512 --batches 1 8 64 512 2048 --dtype bfloat16

Each suite writes results/speed/<device>-<suite>.json; the report makes one page of all that is there.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import torch

from idaa_transforms.util.precision import use_bfloat16

from . import bench_report, harness
from .suites import Options
from .workload import DTYPES


def main() -> None:
    """Measure, save and print suite after suite."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=[*bench_report.SUITES, "all"], default=["targets"])
    parser.add_argument("--device", default=default.device, help="cpu or cuda")
    parser.add_argument("--dtype", choices=DTYPES, default=default.dtype)
    parser.add_argument("--batch", type=int, default=default.batch, help="images a batch")
    parser.add_argument("--batches", type=int, nargs="+", default=default.batches, help="where the batch is varied")
    parser.add_argument("--repeats", type=int, default=default.repeats)
    parser.add_argument("--weights", nargs="+", default=default.weights, help="of the suite large: names or folders")
    args = vars(parser.parse_args())
    chosen = bench_report.SUITES if "all" in args["suites"] else args["suites"]
    if not use_bfloat16(args["dtype"] == "bfloat16", args["device"]):
        args["dtype"] = "float32"
    options = Options(**{field.name: args[field.name] for field in dataclasses.fields(Options)})
    for name in chosen:
        started = time.perf_counter()
        rows = list(bench_report.module(name).run(options))
        settings = {"suite": name} | dataclasses.asdict(options) | {"threads": torch.get_num_threads()}
        file = harness.save(f"speed/{options.device.split(':')[0]}-{name}", settings, rows)
        print(f"\n{bench_report.page(file)}\n{time.perf_counter() - started:.0f} s", flush=True)
    bench_report.write(harness.RESULTS / "speed")


if __name__ == "__main__":
    main()
