#!/bin/sh
# Fuzzes the reader of device files or the recogniser with libFuzzer under ASan and UBSan, for a
# fixed time.
#   native/fuzz/run.sh [seconds, 60] [fuzz_device | fuzz_recognizer]
# Needs clang, CMake and Ninja. What is found stays in build/fuzz/work-TARGET; a crash leaves a file
# crash-* there and the status is not zero. New inputs worth keeping of fuzz_device are merged into
# build/fuzz/merged. The recogniser's inputs are scripts (hear.h): it starts without any.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
target=${2:-fuzz_device}
build=build/fuzz
work=$build/work-$target
cmake -S native -B $build -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DSLM_PYTHON=OFF -DSLM_FUZZ=ON \
  -DSLM_SANITIZE=ON
cmake --build $build --target "$target" --parallel "${JOBS:-1}"
mkdir -p $work $build/merged
if [ "$target" = fuzz_recognizer ]; then
  exec $build/fuzz_recognizer -max_total_time="$seconds" -max_len=512 -rss_limit_mb=1024 \
    -timeout=20 -artifact_prefix=$work/ -print_final_stats=1 -use_value_profile=1 -seed=1 $work
fi
$build/fuzz_device -max_total_time="$seconds" -max_len=32768 -rss_limit_mb=512 -malloc_limit_mb=256 \
  -timeout=10 -artifact_prefix=$work/ -print_final_stats=1 -use_value_profile=1 -seed=1 \
  $work native/fuzz/corpus
$build/fuzz_device -merge=1 $build/merged native/fuzz/corpus $work
