#!/bin/bash
# Makes .venv with harken in it, in this working tree; does nothing when that is there and up to date.
#
#   bash tools/bootstrap.sh          harken alone
#   bash tools/bootstrap.sh dev      editable, with what the tests need
#
# Needs Python 3.11 or newer. On Debian the venv module is a package of its own, which is installed if it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:-}

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo > /dev/null; then sudo "$@"
    else echo "This needs root: $*" >&2; return 1
    fi
}

apt_install() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2> /dev/null | grep -q '^install ok installed$' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "Debian packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get -qq -o Acquire::Retries=3 update
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" > /dev/null
}

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
    return 1
}

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -c 'import pip' 2> /dev/null; then
    if ! python=$(find_python); then
        command -v apt-get > /dev/null || { echo "Python 3.11 or newer with its venv module is needed" >&2; exit 1; }
        apt_install python3 python3-venv
        python=$(find_python)
    fi
    say "virtual environment: .venv, $("$python" --version)"
    "$python" -m venv --clear .venv
fi

# It comes with environments of Python before 3.12, nothing here needs it, and its .pth file takes a millisecond of every start of Python.
compgen -G '.venv/lib/python3*/site-packages/distutils-precedence.pth' > /dev/null &&
    .venv/bin/python -m pip uninstall -q --disable-pip-version-check --yes setuptools

# Before the installation, which builds the accelerator with the compiler.
if [ "$extra" = dev ]; then
    command -v apt-get > /dev/null &&
        apt_install qemu-system-x86 busybox-static bpftrace bpftool bpfcc-tools trace-cmd linux-perf binutils libkshark2 \
            gcc g++ libc6-dev systemtap-sdt-dev dwz libc6-dbg
fi

# An editable installation (with an extra) follows the sources by itself and serves as a plain one too; a plain one is a copy.
fingerprint() { find pyproject.toml hatch_build.py src/harken/native/*.[ch] src/harken/native/python/*.c ${1:+"$1"} -type f ! -name '*.pyc' ! -name '*.so' -exec sha256sum {} + | sort | sha256sum; }
editable=$(ls .venv/harken-*.stamp 2> /dev/null | grep -v plain || true)
stamp=".venv/harken-${extra:-plain}.stamp"
[ -z "$extra" ] && [ -n "$editable" ] && stamp=$(head -1 <<< "$editable")
case $stamp in *plain*) wanted=$(fingerprint src) ;; *) wanted=$(fingerprint) ;; esac
if [ "$(cat "$stamp" 2> /dev/null)" != "$wanted" ] || ! [ -x .venv/bin/harken ]; then
    say "pip install ${extra:+-e }.${extra:+[$extra]}"
    if [ "$stamp" != .venv/harken-plain.stamp ]; then
        extra=${extra:-dev}
        .venv/bin/pip install -q --disable-pip-version-check --no-input -e ".[$extra]"
    else
        .venv/bin/pip install -q --disable-pip-version-check --no-input .
    fi
    echo "$wanted" > "$stamp"
fi

