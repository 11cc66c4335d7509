"""The TPUs that a step can be compiled for, and the peaks that it is compared with."""

import math
from dataclasses import dataclass

from mp3net.errors import UsageError, UserError


@dataclass(frozen=True)
class Chip:
    """One device of a kind, as the compiler sees it: a core of TPU v2 and v3, a whole chip of the later ones, a GPU.

    `topology` is the smallest that the compiler offers, `bf16_tflops` and `hbm_gb_per_s` the vendor's published figures
    per chip (half of them for a core), `hbm_gib` what the compiler has for a program: it says so when one does not fit.
    """

    kind: str
    topology: str
    device: str
    bf16_tflops: float
    hbm_gb_per_s: float
    hbm_gib: float
    platform: str = "TPU"

    def roofline_s(self, tflop, gb_moved):
        """Seconds that `tflop` and `gb_moved` take at least at these peaks, whichever is the longer."""
        return max(tflop / self.bf16_tflops, gb_moved / self.hbm_gb_per_s)


@dataclass(frozen=True)
class Machine:
    """A TPU as it is rented: `devices` of one kind, each of which takes its share of a batch."""

    name: str
    chip: Chip
    devices: int

    def share(self, batch_size):
        """Examples of a batch that one device takes. Raises `UserError` where they cannot be equal."""
        if batch_size % self.devices:
            raise UserError(
                f"MP3net.batch_size is {batch_size}, and {self.name} has {self.devices} {self.chip.device}s: "
                f"make it a multiple of {self.devices}."
            )
        return batch_size // self.devices


_V2 = Chip("v2", "v2:2x2", "core", 22.5, 350.0, 7.48)
_V3 = Chip("v3", "v3:2x2", "core", 61.5, 450.0, 15.48)
# Its two cores work as one, "megacore", which the compiler must be told of: else a device is one of them.
_V4 = Chip("v4", "v4:2x2x1/megacore", "chip", 275.0, 1228.0, 30.75)
_V5E = Chip("v5e", "v5e:2x2", "chip", 197.0, 819.0, 15.75)
_V6E = Chip("v6e", "v6e:2x2", "chip", 918.0, 1640.0, 31.24)

# The number in a name counts cores up to v4, chips from v5e on.
MACHINES = {
    machine.name: machine
    for machine in (
        Machine("v2-8", _V2, 8),
        Machine("v3-8", _V3, 8),
        Machine("v4-8", _V4, 4),
        Machine("v5e-1", _V5E, 1),
        Machine("v5e-8", _V5E, 8),
        Machine("v6e-1", _V6E, 1),
        Machine("v6e-8", _V6E, 8),
    )
}


_FREE = 0.92  # of a GPU's memory: the driver, and what cuDNN works in, take the rest


def gpu(gib, topology, devices=1):
    """The `Machine` of GPUs of so many GiB each; `topology` is gpu_compiler.py's target. Speeds are unknown."""
    chip = Chip("gpu", topology, "GPU", math.nan, math.nan, _FREE * gib, "GPU")
    return Machine(f"{devices} x a GPU of {gib:g} GiB", chip, devices)


def find(name):
    """The `Machine` of that name. Raises `UsageError` where there is none."""
    if name not in MACHINES:
        raise UsageError(f"There is no TPU {name}: it is one of {', '.join(MACHINES)}.")
    return MACHINES[name]
