#!/usr/bin/env bash
# Shows nimctl on this host's GPU: joins the parts of the kit, runs each step with a time limit, goes on after each failure,
# and writes kit.json and kit.log. Needs bash, coreutils and an NVIDIA driver; uses python3 where it is there.
#
#   bash part-1/run.sh [-o FOLDER] [-b SECONDS]
#
#   -o FOLDER   where kit.json and kit.log go [default: out, beside the parts]
#   -b SECONDS  the time for everything; later steps get less or are skipped [default: 345]
set -u
LC_ALL=C
export LC_ALL

parts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kit=$(dirname "$parts")
out=$kit/out
budget=345
while (($#)); do
    case $1 in
    -o) out=${2:?-o takes a folder} && shift 2 ;;
    -b) budget=${2:?-b takes seconds} && shift 2 ;;
    *) echo "run.sh takes -o FOLDER and -b SECONDS, not $1" >&2 && exit 2 ;;
    esac
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
files=$kit/files
work=$kit/work
log=$out/kit.log
rm -rf "$work" && mkdir -p "$work" "$files" || exit 1
cd "$work" || exit 1
: >"$log"
SECONDS=0
declare -A status_of
names=()
finished=false

# --- What is written ------------------------------------------------------------------------------------------------------

# Prints a text as a JSON string. What is not ASCII becomes a question mark.
quoted() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    text=${text//[^ -~]/?}
    printf '"%s"' "$text"
}

# Prints the end of a file as a JSON string: FILE BYTES.
tail_of() {
    local text
    text=$(tail -c "$2" "$1" | tr -d '\000\r')
    quoted "$text"
}

# Whether a file is one JSON object, as far as its ends say.
is_object() {
    local end
    [[ -s $1 && $(head -c 1 "$1") == '{' ]] || return 1
    end=$(tail -c 3 "$1")
    [[ $end == *'}' ]]
}

# Writes kit.json with the steps so far; whatever ends this script, the file is whole.
write_json() {
    {
        printf '{\n"schema": "nimctl.gpu-kit/1",\n"finished": %s,\n' "$finished"
        printf '"budget_seconds": %s,\n"seconds": %s,\n' "$budget" "$SECONDS"
        printf '"needs": %s,\n"host": {\n' "$(quoted "$(cat "$parts/needs.txt")")"
        cat "$work/host.json"
        printf '\n},\n"steps": ['
        cat "$work/steps.json" 2>/dev/null
        printf '\n]\n}\n'
    } >"$out/kit.json.new" && mv "$out/kit.json.new" "$out/kit.json"
}

# Adds a step: NAME STATUS COMMAND EXIT-STATUS MILLISECONDS REASON. Its output is in NAME.out and NAME.err, if anywhere.
record() {
    local name=$1 status=$2 command=$3 code=$4 ms=$5 reason=$6 seconds
    printf -v seconds '%d.%03d' $((ms / 1000)) $((ms % 1000))
    status_of[$name]=$status
    names+=("$name")
    {
        [[ -e $work/steps.json ]] && printf ','
        printf '\n{"name": %s, "status": "%s"' "$(quoted "$name")" "$status"
        [[ -n $reason ]] && printf ', "reason": %s' "$(quoted "$reason")"
        if [[ -n $command ]]; then
            printf ', "command": %s, "exit_status": %s, "seconds": %s' "$(quoted "$command")" "$code" "$seconds"
        fi
        if [[ -e $name.out ]]; then
            if is_object "$name.out"; then
                printf ', "result": ' && cat "$name.out"
            else
                printf ', "stdout": ' && tail_of "$name.out" 16000
            fi
        fi
        [[ -s $name.err ]] && printf ', "stderr": ' && tail_of "$name.err" 4000
        printf '}'
    } >>"$work/steps.new"
    cat "$work/steps.new" >>"$work/steps.json" && rm "$work/steps.new"
    printf '%-9s %7s s  %-22s %s\n' "$status" "$seconds" "$name" "${reason:0:260}"
    {
        printf '\n=== %s: %s after %s s %s\n$ %s\n' "$name" "$status" "$seconds" "$reason" "$command"
        cat "$name.out" "$name.err" 2>/dev/null
    } >>"$log"
    write_json
}

# --- How steps run --------------------------------------------------------------------------------------------------------

now_ms() { date +%s%3N; }

# Runs a command with a time limit: NAME SECONDS EXPECTED-EXIT-STATUS COMMAND...
step() {
    local name=$1 limit=$2 expected=$3 left=$((budget - SECONDS)) shortened='' start code ms reason=''
    shift 3
    if ((left < 5)); then
        record "$name" skipped '' 0 0 "the $budget s for everything are used up"
        return 1
    fi
    ((limit > left)) && limit=$left && shortened=', shortened because the time for everything ran out'
    start=$(now_ms)
    timeout -k 3 "$limit" "$@" >"$name.out" 2>"$name.err" </dev/null
    code=$?
    ms=$(($(now_ms) - start))
    if ((code == expected)); then
        record "$name" passed "$*" "$code" "$ms" ''
        return 0
    fi
    if ((code == 124 || code == 137)) && ((ms >= limit * 1000)); then
        record "$name" timed-out "$*" "$code" "$ms" "over its limit of $limit s$shortened"
        return 1
    fi
    reason=$(first_error "$name.err" "$name.out")
    ((expected == 0)) || reason="exit status $code in place of $expected: $reason"
    record "$name" failed "$*" "$code" "$ms" "$reason"
    return 1
}

# Prints the line that says why a command failed: what tests sum up, an error, the first failure in a JSON result, a panic, or
# else the last line: STDERR STDOUT.
first_error() {
    local kind line last=''
    for kind in tests error failure panic; do
        while IFS= read -r line; do
            case $kind in
            tests) [[ $line == 'test result: '* ]] && printf '%s' "$line" && return ;;
            error) [[ $line == error* || $line == *': error'* ]] && printf '%s' "$line" && return ;;
            failure) [[ $line =~ \"(failure|message)\":\ \"(.*)\" ]] && printf '%s' "${BASH_REMATCH[2]}" && return ;;
            panic) [[ $line == *panicked* ]] && printf '%s' "$line" && return ;;
            esac
            [[ -n ${line// /} ]] && last=$line
        done <<<"$(cat "$1" "$2")"
    done
    printf '%s' "$last"
}

skip() { record "$1" skipped '' 0 0 "$2"; }

# Whether all of these steps passed; records NAME as skipped if not: NAME STEP...
after() {
    local name=$1 needed
    shift
    for needed in "$@"; do
        if [[ ${status_of[$needed]:-missing} != passed ]]; then
            skip "$name" "\`$needed\` did not pass"
            return 1
        fi
    done
}

# --- What is here ---------------------------------------------------------------------------------------------------------

loader=/lib64/ld-linux-x86-64.so.2
here() { command -v "$1" >/dev/null 2>&1; }

# Folders with the driver and with CUDA's libraries, where the loader does not look by itself.
library_folders() {
    local folder packages
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/wsl/lib; do
        [[ -e $folder/libcuda.so.1 ]] && echo "$folder"
    done
    here python3 && timeout 20 python3 -c '
import glob, importlib.util, os
spec = importlib.util.find_spec("nvidia")
for place in spec.submodule_search_locations if spec else []:
    for folder in sorted(glob.glob(os.path.join(glob.escape(place), "*", "lib"))):
        print(folder)' 2>/dev/null
    for packages in /opt/*/.venv /opt/conda /usr /usr/local "${VIRTUAL_ENV:-/nonexistent}" "${HOME:-/nonexistent}/.local"; do
        for folder in "$packages"/lib/python3*/{site,dist}-packages/nvidia/*/lib; do
            [[ -d $folder ]] && echo "$folder"
        done
    done
    for folder in /usr/local/cuda/lib64 /usr/local/cuda-13*/lib64 /usr/local/tensorrt/lib; do
        [[ -d $folder ]] && echo "$folder"
    done
}

# Joins what library_folders prints, each folder once.
loader_path() {
    local folder joined=${LD_LIBRARY_PATH:-}
    while IFS= read -r folder; do
        [[ -n $folder ]] || continue
        [[ :$joined: == *:$folder:* ]] || joined+=${joined:+:}$folder
    done <<<"$(library_folders)"
    printf '%s' "$joined"
}

# Prints what the loader finds for a file, as ldd does: FILE.
loaded_for() { LD_TRACE_LOADED_OBJECTS=1 LD_LIBRARY_PATH=$loader_path "$loader" "$1" 2>&1; }

# Prints the libraries that the loader does not find for a file: FILE.
not_found() {
    local line name
    while read -r name line; do
        [[ $line == *'not found'* ]] && printf '%s ' "$name"
    done <<<"$(loaded_for "$1")"
}

# Whether one of the loader's folders has a library: NAME.
has_library() {
    local folder
    local IFS=:
    for folder in $loader_path /usr/lib/x86_64-linux-gnu /usr/lib64 /lib/x86_64-linux-gnu; do
        [[ -e $folder/$1 ]] && return 0
    done
    return 1
}

# Writes what is known of the host without its GPU.
describe_host() {
    local line cpu='' memory glibc kernel python=none
    while IFS= read -r line; do
        [[ $line == 'model name'* ]] && cpu=${line#*: } && break
    done </proc/cpuinfo
    read -r _ memory _ </proc/meminfo
    read -r _ _ kernel _ </proc/version
    glibc=$("$loader" --version 2>/dev/null | head -n 1)
    here python3 && python=$(timeout 20 python3 -c 'import platform, sys; print(platform.python_version(), sys.executable)' 2>&1)
    {
        printf '"cpu": %s,\n"cpus": %s,\n' "$(quoted "$cpu")" "$(nproc)"
        printf '"memory_kib": %s,\n"kernel": %s,\n' "$memory" "$(quoted "$kernel")"
        printf '"glibc": %s,\n"python": %s,\n' "$(quoted "$glibc")" "$(quoted "$python")"
        printf '"ld_library_path": %s' "$(quoted "$loader_path")"
    } >"$work/host.json"
}

# Writes a command that runs others with the kit's libraries: NAME FOLDER-OF-ONNX-RUNTIME.
write_wrapper() {
    local without_tensorrt=1
    has_library libnvinfer.so.11 && without_tensorrt=0
    cat >"$work/$1" <<WRAPPER
#!/usr/bin/env bash
export PATH=$(printf '%q' "$files/bin"):\$PATH
export LD_LIBRARY_PATH=$(printf '%q' "$loader_path")
export NIMCTL_BACKENDS=$(printf '%q' "$files/bin") NIMCTL_DATA_DIR=$(printf '%q' "$work/data")
export NIMCTL_ONNXRUNTIME_LIB=$(printf '%q' "$files/lib/$2")
export NIMCTL_TENSORRT_RTX_LIB=$(printf '%q' "$files/lib/tensorrt-rtx")
export NIMCTL_TEST_NIMCTL=$(printf '%q' "$files/bin/nimctl") NIMCTL_TEST_BACKENDS=$(printf '%q' "$files/bin")
export NIMCTL_TEST_ROOT=$(printf '%q' "$files") NIMCTL_TEST_WITHOUT_TENSORRT=$without_tensorrt
export NIMCTL_ONNXRUNTIME_CUDA_LIB=$(printf '%q' "$files/lib/onnxruntime-cuda")
exec "\$@"
WRAPPER
    chmod +x "$work/$1"
}

# --- The parts ------------------------------------------------------------------------------------------------------------

unpack() { # SHA256 MODE PATH SLICE...
    local sha256=$1 mode=$2 path=$3 slice found
    shift 3
    for slice in "$@"; do
        if [[ ! -e $kit/$slice ]]; then
            echo "$path: ${slice%%/*} is not here"
            return
        fi
    done
    mkdir -p "$files/${path%/*}"
    (cd "$kit" && cat "$@") | LD_LIBRARY_PATH=$parts "$parts/xz" --decompress --stdout --threads=0 >"$files/$path"
    found=$(sha256sum "$files/$path")
    if [[ ${found%% *} != "$sha256" ]]; then
        rm -f "$files/$path"
        echo "$path: its sha256 is ${found%% *}, not $sha256"
        (cd "$kit" && sha256sum --check --quiet "$parts/slices.sha256" 2>/dev/null)
        return
    fi
    chmod "$mode" "$files/$path"
}

join_parts() {
    local start line status=passed reason=''
    start=$(now_ms)
    chmod +x "$parts/xz"
    while read -r -a line; do
        unpack "${line[@]}" >>"join.out" 2>>"join.err" &
    done <"$parts/files.txt"
    wait
    if [[ -s join.out ]]; then
        status=failed reason="$(head -n 1 join.out)"
    fi
    record join "$status" 'cat, xz --decompress, sha256sum' 0 $(($(now_ms) - start)) "$reason"
}

# The libraries of CUDA that ONNX Runtime's provider needs; cuDNN is opened while it runs, so the loader does not name it.
find_cuda_libraries() {
    local start missing status=passed provider=$files/lib/onnxruntime-cuda/libonnxruntime_providers_cuda.so
    start=$(now_ms)
    missing=$(not_found "$provider")
    has_library libcudnn.so.9 || missing+=libcudnn.so.9
    [[ -n $missing ]] && status=failed
    loaded_for "$provider" >cuda-libraries.out
    record cuda-libraries "$status" "ldd libonnxruntime_providers_cuda.so" 0 $(($(now_ms) - start)) \
        "${missing:+not found on this host: $missing}"
}

# Whether this host built the same plans as the machine that made the manifest: the ids are digests of the files.
compare_manifests() {
    local status=passed reason='' line
    after same-plans build-demo || return
    while IFS= read -r line; do
        # A host with TensorRT builds more than was committed; nothing committed may be missing.
        [[ $line == '- id: '* && $(<model_manifest.yaml) != *"$line"* ]] && status=failed reason="not built here: ${line#- }" && break
    done <"$committed"
    record same-plans "$status" 'each committed id in the built manifest' 0 0 "$reason"
}

# Prints the main figures: nimctl's, from its own reports, and what Python measured beside it.
# shellcheck disable=SC2317 # called by the trap
figures() {
    local name profile cosine validation p50
    echo
    for name in report-b32 report-rtx; do
        [[ ${status_of[$name]:-} == passed ]] || continue
        while IFS='|' read -r _ profile _ validation cosine p50 _; do
            [[ $profile == ' onnx'* || $profile == ' tensorrt'* ]] && echo "$profile:$p50(validation$validation, cosine$cosine)"
        done <"$name.out"
    done
    [[ -s peer.err ]] && head -n 30 peer.err
}

# shellcheck disable=SC2317 # called by the trap
finish() {
    finished=true
    write_json
    local name passed=0 others=0
    for name in "${names[@]}"; do
        if [[ ${status_of[$name]} == passed ]]; then
            passed=$((passed + 1))
        else
            others=$((others + 1))
        fi
    done
    figures
    echo
    echo "$passed steps passed; $others did not"
    echo "$SECONDS s of $budget; $out/kit.json and kit.log"
}

# --- The steps ------------------------------------------------------------------------------------------------------------

loader_path=$(loader_path)
describe_host
trap 'exit 0' INT TERM
trap finish EXIT
join_parts
cpp_missing=$(not_found "$files/bin/nimctl-backend-tensorrt-rtx")
[[ -n $cpp_missing ]] && loader_path+=${loader_path:+:}$files/lib/c++
export PATH=$work:$PATH
write_wrapper with-cpu onnxruntime
write_wrapper with-cuda onnxruntime-cuda
mkdir -p recipes && cp "$files"/recipes/* recipes/

if here nvidia-smi; then
    step nvidia-smi 20 0 nvidia-smi -q -x
else
    skip nvidia-smi 'there is no nvidia-smi on this host'
fi
find_cuda_libraries
step nimctl 20 0 with-cuda nimctl --version || exit 0
step doctor 30 0 with-cuda nimctl doctor --output json
step backends 60 0 with-cuda nimctl backend list --output json

committed=$files/manifests/nvclip-demo/model_manifest.yaml
step select 20 0 with-cpu nimctl select --manifest "$committed" --explain --output json
step profiles 20 0 with-cpu nimctl list-model-profiles --manifest "$committed" --explain --output json
built=(recipes/nvclip-demo.yaml --manifest model_manifest.yaml --output json --quiet)
if [[ -e $files/lib/tensorrt-rtx/libtensorrt_rtx.so.1 ]]; then
    step build-demo 100 0 with-cpu nimctl build "${built[@]}"
    compare_manifests
else
    step build-demo 100 0 with-cpu nimctl build "${built[@]}" --only 'onnx-*'
    skip same-plans 'TensorRT for RTX was not carried'
fi
after validate-demo build-demo &&
    step validate-demo 60 0 with-cuda nimctl validate recipes/nvclip-demo.yaml --only 'onnx-*' --provider cuda --output json --quiet

step synth-b32 60 0 with-cpu nimctl model synth nvclip --size b32 -o recipes --output json --quiet
after build-b32 synth-b32 &&
    step build-b32 60 0 with-cpu nimctl build recipes/clip-b32.yaml --manifest b32.yaml --output json --quiet
measured=(--batch '1,8,64' --rounds 5 --budget-ms 1000 --output json --quiet)
after bench-b32 build-b32 &&
    step bench-b32 150 0 with-cuda nimctl bench recipes/clip-b32.yaml --provider cuda "${measured[@]}"
after validate-b32 build-b32 &&
    step validate-b32 60 0 with-cuda nimctl validate recipes/clip-b32.yaml --provider cuda --output json --quiet
after report-b32 bench-b32 &&
    step report-b32 20 0 with-cuda nimctl report recipes/clip-b32.yaml --format markdown

capability=$([[ $(<doctor.out) =~ \"compute_capability\":\ *\"([0-9]+\.[0-9]+)\" ]] && echo "${BASH_REMATCH[1]}")
if [[ -z $capability ]]; then
    skip rtx-check 'doctor found no GPU'
elif after rtx-check synth-b32; then
    template=$(<recipes/clip-b32-rtx.yaml)
    echo "${template//@CAPABILITY@/$capability}" >recipes/clip-b32-rtx.yaml
    case $capability in
    7.5 | 8.0 | 8.6 | 8.9 | 12.0 | 12.1)
        step rtx-check 20 0 with-cpu nimctl recipe check recipes/clip-b32-rtx.yaml &&
            step rtx-build 100 0 with-cpu nimctl build recipes/clip-b32-rtx.yaml --manifest rtx.yaml --output json --quiet
        after rtx-bench rtx-build &&
            step rtx-bench 90 0 with-cpu nimctl bench recipes/clip-b32-rtx.yaml --cuda-graph "${measured[@]}"
        after rtx-validate rtx-build &&
            step rtx-validate 60 0 with-cpu nimctl validate recipes/clip-b32-rtx.yaml --output json --quiet
        after report-rtx rtx-bench &&
            step report-rtx 20 0 with-cpu nimctl report recipes/clip-b32-rtx.yaml --format markdown
        ;;
    *)
        # TensorRT for RTX does not support this GPU, and the recipe must be refused.
        step rtx-check 20 1 with-cpu nimctl recipe check recipes/clip-b32-rtx.yaml
        ;;
    esac
fi

step gpu-tests 120 0 with-cpu gpu-tests --test-threads 1

if here python3; then
    after lower-b32 synth-b32 &&
        step lower-b32 40 0 with-cpu nimctl lower recipes/vision.onnx -o recipes/vision-fp16.onnx --precision fp16 --quiet
    step peer 80 0 python3 "$parts/peer.py" recipes/vision.onnx recipes/vision-fp16.onnx
else
    skip peer 'there is no python3 on this host'
fi
exit 0
