#!/bin/sh
# Fuzzes the reader of device files with libFuzzer under ASan and UBSan, for a fixed time.
#   native/fuzz/run.sh [seconds, 60]
# Needs clang, CMake and Ninja. What is found stays in build/fuzz/work; a crash leaves a file crash-*
# there and the status is not zero. New inputs worth keeping are merged into build/fuzz/merged.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
build=build/fuzz
cmake -S native -B $build -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DSLM_PYTHON=OFF -DSLM_FUZZ=ON \
  -DSLM_SANITIZE=ON
cmake --build $build --target fuzz_device --parallel "${JOBS:-1}"
mkdir -p $build/work $build/merged
$build/fuzz_device -max_total_time="$seconds" -max_len=32768 -rss_limit_mb=512 -malloc_limit_mb=256 \
  -timeout=10 -artifact_prefix=$build/work/ -print_final_stats=1 -use_value_profile=1 -seed=1 \
  $build/work native/fuzz/corpus
$build/fuzz_device -merge=1 $build/merged native/fuzz/corpus $build/work
