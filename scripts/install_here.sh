#!/usr/bin/env bash
# Installs the source in ~/mp3net/new into ~/mp3net: install_here.sh EXTRA PYTHON CHECK. The launchers run it there.
#   EXTRA   tpu, gpu or tpu-node    PYTHON   the machine's Python    CHECK   tpu or gpu: devices that must be seen; or none
set -euo pipefail
extra=$1 python=$2 check=$3
cd ~/mp3net

if [ -e jobs/train/lock ] && ! flock --nonblock jobs/train/lock true; then
  echo "error: a training runs here, in what would be replaced" >&2
  exit 1
fi
rm -rf source
mv new source

make_venv() { [ -x venv/bin/pip ] || "$python" -m venv venv; }
# Ubuntu keeps venv in a package of its own, which the images of TPU VMs may lack.
make_venv || {
  sudo -n apt-get -qq update
  sudo -n apt-get -qq -y -o DPkg::Lock::Timeout=300 install python3-venv
  make_venv
}
venv/bin/python -m pip install --quiet --upgrade pip
venv/bin/python -m pip install --quiet --upgrade "./source[$extra]"

case $check in
  none) venv/bin/python -c "import tensorflow as tf; print('TensorFlow', tf.__version__, 'is installed')" ;;
  *) venv/bin/python source/scripts/devices.py "$check" ;;
esac
