"""Reaching a TPU: on this machine, as part of a pod slice, by address, or a retired TPU Node by name."""

import importlib.util

import tensorflow as tf

from mp3net import hardware
from mp3net.errors import UsageError, UserError
from mp3net.training import cluster

ADVICE = (
    "See that it is READY (gcloud compute tpus tpu-vm list), that no other process holds it, and that its runtime "
    "version fits this TensorFlow."
)
_PLAIN_BUILD = (
    "This build of TensorFlow has no TPU support. In an environment of its own: pip install 'mp3net[tpu]' "
    "(tensorflow-tpu takes the place of tensorflow: never install both)."
)


def is_here():
    """Whether this machine has a TPU chip and the library for it."""
    return bool(hardware.tpu_chips()) and importlib.util.find_spec("libtpu") is not None


def connect(which, seconds):
    """The `TPUStrategy` of "local", a name, or an address grpc://HOST:PORT. One process drives all hosts of a slice.

    Raises `UserError` that says why it cannot, and what to do: for an address that does not answer, after `seconds`;
    for one that is none, `UsageError`.
    """
    address = which.removeprefix("grpc://")
    if address != which and not cluster.is_address(address):
        raise UsageError(
            f"--device tpu:{which}: an address is grpc://HOST:PORT, as in --device tpu:grpc://10.0.0.2:8470."
        )
    if address != which and not cluster.reach(address, seconds):
        raise UserError(f"The TPU {which} did not answer within {seconds:.0f} s. {ADVICE}")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=which)
        if which != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # what the resolver, its HTTP client and the runtime raise has no type in common
        raise UserError(f"The TPU {which} cannot be used: {_why(which, error)}") from None


def _why(which, error):
    text = str(getattr(error, "message", error))
    if "No OpKernel was registered to support Op 'ConfigureDistributedTPU'" in text:
        return _PLAIN_BUILD
    if which == "local" and not hardware.tpu_chips():
        return (
            "this machine shows no TPU chip (/dev/accel*, /dev/vfio/*). Run it on a TPU VM, or give another --device."
        )
    if isinstance(error, ImportError) and "googleapiclient" in text or "cloud-tpu-client" in text:
        return "To find it by name takes the client of the retired TPU Nodes: pip install 'mp3net[tpu-node]'."
    if any(words in text for words in ("already in use", "in use by", "lockfile", "Device or resource busy")):
        return "another process holds the chip. End it (sudo lsof /dev/accel* /dev/vfio/*), or wait for it."
    if "TPUs not found" in text or "No TPU" in text:
        return f"no TPU was found. {ADVICE}"
    if "urlopen error" in text:
        return (
            "a name is looked up in Google Cloud, which cannot be reached from here. Run it on a VM of its project, "
            "or give the address: --device tpu:grpc://HOST:8470."
        )
    if which not in ("local",) and not which.startswith("grpc://"):
        return f"{_line(text)}. On a TPU VM it is --device tpu; by address, --device tpu:grpc://HOST:8470. {ADVICE}"
    return f"{_line(text)}. {ADVICE}"


def _line(text):
    return (text.strip().splitlines() or ["no reason given"])[0][:200].rstrip(".")
