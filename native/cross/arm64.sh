#!/bin/sh
# Build the core, its tests and solomonic-recognize for 64-bit ARM, and run tests under qemu-user.
#   native/cross/arm64.sh FOLDER [TEST...]     all tests, or those whose names are given
# Needs aarch64-linux-gnu-g++, qemu-aarch64-static, cmake and ninja; uses ccache where there is one.
set -eu
[ $# -ge 1 ] || { echo "usage: $0 FOLDER [TEST...]" >&2; exit 2; }
folder=$1
shift
source=$(cd "$(dirname "$0")/.." && pwd)
for tool in aarch64-linux-gnu-g++ qemu-aarch64-static cmake ninja; do
  command -v $tool > /dev/null || { echo "$tool is missing" >&2; exit 77; }
done
launcher=
if command -v ccache > /dev/null; then launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
cmake -S "$source" -B "$folder" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$source/cross/aarch64.cmake" \
  -DSLM_PYTHON=OFF -DSLM_TESTS=ON $launcher > /dev/null
cmake --build "$folder" --target native_tests solomonic-recognize -j "${JOBS:-2}"
qemu-aarch64-static "$folder/native_tests" "$@"
