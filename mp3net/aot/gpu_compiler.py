"""python -m mp3net.aot.gpu_compiler TARGET FILE: what a program takes on one GPU.

TARGET is "here", a GPU that JAX sees; "h100", for which JAX's CUDA plugin compiles without one; "cpu", where there is
neither, so that what the CPU's compiler takes must do; or "count", which compiles nothing and counts arithmetic. FILE
holds `stablehlo.plain` text. Prints one line of JSON, as tpu_compiler.py does, and is a process of its own as that is.
"""

import json
import os
import sys
import threading
import time

from mp3net.aot.tpu_compiler import GIB, end_with

# Facts of an H100 SXM, by which the compiler chooses; as CUDA tells them of that card.
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: 84929347584
  cuda_compute_capability { major: 9 } registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def main(target, path):
    """Compiles or counts, and prints."""
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # of a driver, which compiling does without
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import jax

    from mp3net.aot import xla

    jax.config.update("jax_platforms", "cuda,cpu" if target == "here" else "cpu")
    jax.config.update("jax_enable_x64", True)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    with open(path) as file:
        text = file.read()
    begun = time.monotonic()
    figures = {"tflop": xla.arithmetic(text) / 1e12} if target == "count" else memory(xla.load(text, device(target)))
    print(json.dumps({"fits": True, **figures, "compile_s": round(time.monotonic() - begun, 1)}))


def memory(program):
    """Of a compiled program: sizes in GiB."""
    sizes = program.get_compiled_memory_stats()
    return {
        "temporaries_gib": sizes.temp_size_in_bytes / GIB,
        "arguments_gib": sizes.argument_size_in_bytes / GIB,
        "outputs_gib": sizes.output_size_in_bytes / GIB,
        "aliased_gib": sizes.alias_size_in_bytes / GIB,
    }


def device(target):
    """The JAX device, at hand or described, that a target stands for."""
    import jax
    from jax.experimental import topologies

    if target == "h100":
        described = topologies.get_topology_desc("h100", "cuda", target_config=_H100, topology="1x1x1")
        return described.devices[0]
    return jax.devices("gpu" if target == "here" else "cpu")[0]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
