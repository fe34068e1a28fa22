//! `nimctl`: from a recipe to per-GPU inference profiles of an ONNX model, with ids that name their bytes.
//!
//! This page is the architecture. The README and `docs/guide.md` say how to use the program; `docs/` specifies what others may want to
//! implement: profile ids, recipes, backends.
//!
//! # The pipeline
//!
//! ```text
//!  recipe.yaml
//!      │ recipe      parse, check, write out the matrix of targets and precisions
//!      ▼
//!  profile specs ──── source, synth    every graph becomes an ONNX file on this disk, with its digests
//!      │
//!      │ worklist    jobs and their build keys; equal key: nothing to do, else why
//!      ▼
//!    jobs ─────────── onnx::lower      FP32 graph → FP16 or BF16 graph            (in this process)
//!      │              worker           lowered graph → plan                       (a process for each backend)
//!      ▼
//!   store            blobs by SHA-256, build records; an OCI image layout
//!      │
//!      │ profile     contents.json → tag `content` → tags → profile id
//!      ▼
//!  model_manifest.yaml + passports
//! ```
//!
//! [`ops::build`] is this picture as a function, in three steps: [`ops::resolve`] finds out what there is and which jobs must
//! run, and runs nothing; [`ops::schedule`] runs them; [`ops::assemble`] puts their records together, and writes nothing. Every
//! other verb on a recipe takes what `resolve` found, and assembles what the store has: [`ops::hash_profile`],
//! [`ops::validate`] (numbers), [`ops::bench`] (speed), [`ops::report`]; [`ops::release`] is all of it in one, for shipping.
//! So a recipe is read once in a command, its graphs are resolved once, and a backend is asked once what it is.
//! [`ops::workspace`] is what all of them are handed. Without a recipe: [`ops::lower`], [`ops::inspect`], [`ops::synth`];
//! [`ops::select`] chooses a profile for a host, and [`ops::verify`] checks what was shipped. [`ops::sign`] signs a folder or a file,
//! and [`ops::verify_signature`] tells whether it still is what was signed.
//! [`ops::reproduce`] builds a release again from what its passports say, in a store of its own, and compares.
//! and [`ops::verify_signature`] tells whether it still is what was signed. [`ops::sbom`] lists what a release consists of.
//! [`ops::store_care`] looks after the store itself.
//! [`ops::check`] says whether a model or a recipe can be compiled. [`ops::precision_check`] is the part of a build that compares
//! what was lowered with what it was.
//!
//! # Layers
//!
//! `bin → ops → effects → core`. A module uses its own layer and those below it.
//!
//! | layer | modules | invariant |
//! | --- | --- | --- |
//! | core | [`mod@attestation`], [`mod@backend`], [`benchmark`], [`canonical`], [`chunks`], [`compute_capability`], [`device`], [`digest`], [`error_kind`], [`execution`], [`fleet`], [`glob`], [`gpu`], [`manifest`], [`manifest_lint`], [`mod@mixed_precision`], [`mod@nearest`], [`onnx`], [`packs`], [`passport`], [`percent`], [`plan`], [`portable_path`], [`mod@precision_check`], [`profile`], [`quantization`], [`recipe`], [`release`], [`report`], [`mod@reproduction`], [`samples`], [`sbom`], [`selection`], [`shape_range`], [`mod@signing`], [`stats`], [`stored_format`], [`synth`], [`mod@trust`], [`validation`], [`worklist`], [`yaml`] | data in, data out: no clock, no environment, no process, no network, no printing |
//! | effects | [`engines`], [`mod@exchange`], [`files`], [`machine`], [`nvml`], [`oci`], [`process`], [`registry`], [`source`], [`store`], [`toolchain`], [`mod@uri`], [`worker`] | each owns one place on disk or one kind of process, and says so at its top |
//! | operations | [`ops`] | one verb each; take everything they need as arguments, report what happened as data |
//! | interface | `src/bin/nimctl` | the one place that reads the user's environment, prints, and turns errors into exit codes |
//! | the kit | [`nimctl_backend_kit`], in `backends/kit` | what a worker is written with; knows nothing of this library, which re-exports what both need ([`compute_capability`], [`execution`], [`shape_range`], some of [`files`] and [`worker`]) |
//! | workers | `backends/onnxruntime`, `backends/tensorrt` | one inference library each; depend on the kit alone, and talk to the rest by [`worker::protocol`] only |
//!
//! The core does not touch the disk, with these exceptions, each of which is told its path:
//!
//! * [`onnx`] reads models through memory maps, since a copy of the weights would not fit, and writes lowered ones
//!   piece by piece through [`files::atomic_file`] (`onnx/mapped_file.rs`, `onnx/write.rs`). To check where external data lies, it
//!   resolves links. Tokens that weights are rounded by are in files (`onnx/quantize/gptq/tokens.rs`). [`synth`] writes its graphs
//!   through it.
//! * [`digest`] has `of_file`, which reads a file through.
//! * [`plan`] has `PlanHeader::read`, which reads the first bytes of a plan, and `read_layers`, which reads its engine section.
//!
//! And one type crosses upwards: a recipe holds [`source::Source`], which is plain data.
//!
//! Clocks: [`ops::init`] limits its search for shapes, [`ops::precision_check`] its runs, [`ops::bench`] times first results, [`ops::schedule`] times jobs, [`ops::lower`] itself; [`store`] notes when a recipe was built, and [`ops::store_care`] asks how old files are; [`nvml`], [`registry`], [`toolchain`], [`source`] and [`worker`] have
//! time limits; [`files`] compares file times with now. No time gets into a key, an id, `contents.json` or a
//! manifest.
//!
//! Environment: workers read their `NIMCTL_…_LIB`, and pip and the HTTP client read what such programs read (proxies,
//! indexes). Nothing else outside of the binary does. Which folders and programs are used is in [`toolchain::Places`],
//! [`toolchain::Pip`], [`registry::CredentialSource`], [`uri::Sources`] and [`worker::discover::SearchPath`], and the binary fills them in.
//!
//! # Two numbers, two jobs
//!
//! A **build key** ([`worklist::BuildKey`]) is the digest of everything that goes in. It decides whether a job runs, and
//! names nothing. A **profile id** ([`profile::ProfileId`]) names what came out. The table at the top of
//! `src/profile/contents.rs` lists every value and which of the two covers it; `docs/profile-id.md` specifies the id.
//!
//! # Files
//!
//! | file | schema | owner | read, written |
//! | --- | --- | --- | --- |
//! | a recipe | `nimctl.recipe/1` | [`recipe`] | read; [`ops::init`] writes the first |
//! | `toolchain.lock.yaml`, built in, or the one of `--toolchain-lock` | `nimctl.toolchain-lock/1` | [`toolchain::Lock`] | read |
//! | `src/gpu/known_gpus.yaml`, built in | `nimctl.known-gpus/1` | [`gpu`] | read |
//! | `model_manifest.yaml` | NIM's `2.0`, and the map of 2024 that it had before | [`manifest`], [`yaml`] | both |
//! | a fleet file | `nimctl.fleet/1` | [`fleet`] | read |
//! | `<shared>/exchange-1/requests/<id>/request.json`, `result.json` | `nimctl.fleet-request/1`, `nimctl.fleet-result/1` | [`mod@exchange`], [`fleet::exchange`] | both |
//! | `<shared>/exchange-1/requests/<id>/claim.json`, `events.jsonl`, `batches/<name>.json`, `logs/`, `new/` | those of the layout, `exchange-1` | [`mod@exchange`] | both |
//! | `<data>/fleet/<hex>.json` | `nimctl.executor/1` | [`ops::fleet`] | both |
//! | a release policy | `nimctl.release-policy/1` | [`release`] | read |
//! | a trust policy | `nimctl.trust/1` | [`mod@trust`] | read; [`ops::trust`] writes the first |
//! | a signature, `<model>.sig` | Sigstore bundle 0.3, with OpenSSF's model signing 1.0 in it | [`mod@signing`] | both |
//! | attestations, `<release>.attestations.jsonl` | Sigstore bundles 0.3, one a line, with SLSA provenance 1 or in-toto test results 0.1 in them | [`mod@attestation`], [`ops::attest`] | both |
//! | keys and certificates | PEM: PKCS#8, SEC1, X.509 | [`mod@signing`] | read |
//! | a release: `SHA256SUMS`, `release-notes.md`, `report.html` | – | [`release`], [`report`] | both; written; written |
//! | a bill of materials | CycloneDX 1.6 | [`mod@sbom`] | written |
//! | a baseline, `bench --output json` | `nimctl.bench/1` | [`benchmark`] | both |
//! | `<store>/nimctl/bench/<id>.npz` | NumPy's format | [`ops::bench`] | written |
//! | `<store>/nimctl/references/<key>.npz` | NumPy's format; the key is `nimctl.reference/3` | [`ops::validate`] | both |
//! | `<store>/nimctl/origins/<id>.json` | `nimctl.origin/1`, which the first ones lack | [`store`] | both |
//! | `<store>/nimctl/pulls/<id>.json` | `nimctl.pull/1` | [`store`] | both |
//! | `<store>/nimctl/pins/<id>.json` | `nimctl.pin/1` | [`store`] | both |
//! | `<store>/nimctl/signed/<id>.json` | `nimctl.signed-profile/1` | [`store`] | both |
//! | `<store>/nimctl/newest-releases/<hex>.json` | `nimctl.newest-release/1` | [`store`] | both |
//! | `<store>/nimctl/mixed-precision/<key>.json` | `nimctl.mixed-precision/1` | [`store`] | both |
//! | `<store>/nimctl/quantized-graphs/<key>.json` | `nimctl.quantized-graph/1`; the key is `nimctl.quantized-graph-key/1` | [`store`] | both |
//! | `<store>/nimctl/precision-checks/<key>.json` | `nimctl.precision-check/1`; the key is `nimctl.precision-check-key/1` | [`store`] | both |
//! | samples: `.npy`, `.npz`, `.jpg`, `.png`, text, `tokenizer.json` | – | [`ops::samples`] | read |
//! | a profile's `contents.json` | `nimctl.contents/2`; `/1` is read too | [`profile::Contents`] | both |
//! | `<store>/nimctl/passports/<id>.json` | `nimctl.passport/1` | [`passport`] | both |
//! | `<store>/nimctl/builds/<key>.json` | `nimctl.build/1` | [`worklist::BuildRecord`] | both |
//! | `<store>/nimctl/last/<model>/<graph>/<job>.json` | `nimctl.build-key/1` | [`worklist::BuildKeyDocument`] | both |
//! | `<data>/digest-cache.json`, `<data>/toolchains/digest-cache.json` | `nimctl.digest-cache/1` | [`files`] | both |
//! | `<store>/nimctl/chunks/<hex>.json` | `nimctl.chunk-list/1` | [`chunks`] | both |
//! | `<store>/nimctl/partial/<hex>`, `<hex>.lock` | the bytes of a file, with holes | [`ops::pull`] | both |
//! | a pack index | `nimctl.pack-index/1` | [`packs`] | both |
//! | a published release: layout or archive | OCI image layout 1.0.0, image specification 1.1 | [`oci`] | both |
//! | `<folder>/.partial-pull/`, `.partial-pull.lock` | files that are fetched for a folder, whole or with `.part` | [`ops::pull`] | both |
//! | `~/.aws/credentials` | Amazon's | [`mod@uri`] | read |
//! | `<store>/oci-layout`, `index.json`, `blobs/sha256/…` | OCI image layout 1.0.0 | [`store`] | both |
//! | `<data>/sources/pip/<sha256>.json`, `<data>/sources/synth/<name>.json` | `nimctl.kept-files/1` | [`files`] | both |
//! | `<store>/lock`, `passports.lock`, `gc.lock`, `nimctl/in-use/<id>.lock`, `tmp/` | – | [`store`], [`files`] | both |
//! | `<data>/toolchains/<tool>/…/installed.json` | `nimctl.installed-tool/1` | [`toolchain`] | both |
//! | a tar of `toolchain export`: `toolchain.json`, then libraries | `nimctl.exported-tools/1` | [`toolchain`] | both |
//! | `<data>/sources/https/…`, `pip/…` | – | [`source`] | both |
//! | `<data>/sources/synth/…` | – | [`ops::synth`] | both |
//! | `~/.docker/config.json`, `containers/auth.json` | Docker's, Podman's | [`registry`] | read |
//! | a file of devices, `doctor --output json` | `nimctl.devices/1` | [`device`] | both |
//! | `.npy` tensors | NumPy's format, 1.0 and 2.0 | [`worker::npy`] | both |
//! | `/proc/{cpuinfo,loadavg,meminfo}`, `/proc/{self,<worker>}/status`, `/proc/<worker>/clear_refs`, `/sys/…/scaling_governor`, `/sys/bus/pci/devices/*/{vendor,class}` | – | [`machine`] | read; `clear_refs` is written |
//! | `/proc/self/maps` | – | [`worker::serve`], of its own process | read |
//!
//! `--output json` prints one object whose `schema` is `nimctl.<what>/1`; those views belong to `src/bin/nimctl/commands`.
//!
//! Each is read by the rule of [`stored_format`]: it is whole, damaged, or of a newer nimctl, which is refused and never
//! overwritten. `tests/fixtures/formats` has a golden file of every format.
//!
//! A file of ours is written beside its place, synced, and renamed ([`files::atomic_file`]): a reader, or a kill at any instant,
//! sees the old file or the new one.
//!
//! # Absent on purpose
//!
//! * **Inference libraries.** They are in worker processes, since they crash, exclude each other and print where they
//!   like. This library links none, and needs no feature for any.
//! * **A trait for backends.** The protocol is the interface, for ours and for everyone's.
//! * **`unsafe`**, but for one line that maps a file (`onnx/mapped_file.rs`) and the workers.
//! * **An async runtime.** A build waits for few processes; threads do.
//! * **Hash maps in what is written.** Order would depend on the run; `BTreeMap` everywhere.
//! * **Floats in identities.** [`canonical`] refuses them.
//!
pub mod attestation;
pub mod backend;
pub mod benchmark;
pub mod canonical;
pub mod chunks;
pub mod device;
pub mod digest;
pub mod engines;
pub mod error_kind;
#[cfg(test)]
mod every_field;
pub mod exchange;
pub mod files;
pub mod fleet;
pub mod glob;
pub mod gpu;
pub mod machine;
pub mod manifest;
pub mod manifest_lint;
pub mod mixed_precision;
pub mod nearest;
pub mod nvml;
pub mod oci;
pub mod onnx;
pub mod ops;
pub mod packs;
pub mod passport;
pub mod percent;
pub mod plan;
pub mod portable_path;
pub mod precision_check;
pub mod process;
pub mod profile;
pub mod quantization;
pub mod recipe;
pub mod registry;
pub mod release;
pub mod report;
pub mod reproduction;
pub mod samples;
pub mod sbom;
pub mod selection;
pub mod signing;
pub mod source;
pub mod stats;
pub mod store;
pub mod stored_format;
pub mod synth;
pub mod text_encoding;
pub mod toolchain;
pub mod trust;
pub mod uri;
pub mod validation;
pub mod worker;
pub mod worklist;
pub mod yaml;

pub use nimctl_backend_kit::{compute_capability, execution, shape_range};
