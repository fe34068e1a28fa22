# What a GPU host does with a tar of `cargo xtask dist`, in a root without Rust, Python and a compiler. Runs there: `cargo xtask dist --try`.
# Arguments: the address of a registry, and the name and tag of a release in it that was signed with the key of release.pub.
set -euo pipefail
cd /host
registry=$1
release=$2

# Runs a command that has to succeed, and shows it.
step() {
    echo "\$ $*" >&2
    "$@"
}

# Runs nimctl, which must end with an exit code, and whose output must have a piece of text.
ends() {
    local expected=$1 piece=$2 printed code=0
    shift 2
    echo "\$ nimctl $*" >&2
    printed=$("$nimctl" "$@" 2>&1) || code=$?
    echo "$printed"
    [ "$code" = "$expected" ] || { echo "nimctl $* ended with $code in place of $expected" >&2; exit 1; }
    grep -qF -- "$piece" <<<"$printed" || { echo "its output does not have \"$piece\"" >&2; exit 1; }
}

# Runs nimctl, which has to succeed, and whose output must have a piece of text.
expect() {
    ends 0 "$@"
}

for absent in cargo rustc python3 python cc c++; do
    if command -v "$absent" >/dev/null; then
        echo "$absent is here: this root is not bare" >&2
        exit 1
    fi
done

step sha256sum --check SHA256SUMS
step sha256sum --check nimctl-*.tar.gz.sha256
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

# A release of the team whose key this host trusts is pulled from the registry, verified and run. What somebody else signed is not.
expect "signed by the P-256 key" trust init release.pub --model "${release%:*}" -o trust.yaml
echo '  require: { executed_on: any, min_cosine: 0.999, attestations: [provenance, validation] }' >>trust.yaml
expect "attested provenance, validation" trust check trust.yaml
ends 3 "it was made with another key" pull "$registry/stranger/$release" --all --trust trust.yaml -o stranger
ends 3 "keeps no signatures" pull oci-archive:release.tar --all --trust trust.yaml -o stranger
while IFS= read -r line; do
    echo "${line/require:/min_release: 9.0.0 #}"
done <trust.yaml >later.yaml
if [ -e stranger ]; then
    echo "something of a refused release is kept" >&2
    exit 1
fi
expect "accepted by the rule" pull "$registry/$release" --all --trust trust.yaml -o trusted
expect "all files match" verify trusted
expect "runs on any machine" select -m trusted/model_manifest.yaml
expect "onnx-fp16  executed  passed" validate trusted
expect "onnx-fp32  executed  passed" validate trusted
# What is loaded is judged again, by the policy of then.
expect "accepted by the rule" validate trusted --trust trust.yaml
ends 3 "is older than" validate trusted --trust later.yaml
expect "attested    provenance, by the P-256 key" explain "$registry/$release" --trust trust.yaml
expect "2 profiles" sbom trusted -o bill.json
step grep -q '"name": "ONNX Runtime"' bill.json
# Without a registry, a release and its signature come as files.
expect "accepted by the rule" pull oci-archive:release.tar --profile onnx-fp32 --profile onnx-fp16 --trust trust.yaml \
    --signature release.sig --attestations release.attestations.jsonl -o release
expect "all files match" verify release
for file in share/man/man1/nimctl.1 share/bash-completion/completions/nimctl share/zsh/site-functions/_nimctl \
    share/fish/vendor_completions.d/nimctl.fish THIRD-PARTY.txt LICENSE-MIT LICENSE-APACHE README.md docs/dist.md; do
    step grep -q . "${nimctl%/bin/nimctl}/$file"
done
