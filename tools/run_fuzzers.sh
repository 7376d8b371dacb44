#!/bin/sh
# run_fuzzers.sh MINUTES [NAME...]: runs the fuzz targets of build-fuzz, all or those that are
# named, one after the other, for MINUTES each, beginning with their corpora. What they find on the
# way stays in build-fuzz/found/NAME, an input that fails beside it. The first failure ends the run.
set -eu
cd "$(dirname "$0")/.."
minutes=$1
shift
if [ $# = 0 ]; then
  for target in fuzz/fuzz_*.cc; do
    name=${target#fuzz/fuzz_}
    set -- "$@" "${name%.cc}"
  done
fi
found=build-fuzz/found
for name; do
  mkdir -p "$found/$name"
  log=$found/$name.log
  dictionary=
  test ! -f "fuzz/dictionary/$name" || dictionary=-dict=fuzz/dictionary/$name
  # One input may take 10 seconds and 1 GB. The other options spare libFuzzer more work than the
  # targets have.
  LLVM_PROFILE_FILE=/dev/null "build-fuzz/fuzz_$name" $dictionary -max_total_time="$((minutes * 60))" \
    -timeout=10 -rss_limit_mb=1024 -entropic=0 -print_funcs=0 -artifact_prefix="$found/$name-" "$found/$name" "fuzz/corpus/$name" >"$log" 2>&1 || {
    tail -n 60 "$log" >&2
    exit 1
  }
  echo "fuzz $name: $(tail -n 1 "$log")"
done
