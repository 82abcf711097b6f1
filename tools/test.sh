#!/bin/bash
# Sets up whatever is missing and runs every check and every test: ruff, mypy, pytest here and under other kernels in QEMU.
#
#   bash tools/test.sh [PYTEST ARGUMENTS...]
#
# HARKEN_VMS names the kernels (default "6.1 6.12"; "" for none; others: 6.18, newest); HARKEN_VM_JOBS of them run at a time (default: one per CPU).
# The last lines are pytest's summary; the status is 0 only if everything passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }

bash tools/bootstrap.sh dev || exit 1

vms=()
if [ -n "${HARKEN_VMS-6.1 6.12}" ]; then
    say "test kernels"
    # shellcheck disable=SC2086
    .venv/bin/python -m harken.testing.kernels ${HARKEN_VMS-6.1 6.12} || exit 1
    for release in ${HARKEN_VMS-6.1 6.12}; do vms+=(--vm "$release"); done
    vms+=(--vm-jobs "${HARKEN_VM_JOBS:-$(nproc)}")
fi

failed=()
check() {
    say "$*"
    .venv/bin/"$@" || failed+=("$1")
}
check ruff check
check ruff format --check
check mypy

say "pytest ${vms[*]} $*"
.venv/bin/pytest -ra "${vms[@]}" "$@" < /dev/null || failed+=(pytest)

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
