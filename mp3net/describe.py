"""python -m mp3net.describe: what a configuration builds, block by block (figures 3 and 4), and what it costs.

With --tpu, what its training step takes on a TPU, by that TPU's compiler; with --gpu, what a round takes on one GPU.
Neither is needed for it, a few minutes are.
"""

import json

from mp3net import cli, hardware
from mp3net.errors import UsageError, UserError, check_number


def main(arguments=None):
    """Reads flags and configuration, builds both networks without running them, and prints what they are."""
    parser = cli.parser("describe", __doc__)
    cli.add_configuration(parser)
    parser.add_argument("--json", metavar="FILE", help="write the same as JSON")
    parser.add_argument("--tpu", metavar="NAME", help="compile the training step for this TPU: v2-8, v3-8, v4-8, ...")
    parser.add_argument("--largest_batch", action="store_true", help="with --tpu: how many examples a device holds")
    parser.add_argument(
        "--device", choices=["jax:gpu"], help="the same as --gpu with the memory of this machine's card"
    )
    add_gpu(parser)
    options = parser.parse_args(arguments)
    if options.device and not options.gpu:
        options.gpu = gpu_here()
    check_gpu(options)
    if options.largest_batch and not options.tpu:
        raise UsageError("--largest_batch is of a TPU: add --tpu, such as --tpu v2-8.")
    machine = _machine(options.tpu) if options.tpu else None
    cli.require_tensorflow()

    from mp3net import configuration

    training, _ = configuration.load(options.gin, options.gin_param)
    described = description(training.system)
    for network in ("generator", "discriminator"):
        print(f"\n{network}")
        print_table(described["layers"][network])
    print()
    print_summary(described)
    print_training_cost(described, training.system)
    if machine:
        print()
        described["tpu"] = tpu_cost(training, machine, options.largest_batch)
    if options.gpu:
        print()
        described["gpu"] = gpu_cost(training, options)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(described, file, indent=2)
    return 0


def description(system):
    """What an MP3net is: plain JSON.

    `generator_gflop` is one forward pass of one example, a multiply-add counting as 2.
    """
    from mp3net.model.cost import layer_records, training_cost

    layers = layer_records(system.sizes)
    flop = {network: 2 * sum(record.multiply_adds for record in records) for network, records in layers.items()}
    parameters = {network: sum(record.parameters for record in records) for network, records in layers.items()}
    sizes = system.sizes
    return {
        "generator_parameters": parameters["generator"],
        "discriminator_parameters": parameters["discriminator"],
        "output_shape": list(sizes.output_shape),
        "seconds": sizes.seconds,
        "rate_hz": sizes.rate_hz,
        "generator_gflop": flop["generator"] / 1e9,
        "discriminator_gflop": flop["discriminator"] / 1e9,
        "batch_size": system.batch_size,
        "training_step": training_cost(layers, system.batch_size),
        "layers": {
            network: [
                {
                    "layer": record.title, "kind": record.kind, "input_shape": list(record.input_shape),
                    "output_shape": list(record.output_shape), "parameters": record.parameters,
                    "gflop": 2 * record.multiply_adds / 1e9,
                }
                for record in records
            ]
            for network, records in layers.items()
        },
    }  # fmt: skip


def tpu_cost(training, machine, largest=False):
    """Compiles a training step for a `Machine` of aot/chips.py, and prints what it takes there: plain JSON.

    With `largest`, also how many examples one device has room for.
    """
    from mp3net.aot import fitting, wording
    from mp3net.aot.report import Steps, report

    steps = Steps(training, machine, _progress)
    way = steps.way()
    found = report(steps, way)
    print("\n".join(["", *wording.lines(found)]), flush=True)
    if not found["fits"]:
        print("Looking for what would fit. Each attempt is compiled: minutes, half an hour if large.", flush=True)
        fitting_way, bindings = fitting.way_that_fits(steps, way, found["hbm_gib"], _progress)
        found["would_fit"] = None if fitting_way is None else {"set": bindings, **report(steps, fitting_way)}
        print(wording.advice(found["would_fit"], bindings), flush=True)
    if largest:
        found["largest_batch_per_device"] = fitting.largest_batch(steps)
        found["largest_batch"] = machine.devices * found["largest_batch_per_device"]
        print(wording.largest(found), flush=True)
    return found


def add_gpu(parser):
    """Adds `--gpu` and `--tflops`; `gpu_here`, `check_gpu` and `gpu_cost` belong to them."""
    parser.add_argument("--gpu", metavar="GIB", help="compile a round for one GPU of so many GiB; 'any' for no limit")
    parser.add_argument("--tflops", type=float, metavar="RATE", help="with --gpu: days of a run at so many TFLOP/s")


def gpu_here():
    """`--gpu` for the card of this machine, "any" where there is none."""
    gib = hardware.gpu_gib()
    return "any" if gib is None else f"{gib:g}"


def check_gpu(options):
    """Raises `UsageError` where `--gpu` is no size, or `--tflops` stands alone."""
    if options.gpu not in (None, "any"):
        try:
            check_number("--gpu", float(options.gpu), above=0)
        except (ValueError, UserError):
            raise UsageError(f"--gpu {options.gpu}: give the card's GiB, such as --gpu 24, or 'any'.") from None
    if options.tflops is not None and (not options.gpu or not 0 < options.tflops < float("inf")):
        raise UsageError("--tflops is a rate above 0, of a GPU: add --gpu, such as --gpu 24 --tflops 50.")


def gpu_cost(training, options):
    """Compiles a round for a GPU, and prints what it takes there: plain JSON."""
    from mp3net.aot import card

    gib = None if options.gpu == "any" else float(options.gpu)
    device, _, devices = options.device.rpartition(":") if options.device else ("", "", "")
    count = int(devices) if device == "jax:gpu" else 1
    report = card.report(training, gib, _progress, options.tflops, devices=count)
    print("\n".join(card.lines(report)), flush=True)
    return report


def _machine(name):
    """The TPU of that name, once the compiler for it is known to be there."""
    from mp3net.aot import chips, compiling

    machine = chips.find(name)
    compiling.versions()
    return machine


def _progress(line):
    print(line, flush=True)


def print_table(layers):
    """A line for each layer: where it is, what it does, its output (block x band x feature), parameters, GFLOP."""
    print(f"{'layer':<24}{'kind':<32}{'output':>20}{'parameters':>14}{'GFLOP':>12}")
    for layer in layers:
        shape = " x ".join(str(size) for size in layer["output_shape"])
        print(f"{layer['layer']:<24}{layer['kind']:<32}{shape:>20}{layer['parameters']:>14,}{layer['gflop']:>12.4f}")


def print_summary(found):
    """Sizes of the output and of both networks."""
    blocks, bands, channels = found["output_shape"]
    shape = f"{blocks} blocks x {bands} bands x {channels} channels"
    print(f"output: {shape}, {found['seconds']:.2f} s at {found['rate_hz']} Hz")
    for network in ("generator", "discriminator"):
        print(f"{network}: {found[network + '_parameters']:,} parameters, {found[network + '_gflop']:.3g} GFLOP a pass")


def print_training_cost(found, system):
    """FLOP and memory of a training step, and what they count."""
    cost = found["training_step"]
    print(
        f"training, batch {found['batch_size']}: {cost['d_step_tflop']:.3g} TFLOP per D update, "
        f"{cost['g_step_tflop']:.3g} per G update (one for each {system.steps_per_round} of D)"
    )
    print(
        f"memory: {cost['state_gib']:.2f} GiB of weights, gradients and optimizer state; about "
        f"{cost['activations_gib']:.2f} GiB of activations at the peak of a D update, in float32"
    )


if __name__ == "__main__":
    cli.run(main)
