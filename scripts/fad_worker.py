"""What fad.py runs where fadtk is installed: embeds two lists of files and writes their distance.

    python fad_worker.py JOB.json

fadtk fetches weights from the network; here its models take them from a file instead. `load_model` is theirs to be
overridden: windows, features and distance stay fadtk's own. Files are decoded and resampled by soundfile and soxr, for
fadtk's own way needs a further decoder from torchaudio 2.9 on, and writes into the folders that it measures.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pathlib
import pickle
import sys
import tempfile

TOLD = 3  # the exit status where the reason has been said
_PACKAGES = ("fadtk", "torch", "laion-clap", "torchvggish", "soxr", "soundfile", "numpy", "scipy")
_SHORTEST_S = 1.0  # VGGish's window; fadtk would fill up with silence
_WINDOWS_S = {"vggish": 0.96, "clap": 10.0}
_FADTK_LEAST = 500  # the fewest windows that fadtk's extrapolation begins with
_BLOCK = 1 << 18
_OFFICIAL = {"vggish": "10086976"}  # how its sha256 begins, which is in its name


class ToldError(Exception):
    """Something the user can mend; its text is printed as it is."""


try:
    import numpy as np
    import soundfile
    import soxr
except ModuleNotFoundError as missing:
    print(f"error: {sys.prefix} lacks {missing.name}: see --env in fad.py --help.", file=sys.stderr)
    sys.exit(TOLD)


# ---- audio


def mono(path, rate_hz):
    """A file as fadtk would hold it: one channel, `rate_hz`, quantized to 16 bits, float64 in [-1, 1).

    Raises `ToldError` with the reason where it is not worth embedding.
    """
    try:
        with soundfile.SoundFile(path) as sound:
            resampler = soxr.ResampleStream(sound.samplerate, rate_hz, 1, dtype="float32", quality="VHQ")
            parts, read = [], 0
            for block in sound.blocks(_BLOCK, dtype="float32", always_2d=True):
                read += len(block)
                parts.append(resampler.resample_chunk(block.mean(axis=1)))
            if read < sound.frames:
                raise ToldError(f"cut short at {read / sound.samplerate:.1f} s")
            parts.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError: headerless audio
        raise ToldError(f"no audio that can be read ({getattr(error, 'error_string', error)})") from None
    waveform = np.concatenate(parts)
    if len(waveform) < _SHORTEST_S * rate_hz:
        raise ToldError(f"{len(waveform) / rate_hz:.2f} s: shorter than {_SHORTEST_S:g} s" if read else "is empty")
    if not np.isfinite(waveform).all():
        raise ToldError("has samples that are not a number")
    return np.clip(np.round(waveform * 32768.0), -32768, 32767) / 32768.0


# ---- models


def read_weights(path, trust):
    """What a checkpoint holds, by name. Raises `ToldError`."""
    import torch

    # Beside numbers CLAP's checkpoints hold these, the epoch's metrics; anything else could be a program.
    harmless = [
        np.core.multiarray.scalar,
        np.dtype,
        np.dtypes.Float64DType,
        np.dtypes.Float32DType,
        np.dtypes.Int64DType,
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            held = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        known = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), None)
        if known is None:
            raise ToldError(f"{path}: is no PyTorch checkpoint, or a damaged one.") from None
        raise ToldError(
            f"{path}: holds more than weights ({known[:160]}). If you trust who made it, --trust_weights reads it; "
            "it may then run code."
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise ToldError(f"{path}: is no PyTorch checkpoint, or a damaged one ({str(error)[:120]}).") from None
    held = held.get("state_dict", held) if isinstance(held, dict) else {}
    weights = {name.removeprefix("module."): value for name, value in held.items() if torch.is_tensor(value)}
    if not weights:
        raise ToldError(f"{path}: holds no weights by name.")
    return weights


def fill(module, weights, path, what):
    """Gives a module its weights, all of them. Raises `ToldError` where they are another model's."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:])
        raise ToldError(f"{path}: holds weights, but not those of {what} ({detail[:200]}).") from None
    return module.eval()


def vggish(path, trust):
    """fadtk's VGGish: 128 features before the last ReLU, no PCA, of each 0.96 s at 16 kHz."""
    import torch
    from fadtk.model_loader import VGGishModel
    from torchvggish import vggish_input
    from torchvggish.torchvggish import VGG, make_layers

    class Local(VGGishModel):
        def load_model(self):
            model = fill(VGG(make_layers(), postprocess=False), read_weights(path, trust), path, "VGGish")
            model.embeddings = model.embeddings[:-1]
            self.model = model.to(self.device)

        def _get_embedding(self, audio):
            examples = vggish_input.waveform_to_examples(audio, self.sr)
            return torch.cat([self.model(some.to(self.device)) for some in examples.split(64)])

    return Local()


def clap(path, trust):
    """fadtk's LAION-CLAP, its audio tower alone: 512 features of 10 s at 48 kHz, each second."""
    import torch

    # Importing laion_clap fetches three tokenizers, and its text tower a fourth model. The audio tower needs neither.
    sys.path.append(importlib.util.find_spec("laion_clap").submodule_search_locations[0])
    import clap_module
    from clap_module.htsat import create_htsat_model
    from fadtk.model_loader import CLAPLaionModel, ModelLoader

    weights = read_weights(path, trust)
    weights = {
        name: value for name, value in weights.items() if name.startswith(("audio_branch.", "audio_projection."))
    }
    first = weights.get("audio_projection.0.weight")
    size = {768: "tiny", 1024: "base"}.get(None if first is None else first.shape[-1])
    if size is None:
        raise ToldError(f"{path}: holds weights, but not those of LAION-CLAP's audio tower.")
    configuration = pathlib.Path(clap_module.__file__).parent / "model_configs" / f"HTSAT-{size}.json"
    configuration = json.loads(configuration.read_text())

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.audio_branch = create_htsat_model(clap_module.CLAPAudioCfp(**configuration["audio_cfg"]))
            layers = torch.nn.Linear(configuration["embed_dim"], 512), torch.nn.ReLU(), torch.nn.Linear(512, 512)
            self.audio_projection = torch.nn.Sequential(*layers)

        def get_audio_embedding_from_data(self, x, use_tensor):
            found = self.audio_branch({"waveform": x}, device=x.device)["embedding"]
            return torch.nn.functional.normalize(self.audio_projection(found), dim=-1)

    class Local(CLAPLaionModel):
        def __init__(self):  # its own fetches the weights
            ModelLoader.__init__(self, f"clap-laion-{'audio' if size == 'tiny' else 'music'}", 512, 48000)

        def load_model(self):
            what = f"LAION-CLAP with HTSAT-{size}, without fusion"
            self.model = fill(Tower(), weights, path, what).to(self.device)

    return Local()


# ---- the work


def embed(title, paths, model):
    """(features `[window, feature]`, what to say of the set). Each file is told by name that is left out or silent."""
    import tqdm

    features, seconds, left_out, silent = [], {}, {}, []
    for path in tqdm.tqdm(paths, title, unit="file", delay=2, disable=None):
        try:
            waveform = mono(path, model.sr)
        except ToldError as reason:
            left_out[path] = str(reason)
            tqdm.tqdm.write(f"left out {path}: {reason}")
            continue
        if not waveform.any():
            silent.append(path)
            tqdm.tqdm.write(f"{path}: is silent, and counted")
        seconds[path] = round(len(waveform) / model.sr, 3)
        features.append(model.get_embedding(waveform).astype(np.float64))  # statistics of its float16 would be rounded
    if not features:
        raise ToldError(f"no {title} song can be embedded: all are left out.")
    features = np.concatenate(features)
    if len(features) < 2:
        raise ToldError(f"the {title} songs give one window in all: give more, or longer ones.")
    return features, {
        "songs": len(seconds),
        "seconds": round(sum(seconds.values()), 1),
        "seconds_each": seconds,
        "windows": len(features),
        "silent": silent,
        "left_out": left_out,
    }


def measure(model, sets):
    """(FAD, FAD extrapolated to infinitely many windows or None, its R^2 or None) by fadtk."""
    from fadtk.fad import FrechetAudioDistance, calc_embd_statistics

    fad = FrechetAudioDistance(model, load_model=False)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, features in sets.items():
            paths[name] = pathlib.Path(folder, f"{name}.npz")
            mean, covariance = calc_embd_statistics(features)
            np.savez(paths[name], **{f"{model.name}.mu": mean, f"{model.name}.cov": covariance})
        np.save(pathlib.Path(folder, "generated.npy"), sets["generated"])
        try:
            distance = float(fad.score(paths["real"], paths["generated"]))
            if len(sets["generated"]) < 2 * _FADTK_LEAST:
                return distance, None, None
            np.random.seed(0)  # fadtk draws its subsets with it
            found = fad.score_inf(paths["real"], [pathlib.Path(folder, "generated.npy")], min_n=_FADTK_LEAST)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise ToldError(f"fadtk finds no distance of so few windows ({error}): give more songs.") from None
    return distance, float(found.score), float(found.r2)


def notes(result, official, window_s):
    """Sentences on what the figure is worth."""
    if official is False:
        yield "these are not the published weights, by their checksum: compare with no published FAD"
    for side in ("generated", "real"):
        if result[side]["windows"] <= result["features"]:
            yield (
                f"{side}: {result[side]['windows']} windows for {result['features']} features: "
                "the distance is mostly the bias of so few"
            )
        shortest = min(result[side]["seconds_each"].values())
        if shortest < window_s:
            yield f"{side}: songs of {shortest:g} s under windows of {window_s:g} s, which fadtk fills up with silence"
    if result["fad_inf"] is None:
        yield f"no FAD-inf: it takes {2 * _FADTK_LEAST} windows of generated songs"


def sha256(path):
    """A file's checksum."""
    made = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            made.update(block)
    return made.hexdigest()


def main(job):
    """Does a job as fad.py wrote it."""
    print("loading fadtk", flush=True)
    try:
        import torch

        torch.set_grad_enabled(False)
        model = {"vggish": vggish, "clap": clap}[job["embedding"]](job["weights"], job["trust_weights"])
        import fadtk.fad
    except ModuleNotFoundError as missing:
        raise ToldError(f"{sys.prefix} lacks {missing.name}: see --env in fad.py --help.") from None
    fadtk.fad.log.setLevel(logging.WARNING)
    model.load_model()
    checksum = sha256(job["weights"])
    begins = _OFFICIAL.get(job["embedding"])
    official = checksum.startswith(begins) if begins else None
    sets, result = {}, {"fad": None, "fad_inf": None, "embedding": model.name}
    for side in ("real", "generated"):
        sets[side], result[side] = embed(side, job[side], model)
        if job["save"]:
            os.makedirs(job["save"], exist_ok=True)
            np.save(os.path.join(job["save"], f"{side}.npy"), sets[side])
    result["features"] = sets["real"].shape[1]
    result["fad"], result["fad_inf"], result["fad_inf_r2"] = measure(model, sets)
    result["notes"] = list(notes(result, official, _WINDOWS_S[job["embedding"]]))
    result["weights"] = {"file": os.path.abspath(job["weights"]), "sha256": checksum, "official": official}
    result["versions"] = {name: importlib.metadata.version(name) for name in _PACKAGES}
    result["device"] = str(model.device)
    pathlib.Path(job["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    try:
        main(json.loads(pathlib.Path(sys.argv[1]).read_text()))
    except ToldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(TOLD)
    except KeyboardInterrupt:
        sys.exit(130)
