"""python -m mp3net.train: from a folder of recordings to a trained model; the same command resumes."""

import contextlib
import os

from mp3net import cli, describe, hardware
from mp3net.errors import UsageError, UserError


def main(arguments=None):
    """Reads flags and configuration, then hands over to `training/trainer.py`."""
    options = _parser().parse_args(arguments)
    describe.check_gpu(options)
    if options.gpu and not options.dry_run:
        raise UsageError("--gpu tells what a run would take: add --dry_run.")
    if options.export and options.imported:
        raise UsageError("--export and --import are two commands: give one.")
    if options.dry_run and options.device.startswith("jax:gpu"):
        options.gpu = options.gpu or describe.gpu_here()
    if not options.workdir and not options.dry_run and not options.export:
        raise UsageError("--workdir is missing: a folder for checkpoints and metrics.")
    if options.imported:
        return _import(options)
    if not options.data:
        raise UsageError("--data is missing: a prepared corpus, or any folder of recordings.")
    if options.export:
        return _export(options)
    cli.require_tensorflow(tpu=options.device in ("auto", "tpu", "tpu:local"))

    from mp3net import configuration
    from mp3net.training import cluster, lock
    from mp3net.training import devices as where

    # First: TensorFlow will not change its devices once it has run anything.
    absent = options.dry_run and options.device.startswith("jax:gpu") and not hardware.nvidia_gpus()
    devices = where.choose("cpu" if absent else options.device, options.connect_s)  # what it takes can be told anyway
    training, settings = configuration.load(options.gin, options.gin_param)
    stages = training.system.stages(training.steps)
    for stage in stages:
        devices.split(stage.batch_size, training.micro_batch)
    pipeline = _pipeline(options, settings, training, stages)
    if options.dry_run:
        return _dry_run(options, training, stages, devices)
    try:
        if devices.chief:
            _make_workdir(options.workdir)
        with lock.hold(options.workdir) if devices.chief else contextlib.nullcontext():
            return _run(options, training, devices, pipeline)
    except cluster.HostLost as error:
        return cluster.end(str(error))  # not by an exception: TensorFlow would wait for the lost host before it leaves


def _run(options, training, devices, pipeline):
    """Builds or restores the system, trains it, and returns the exit status."""
    from mp3net import configuration, recorded
    from mp3net.training import checkpoints
    from mp3net.training.trainer import train

    text = configuration.in_force()
    resumed = checkpoints.latest(options.workdir)
    _agree(devices, resumed, options.workdir)
    if resumed:
        _compare(resumed, text, pipeline.identity, options)
        if resumed.step >= training.steps:
            print(f"{options.workdir} is trained to step {resumed.step} of {training.steps}: nothing to do.")
            return 0
    place = {"device": devices.name, "xla": devices.place.xla}
    with devices.watched(), devices.scope():
        system = training.system.build(devices.place, training.seed)
        if resumed:
            resumed.restore(system.checkpoint_items())
            print(f"resuming {resumed.path} at step {resumed.step}", flush=True)
            _compare_places(resumed.host_state.get("place"), place)
            if options.init_from:
                print(f"--init_from {options.init_from} is for a new run, and is left aside")
        elif options.init_from:
            _start_from(checkpoints.find(options.init_from), system, options)
    if devices.chief:
        _write(os.path.join(options.workdir, "config.gin"), text)

    settings = recorded.to_json(pipeline.settings, training.seed)
    record = {"configuration": text, "data": pipeline.identity, "place": place, "settings": settings}
    log = _log if devices.chief else (lambda line: None)
    ended_by = train(training, devices, pipeline, options.workdir, record, resumed, log)
    if ended_by is not None:
        print("Stopped. The same command goes on from here.")
        return 128 + ended_by
    print(f"Done. Songs: python -m mp3net.generate --ckpt {options.workdir} --n 16")
    return 0


def _export(options):
    """Writes the run as `portable/export.py` has it, and returns the exit status."""
    cli.require_tensorflow()
    from mp3net import configuration, recorded
    from mp3net.portable import export
    from mp3net.training import checkpoints, pjrt
    from mp3net.training import devices as where
    from mp3net.training.progress import Averages

    where.require_jax()
    kind, _, which = options.device.partition(":")
    if kind not in ("jax", "auto"):
        raise UsageError(f"--export is for --device jax:gpu (the default), jax:tpu or jax:cpu, not {options.device}.")
    platform, count = pjrt.parsed(options.device, which)
    target = export.Target((platform or "gpu").upper(), count or 1)
    export.check_folder(options.export)
    where.exact_float32()
    training, settings = configuration.load(options.gin, options.gin_param)
    stages = training.system.stages(training.steps)
    pipeline = _pipeline(options, settings, training, stages)
    text = configuration.in_force()
    resumed = checkpoints.latest(options.workdir) if options.workdir else None
    if resumed:
        _compare(resumed, text, pipeline.identity, options)
    if resumed or options.init_from:
        initial, system = None, training.system.build(target.place, training.seed)
    else:
        initial = export.initial_program(training, target)
    if resumed:
        resumed.restore(system.checkpoint_items())
    elif options.init_from:
        _start_from(checkpoints.find(options.init_from), system, options)
    averages = Averages(resumed.host_state.get("averages") if resumed else None)
    first = {"step": resumed.step if resumed else 0, "averages": averages.state}
    record = {"configuration": text, "settings": recorded.to_json(settings, training.seed)}
    export.export(options.export, training, target, pipeline, record, initial, first, options.export_mib, _log)
    return 0


def _import(options):
    """Makes a checkpoint of an export that was trained, and returns the exit status."""
    cli.require_tensorflow()
    from mp3net.portable import importing
    from mp3net.training import lock

    _make_workdir(options.workdir)
    with lock.hold(options.workdir):
        importing.checkpoint_of(options.imported, options.workdir, _log)
    print(f"Imported. Songs: python -m mp3net.generate --ckpt {options.workdir} --n 16")
    return 0


def _agree(devices, resumed, workdir):
    """Raises `UserError` unless all hosts have found the same checkpoint."""
    step = resumed.step if resumed else -1
    last, first = devices.largest([step, -step])
    first = -first
    if first != last:
        found = "no checkpoint" if first < 0 else f"step {first:.0f}"
        raise UserError(
            f"--workdir {workdir} is not one folder: one host finds {found} in it, another step {last:.0f}. "
            "Give a folder that all hosts share: gs://, or a shared disk."
        )


def _parser():
    parser = cli.parser("train", __doc__)
    cli.add_configuration(parser)
    parser.add_argument("--data", metavar="DIR", help="a prepared corpus, or any folder of recordings")
    parser.add_argument("--workdir", metavar="DIR", help="for checkpoints and metrics; a run that is in it is resumed")
    parser.add_argument(
        "--init_from", metavar="CKPT", help="start from the weights of this working directory or checkpoint"
    )
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="auto (the default), cpu, cpu:N, gpu, gpu:N, tpu, tpu:NAME; by JAX jax, jax:N, jax:cpu, jax:gpu, jax:tpu",
    )
    parser.add_argument(
        "--export", metavar="DIR", help="write what trains it where there is no TensorFlow, for --device jax, and stop"
    )
    parser.add_argument(
        "--export_mib", type=float, default=60, metavar="MIB", help="what that may take, recordings included (60)"
    )
    parser.add_argument(
        "--import", dest="imported", metavar="DIR", help="make a checkpoint in --workdir of an export that was trained"
    )
    parser.add_argument(
        "--connect_s", type=float, default=300, metavar="S", help="how long to wait for a TPU or for other hosts (300)"
    )
    describe.add_gpu(parser)
    parser.add_argument("--accept_changes", action="store_true", help="resume although the configuration has changed")
    parser.add_argument("--dry_run", action="store_true", help="check data and configuration, print costs, and stop")
    return parser


def _log(line):
    print(line, flush=True)


def _pipeline(options, settings, training, stages):
    """The pipeline over `--data`, once every stage is known to find crops in it."""
    from mp3net.data.pipeline import Pipeline

    system = training.system
    pipeline = Pipeline(
        options.data,
        settings,
        system.rate_hz,
        system.channels,
        system.representation.encode,
        system.representation.overlap,
        training.seed,
    )
    corpus = pipeline.corpus
    for line in corpus.remarks():
        print(line)
    plans = [pipeline.plan(stage.crop_samples) for stage in stages]
    print(
        f"{options.data}: {len(corpus.recordings)} recordings, {corpus.duration_s / 3600:.2f} h, "
        f"{plans[0].count} {settings.slicing} crops of {stages[0].crop_samples / system.rate_hz:.2f} s",
        flush=True,
    )
    if corpus.other_splits:
        rest = pipeline.held_out(stages[0].crop_samples)
        found = (
            f"{len(rest.recordings)} recordings, {rest.corpus.duration_s / 3600:.2f} h" if rest else "nothing usable"
        )
        print(f"held out of training: {found} ({', '.join(corpus.other_splits)})")
    if pipeline.resamples:
        print(
            f"{pipeline.resamples} recordings are not at {system.rate_hz} Hz and are resampled crop by crop; "
            f"python -m mp3net.prepare --rate {system.rate_hz} does it once"
        )
    return pipeline


def _dry_run(options, training, stages, devices):
    print(f"device: {devices.name}")
    for stage in stages:
        share, parts = devices.split(stage.batch_size, training.micro_batch)
        held = f"{share} a replica" + (f", in {parts} parts of {share // parts}" if parts > 1 else "")
        print(f"stage {stage.name}: {stage.steps} steps of {stage.batch_size} examples, {held}")
    description = describe.description(training.system)
    describe.print_summary(description)
    describe.print_training_cost(description, training.system)
    if options.gpu:
        describe.gpu_cost(training, options)
    print("Dry run: nothing was trained or written.")
    return 0


def _make_workdir(path):
    import tensorflow as tf

    try:
        tf.io.gfile.makedirs(path)
        probe = os.path.join(path, ".writable")
        _write(probe, " ")
        tf.io.gfile.remove(probe)
    except (tf.errors.OpError, OSError) as error:
        reason = str(getattr(error, "message", error)).splitlines()[0]
        raise UserError(
            f"--workdir {path} cannot be written to: {reason}. Choose another folder, or free some space."
        ) from None


def _write(path, text):
    import tensorflow as tf

    with tf.io.gfile.GFile(path, "w") as file:
        file.write(text)


def _compare(resumed, text, data, options):
    """Prints what differs from the run that is resumed; refuses what makes it another run, unless told otherwise."""
    from mp3net import configuration

    grave, harmless = configuration.differences(resumed.configuration, text)
    before = resumed.host_state.get("data")
    if before != data:
        counts = (found["recordings"] if isinstance(found, dict) else "unknown" for found in (before, data))
        grave.append("--data: {} recordings in the checkpoint's, {} now, and not the same ones".format(*counts))
    for line in harmless:
        print(f"changed: {line}")
    _refuse(f"{options.workdir} holds a run of another configuration", grave, options)


def _compare_places(before, now):
    """Tells where a run that is resumed has moved to."""
    if before in (None, now):
        return
    line = f"changed: {before['device']} before, {now['device']} now"
    if before["xla"] != now["xla"]:
        line += "; with XLA random numbers are another generator's, so latents and noise differ from here on"
    print(line, flush=True)


def _start_from(source, system, options):
    """Sets the weights of `system` to those of another run's checkpoint, if they mean the same in it."""
    before, now = source.architecture.get("architecture", {}), system.architecture()["architecture"]
    lines = [
        f"Architecture.{name}: {before.get(name)} there, {now[name]} here"
        for name in now
        if before.get(name) != now[name]
    ]
    _refuse(f"--init_from {options.init_from} is of another architecture", lines, options)
    source.restore(system.weight_items())
    system.weights_replaced()
    print(f"starting from the weights of {source.path}", flush=True)


def _refuse(what, lines, options):
    if lines and not options.accept_changes:
        raise UserError(
            f"{what}:\n  " + "\n  ".join(lines) + "\n"
            "Use another --workdir, or its own configuration (WORKDIR/config.gin); --accept_changes goes on anyway."
        )
    for line in lines:
        print(f"accepted: {line}")


if __name__ == "__main__":
    cli.run(main)
