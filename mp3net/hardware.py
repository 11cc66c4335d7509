"""What accelerators a machine shows: to itself, to TensorFlow and to JAX."""

import glob
import importlib.util
import json
import os
import subprocess
import sys


def nvidia_gpus():
    """Device files of NVIDIA GPUs."""
    return glob.glob("/dev/nvidia[0-9]*")


def gpu_gib():
    """GiB of memory of the smallest NVIDIA GPU, by its driver; None where there is none."""
    line = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        sizes = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        return min(int(mib) for mib in sizes) / 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def tpu_chips():
    """Device files of TPU chips."""
    return glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")


def too_new(tensorflow):
    """The compute capability, such as "12.0", of the first GPU that the builds of TensorFlow have no kernels for; None
    where there is none. `tensorflow` is the module.
    """
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        capability = tensorflow.config.experimental.get_device_details(gpu).get("compute_capability")
        # Those of TensorFlow 2.21 end in INVALID_PTX there: "PTX 8.5 does not support sm_120".
        if capability and capability[0] >= 12:
            return ".".join(map(str, capability))
    return None


_ASK = """
import json, jax
there = jax.devices()
print(json.dumps({"platform": there[0].platform, "count": len(there), "kind": there[0].device_kind}))
"""


def seen_by_jax(timeout_s=120):
    """What JAX sees, asked in a process of its own, which takes no memory of a GPU from this one.

    Returns: {"platform": "cpu", "gpu" or "tpu", "count", "kind"}, {"error": a line}, or {} where JAX is not installed.
    """
    if importlib.util.find_spec("jax") is None:
        return {}
    environment = dict(os.environ) if nvidia_gpus() or tpu_chips() else {**os.environ, "JAX_PLATFORMS": "cpu"}
    try:
        process = subprocess.run(
            [sys.executable, "-c", _ASK],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
        return json.loads(process.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:.0f} s"}
    except (ValueError, IndexError):
        return {"error": (process.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]}
