"""Where training runs: a TPU, one GPU or several, several hosts, a CPU. The one module that knows of replicas.

Whatever the device, a batch is the same global batch, and what reduces over it does so over all replicas that share it.
"""

import contextlib
import importlib.util

import tensorflow as tf

from mp3net import hardware
from mp3net.errors import UsageError, UserError
from mp3net.stage import Place, Share, share_of
from mp3net.training import tpu
from mp3net.training.cluster import Cluster, HostLost
from mp3net.training.loops import repeat

NAMES = (
    "auto, cpu, cpu:N (N replicas on one CPU), gpu, gpu:N (the first N), tpu, tpu:NAME (a name or an address), "
    "or through JAX jax, jax:cpu, jax:gpu or jax:tpu, each also with :N for N devices"
)
_CONNECT_S = 300
_OF_A_LOST_HOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError
)  # fmt: skip


class Devices:
    """A `tf.distribute` strategy, and what the trainer asks of it.

    `name` is for people; `place` is what a system is built with; `chief` tells whether this process writes the run's
    files. Where it `feeds_all`, it reads the data of every replica and sends them. `encodes` says whether it takes
    waveforms in place of encoded audio.
    """

    encodes = False

    def __init__(self, strategy, platform, name, xla=False, hosts=1, host=0, feeds_all=False):
        self.strategy, self.name, self.hosts, self.chief = strategy, name, hosts, host == 0
        self.replicas, self._feeds_all = strategy.num_replicas_in_sync, feeds_all
        # Mirrored strategies reduce in Python threads, one per replica, which neither a loop nor XLA can hold.
        loops = self.replicas == 1 or platform == "TPU"
        self.place = Place(platform, xla, self._mean if self.replicas > 1 else lambda tensors: tensors, loops)

    def scope(self):
        """The context in which variables are made: a copy on every replica."""
        return self.strategy.scope()

    def split(self, batch_size, micro_batch=None):
        """(examples of a batch that each replica takes, in how many parts): no part is of more than `micro_batch`.

        Raises `UserError` where the batch cannot be divided among the replicas.
        """
        return share_of(batch_size, self.replicas, self.name, micro_batch)

    def feed(self, dataset_of, encode):
        """An iterator over what each replica takes, from `dataset_of(Share)`: an endless `tf.data.Dataset` in which
        consecutive elements are for consecutive replicas. As these devices do not encode, it has done so.
        """

        if self._feeds_all:
            return self._sent(iter(dataset_of(Share(self.replicas, 0, self.replicas))))

        def shared(context):
            count = self.replicas // context.num_input_pipelines
            return dataset_of(Share(self.replicas, context.input_pipeline_id * count, count))

        return iter(self.strategy.distribute_datasets_from_function(shared))

    def _sent(self, elements):
        while True:
            each = [next(elements) for _ in range(self.replicas)]
            yield tf.nest.map_structure(self._one_each, *each)

    def _one_each(self, *values):
        """Values, one for each replica, as one that is different on each."""
        choose_own = lambda context: values[context.replica_id_in_sync_group]  # noqa: E731
        return self.strategy.experimental_distribute_values_from_function(choose_own)

    def compile(self, round_of, rounds, variables):
        """Some rounds of training as one call of one graph.

        Args:
          round_of: takes a replica's data of one round; returns float32 `[statistic]`, to be averaged over replicas.
          rounds: how many rounds the data of one call are for.
          variables: all that a round may read or change.

        Returns: a function of (data of `rounds` rounds, stacked along the first axis of each tensor; the first to be
        run; how many), which returns float32 `[rounds, statistic]`, a row for each that was run, then zeros.
        """

        def over_rounds(run):
            return lambda data, first, count: repeat(lambda i: run(data, i), first, count, rounds)

        def one(data, i):
            return round_of(tf.nest.map_structure(lambda tensor: tensor[i], data))

        if self.place.loops:
            replica = over_rounds(one)
            if self.place.xla and self.place.platform != "TPU":  # a TPUStrategy compiles by itself
                replica = tf.function(replica, jit_compile=True, autograph=False)
            call = lambda *arguments: self._average(self.strategy.run(replica, arguments))  # noqa: E731
        else:
            call = over_rounds(lambda data, i: self._average(self.strategy.run(one, (data, i))))
        return tf.function(call, autograph=False)

    @contextlib.contextmanager
    def watched(self):
        """Turns what TensorFlow raises in this context because another host has left into `HostLost`."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.hosts == 1 or not (isinstance(error, _OF_A_LOST_HOST) or "Collective ops is aborted" in str(error)):
                raise
            raise HostLost(
                "another host has left the run, or cannot be reached. Its own output says why; the same command on "
                f"every host goes on from the last checkpoint. TensorFlow says: {_first_line(error)}."
            ) from None

    def largest(self, numbers):
        """The largest of each of some numbers that every host gives; every host must ask."""
        if self.hosts == 1:
            return numbers
        each = self._one_each(*[tf.constant([float(number) for number in numbers], tf.float64)] * self.replicas)
        with self.watched():
            reduced = self._largest(each)
        return self.strategy.experimental_local_results(reduced)[0].numpy().tolist()

    @tf.function(autograph=False)
    def _largest(self, numbers):
        def replica(numbers):
            # Collectives know no maximum: of a row per replica, it is among the gathered ones.
            return tf.reduce_max(tf.distribute.get_replica_context().all_gather(numbers[None], axis=0), axis=0)

        return self.strategy.run(replica, (numbers,))

    def bring_back(self):
        """Has the variables hold what the calls so far have made of them: here they do."""

    def close(self):
        """Ends what runs beside the training: here nothing does."""

    def _average(self, statistics):
        return self.strategy.reduce(tf.distribute.ReduceOp.MEAN, statistics, axis=None)

    @staticmethod
    def _mean(tensors):
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tensors)


def choose(name="auto", connect_s=_CONNECT_S):
    """The `Devices` of that `name`, one of `NAMES`; "auto" takes what TF_CONFIG, then the machine offers.

    Must be called before TensorFlow has run anything. Raises `UserError` where there is no such device, and where a TPU
    or another host does not answer within `connect_s` seconds.
    """
    kind, _, which = str(name).partition(":")
    cluster = Cluster.from_environment()
    if kind == "jax":
        if cluster:
            raise UserError("TF_CONFIG is set, but --device jax drives one host: unset it, or give another device.")
        return _jax(name, which)
    if kind not in ("auto", "cpu", "gpu", "tpu") or (which and kind == "auto"):
        raise UsageError(f"--device {name}: there is no such device. It is one of {NAMES}.")
    if kind == "tpu" or (kind == "auto" and tpu.is_here()):
        if cluster:
            raise UserError(
                "TF_CONFIG is set, but one process drives all hosts of a TPU: unset it, or give --device cpu or gpu."
            )
        return _tpu(which or "local", connect_s)
    gpus = tf.config.list_physical_devices("GPU")
    if kind == "gpu" and not gpus:
        raise UserError(f"--device {name}: TensorFlow sees no GPU. {_no_gpu()}")
    count = _count(name, which, len(gpus) if kind == "gpu" else None)
    platform = "GPU" if kind == "gpu" or (kind == "auto" and gpus) else "CPU"
    exact_float32()
    if platform == "GPU":
        gpus = gpus[: count or len(gpus)]
        tf.config.set_visible_devices(gpus, "GPU")
        capability = hardware.too_new(tf)
        if capability:
            print(
                f"note: TensorFlow has no kernels for compute capability {capability}, and is likely to end in "
                "INVALID_PTX. Train with --device jax:gpu: pip install 'mp3net[jax-cuda]'",
                flush=True,
            )
        for gpu in gpus:  # else the first process to come takes all memory, and a `generate` beside a run fails
            tf.config.experimental.set_memory_growth(gpu, True)
        count = len(gpus)
    else:
        tf.config.set_visible_devices([], "GPU")
        count = count or 1
        if count > 1 and cluster:
            raise UsageError(
                f"--device {name}: with TF_CONFIG each host has one replica on its CPU. Give --device cpu."
            )
        if count > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    return _several_hosts(cluster, platform, connect_s) if cluster else _one_host(platform, count)


def exact_float32():
    """Has float32 products made in float32, which a GPU would round to 19 bits and a TPU to 16: who wants that says
    bfloat16.
    """
    tf.config.experimental.enable_tensor_float_32_execution(False)


def _one_host(platform, count):
    names = [f"{platform}:{i}" for i in range(count)]
    if count == 1:
        return Devices(tf.distribute.OneDeviceStrategy(names[0]), platform, platform, xla=platform == "GPU")
    return Devices(tf.distribute.MirroredStrategy(names), platform, f"{count} {platform}s")


def _several_hosts(cluster, platform, connect_s):
    count = len(cluster.workers)
    print(f"worker {cluster.index} of {count}: waiting for the others, at most {connect_s:.0f} s", flush=True)
    cluster.meet(connect_s)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(f"The {count} hosts of TF_CONFIG could not be joined: {_first_line(error)}.") from None
    name = f"{strategy.num_replicas_in_sync} {platform}s on {count} hosts"
    return Devices(strategy, platform, name, hosts=count, host=cluster.index)


def _tpu(which, connect_s):
    strategy = tpu.connect(which, connect_s)
    exact_float32()
    count = strategy.num_replicas_in_sync
    name = f"TPU {which}, {count} core{'s' * (count > 1)}"
    # Hosts other than this one run TensorFlow's operations but not Python's, which read the recordings.
    elsewhere = which != "local" or strategy.extended.num_hosts > 1
    return Devices(strategy, "TPU", name, xla=True, feeds_all=elsewhere)


def _jax(name, which):
    require_jax()
    from mp3net.training import pjrt

    tf.config.set_visible_devices([], "GPU")  # JAX takes its memory
    exact_float32()
    return pjrt.choose(name, which)


def require_jax():
    """Raises `UserError` where JAX is not installed."""
    if importlib.util.find_spec("jax") is None:
        raise UserError(
            "JAX is not installed. Install it beside TensorFlow's build for CPUs: pip install 'mp3net[cpu,jax]', for "
            "an NVIDIA GPU 'mp3net[cpu,jax-cuda]', for a TPU 'mp3net[cpu,jax-tpu]'."
        )


def _count(name, text, most):
    """The number in gpu:N or cpu:N, None where there is none."""
    if not text:
        return None
    if not text.isdigit() or not int(text):
        raise UsageError(f"--device {name}: there is no such device. It is one of {NAMES}.")
    if most is not None and int(text) > most:
        raise UserError(f"--device {name}: TensorFlow sees {most} GPU{'s' * (most > 1)}.")
    return int(text)


def _no_gpu():
    built = tf.test.is_built_with_cuda()
    return (
        "See that its driver is loaded (nvidia-smi), and install TensorFlow with CUDA: pip install 'mp3net[gpu]'."
        if built
        else "This build of TensorFlow has no GPU support: train with --device jax:gpu (pip install "
        "'mp3net[jax-cuda]'), or pip uninstall tensorflow-cpu, pip install 'mp3net[gpu]'."
    )


def _first_line(error):
    return str(getattr(error, "message", error)).strip().splitlines()[0][:200].rstrip(".")
