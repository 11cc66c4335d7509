"""What accelerators a machine shows, seen without any library of theirs."""

import glob


def nvidia_gpus():
    """Device files of NVIDIA GPUs."""
    return glob.glob("/dev/nvidia[0-9]*")


def tpu_chips():
    """Device files of TPU chips."""
    return glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
