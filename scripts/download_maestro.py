"""Downloads MAESTRO, goes on where a broken download stopped, checks it and unpacks it.

MAESTRO (Hawthorne et al., 2019) is licensed CC BY-NC-SA 4.0: not for commercial use, and what you adapt from it is
shared under the same licence.
"""

import argparse
import errno
import hashlib
import http.client
import os
import posixpath
import shutil
import time
import urllib.error
import urllib.request
import zipfile

import tqdm

from mp3net import cli
from mp3net.errors import UserError

PAGE = "https://magenta.tensorflow.org/datasets/maestro"
BASE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro"
LICENCE = f"MAESTRO is licensed CC BY-NC-SA 4.0, not for commercial use: {PAGE}"
# As MAESTRO's page and several data loaders give them. That of v1.0.0 with audio could not be confirmed: none is here.
SHA256 = {
    "maestro-v1.0.0-midi.zip": "f620f9e1eceaab8beea10617599add2e9c83234199b550382a2f603098ae7135",
    "maestro-v2.0.0.zip": "572c6054e8d2c7219aa4df9a29357da0f9789524c11fa38cef7d4bd8542c93f0",
    "maestro-v2.0.0-midi.zip": "ec2cc9d94886c6b376db1eaa2b8ad1ce62ff9f0a28b3744782b13163295dadf3",
    "maestro-v3.0.0.zip": "6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291",
    "maestro-v3.0.0-midi.zip": "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c",
}
_BLOCK_BYTES = 1 << 20
_TRIES = 5
_UNPACKED = 1.25  # of the archive's size: v3.0.0 has 101 GB and becomes 120 GB


def bar(total, begun, words):
    """A progress bar in bytes, with the time to go."""
    return tqdm.tqdm(total=total, initial=begun, unit="B", unit_scale=True, unit_divisor=1000, desc=words)


def request(url, method="GET", start=0):
    """The response to a request for `url` from byte `start` on. Raises `UserError` where the server refuses."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers, method=method), timeout=60)
    except urllib.error.HTTPError as error:
        raise UserError(
            f"{url}: the server answers {error.code} {error.reason}. Check the version, or try later."
        ) from None


def remote_bytes(url):
    """The size of what lies at `url`."""
    try:
        with request(url, "HEAD") as response:
            return int(response.headers["Content-Length"])
    except OSError as error:
        raise UserError(f"{url}: cannot be reached ({error}). Check the connection and run again.") from None
    except TypeError:
        raise UserError(f"{url}: the server does not say how large it is. Check the address.") from None


def download(url, path, total, pause_s=5):
    """Appends to the file `path` until it has `total` bytes, reconnecting where the connection breaks."""
    failures = 0
    with open(path, "ab") as file, bar(total, file.tell(), "downloading") as progress:
        while file.tell() < total:
            before = file.tell()
            try:
                _receive(url, file, progress)
                reason = "it ended early"
            except UserError:
                raise
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):  # the disk, not the network
                    raise
                reason = str(error)
            file.flush()
            failures = 0 if file.tell() > before else failures + 1
            if file.tell() < total and failures >= _TRIES:
                raise UserError(
                    f"{url}: broken off at {file.tell()} bytes ({reason}). The same command goes on from there."
                )
            if file.tell() < total:
                time.sleep(pause_s * failures)
    if os.path.getsize(path) > total:
        raise UserError(f"{path}: is longer than the {total} bytes at {url}. Delete it and run again.")


def _receive(url, file, progress):
    """Appends what one connection yields."""
    with request(url, start=file.tell()) as response:
        if file.tell() and response.status != 206:  # the server knows no ranges: all over again
            file.truncate(0)
            progress.reset()
        while block := response.read(_BLOCK_BYTES):
            file.write(block)
            progress.update(len(block))


def check_sum(path, expected):
    """Compares the SHA256 sum of a file. Raises `UserError` where it differs."""
    digest = hashlib.sha256()
    with open(path, "rb") as file, bar(os.path.getsize(path), 0, "checking") as progress:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            progress.update(len(block))
    if digest.hexdigest() != expected.lower():
        raise UserError(
            f"{path}: its SHA256 sum is {digest.hexdigest()}, not {expected}.\n"
            "It was damaged or is another file: delete it and run again."
        )


def chosen(archive, years):
    """The files of an open zip that belong to `years` (None: all) or to none, as metadata and licence do."""
    files = [member for member in archive.infolist() if not member.is_dir()]
    for member in files:
        parts = member.filename.split("/")
        if posixpath.isabs(member.filename) or ".." in parts or "\\" in member.filename:
            raise UserError(f"{archive.filename}: holds {member.filename}, which would land elsewhere. Do not use it.")
    if not years:
        return files
    there = {member.filename.split("/")[-2] for member in files if member.filename.count("/") > 1}
    missing = {str(year) for year in years} - there
    if missing:
        raise UserError(
            f"--years {' '.join(sorted(missing))}: not in {archive.filename}, which has {' '.join(sorted(there))}."
        )
    wanted = {str(year) for year in years}
    return [member for member in files if member.filename.count("/") < 2 or member.filename.split("/")[-2] in wanted]


def unpack(path, out, years):
    """Unpacks the zip `path` below `out`; files that are there at their full size stay. Returns the top folder.

    Every file's CRC-32 is checked on the way. Raises `UserError` for a damaged zip or too small a disk.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = chosen(archive, years)
            missing = [member for member in members if not _is_there(os.path.join(out, member.filename), member)]
            needed = sum(member.file_size for member in missing)
            check_space(out, needed)
            with bar(needed, 0, "unpacking") as progress:
                for member in missing:
                    _unpack_one(archive, member, os.path.join(out, member.filename), progress)
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: is damaged ({error}). Delete it and run again.") from None
    return os.path.join(out, members[0].filename.split("/")[0]) if members else out


def _is_there(target, member):
    return os.path.isfile(target) and os.path.getsize(target) == member.file_size


def _unpack_one(archive, member, target, progress):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    partial = target + ".partial"
    try:
        with archive.open(member) as source, open(partial, "wb") as file:
            while block := source.read(_BLOCK_BYTES):
                file.write(block)
                progress.update(len(block))
        os.replace(partial, target)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def check_space(folder, needed):
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free. Free some or use --out."
        )


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True, choices=("v1.0.0", "v2.0.0", "v3.0.0"))
    parser.add_argument("--out", required=True, metavar="DIR", help="where the zip and the unpacked folder go")
    parser.add_argument(
        "--midi_only", action="store_true", help="the MIDI files without the audio: 0.06 GB, not 100 GB"
    )
    parser.add_argument("--years", type=int, nargs="+", metavar="YEAR", help="unpack only these")
    parser.add_argument("--sha256", metavar="SUM", help="the sum to check against, in place of the built-in one")
    parser.add_argument("--base_url", default=BASE_URL, metavar="URL", help="a mirror")
    parser.add_argument("--dry_run", action="store_true", help="say what would be done")
    return parser


def main(arguments=None):
    asked = flags().parse_args(arguments)
    name = f"maestro-{asked.version}{'-midi' if asked.midi_only else ''}.zip"
    url = f"{asked.base_url.rstrip('/')}/{asked.version}/{name}"
    path = os.path.join(asked.out, name)
    expected = asked.sha256 or SHA256.get(name)
    print(LICENCE)
    total = remote_bytes(url)
    have = next((os.path.getsize(p) for p in (path, path + ".part") if os.path.exists(p)), 0)
    check = f"check its SHA256 sum against {expected}" if expected else f"check its own CRC-32 sums: {_no_sum(name)}"
    if asked.dry_run:
        print(f"would download {url}: {total / 1e9:.2f} GB, of which {have / 1e9:.2f} GB are there")
        print(f"would {check}")
        which = f"years {' '.join(map(str, asked.years))}" if asked.years else "all of it"
        print(f"would unpack {which} into {asked.out}")
        return
    os.makedirs(asked.out, exist_ok=True)
    check_space(asked.out, total - have + (0 if asked.years else round(total * _UNPACKED)))
    if not os.path.exists(path):
        download(url, path + ".part", total)
        if expected:
            check_sum(path + ".part", expected)
        os.replace(path + ".part", path)
    elif expected:
        check_sum(path, expected)
    if not expected:
        print(_no_sum(name))
    folder = unpack(path, asked.out, asked.years)
    years = f" --years {' '.join(map(str, asked.years))}" if asked.years else ""
    print(f"unpacked into {folder}; {path} may be deleted")
    if not asked.midi_only:
        print(f"Next: python -m mp3net.prepare --source {folder} --out {folder.rstrip('/')}-22016{years}")


def _no_sum(name):
    return f"no published SHA256 sum of {name} is built in; see {PAGE} and give it as --sha256"


if __name__ == "__main__":
    cli.run(main)
