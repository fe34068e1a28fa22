# What a GPU host does with a tar of `cargo xtask dist`, in a root without Rust, Python and a compiler. Runs there: `cargo xtask dist --try`.
set -euo pipefail
cd /host

# Runs a command that has to succeed, and shows it.
step() {
    echo "\$ $*" >&2
    "$@"
}

# Runs nimctl, whose output must have a piece of text.
expect() {
    local piece=$1 printed
    shift
    echo "\$ nimctl $*" >&2
    printed=$("$nimctl" "$@" 2>&1) || { echo "$printed" >&2; echo "nimctl $* failed" >&2; exit 1; }
    echo "$printed"
    grep -qF -- "$piece" <<<"$printed" || { echo "its output does not have \"$piece\"" >&2; exit 1; }
}

for absent in cargo rustc python3 python cc c++; do
    if command -v "$absent" >/dev/null; then
        echo "$absent is here: this root is not bare" >&2
        exit 1
    fi
done

step sha256sum --check SHA256SUMS
step tar -xzf nimctl-*.tar.gz
for folder in nimctl-*/; do
    nimctl=$PWD/${folder}bin/nimctl
done
expect "nimctl " --version
expect "not installed" toolchain list
expect "onnxruntime" toolchain import toolchain.tar
expect "installed, " toolchain list
expect "installed in" doctor
for worker in onnxruntime tensorrt tensorrt-rtx; do
    expect "$worker  " backend list
done
expect "TensorRT for RTX 1" backend list
# The compilers give the same plans as those of every other build of nimctl.
expect "jobs ran" build nvclip-demo.yaml --manifest built.yaml
step cmp built.yaml model_manifest.yaml
expect "laid out in release" pull oci-archive:release.tar --profile onnx-fp32 --profile onnx-fp16 -o release
expect "all files match" verify release
expect "runs on any machine" select -m release/model_manifest.yaml
expect "onnx-fp16  executed  passed" validate release
for file in share/man/man1/nimctl.1 share/bash-completion/completions/nimctl share/zsh/site-functions/_nimctl \
    share/fish/vendor_completions.d/nimctl.fish THIRD-PARTY.txt LICENSE-MIT LICENSE-APACHE README.md docs/dist.md; do
    step grep -q . "${nimctl%/bin/nimctl}/$file"
done
