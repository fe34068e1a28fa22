//! Problems in a manifest that can be read.

use std::path::Path;

use serde::Serialize;

use crate::digest::Blake3;
use crate::manifest::{IdKind, ManifestDocument, ManifestFile, ManifestProfile, equal_tags, file_path};
use crate::selection::{self, SelectorProblem};
use crate::yaml::Position;

/// One problem in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where the profile is.
    pub position: Position,
    /// The profile's id.
    pub profile: String,
    /// The rule.
    pub rule: Rule,
    /// What is wrong, and what was expected.
    pub message: String,
}

/// What `lint` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Two profiles have equal tags.
    EqualTags,
    /// The id is not the digest of the tags.
    WrongId,
    /// The id was made by a rule that is not public.
    OpaqueId,
    /// Files without a checksum.
    MissingChecksum,
    /// A checksum that is not a `blake3:` digest.
    UnknownChecksum,
    /// Files without a uri to fetch them from.
    MissingUri,
    /// A uri of a file beside the manifest, and no such file.
    MissingFile,
    /// A profile without files.
    NoFiles,
    /// An unknown GPU.
    UnknownGpu,
    /// Two selectors that name different GPUs.
    ContradictoryTags,
    /// A selector that no GPU can satisfy, or that can't be read.
    UnreachableSelector,
    /// A tag about hardware that selection doesn't read, or a plan whose GPU no tag names.
    UnreadTag,
    /// NVIDIA's Kubernetes operator finds no node for it.
    NoNode,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// It may not work.
    Warning,
    /// It can't work as written.
    Error,
}

impl Rule {
    /// Returns how bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::EqualTags | Self::WrongId | Self::UnknownChecksum | Self::UnreachableSelector => {
                Severity::Error
            }
            Self::MissingChecksum
            | Self::MissingUri
            | Self::MissingFile
            | Self::NoFiles
            | Self::UnknownGpu
            | Self::ContradictoryTags
            | Self::UnreadTag
            | Self::NoNode => Severity::Warning,
            Self::OpaqueId => Severity::Note,
        }
    }

    /// Returns its name: `equal-tags`.
    pub fn name(self) -> &'static str {
        match self {
            Self::EqualTags => "equal-tags",
            Self::WrongId => "wrong-id",
            Self::OpaqueId => "opaque-id",
            Self::MissingChecksum => "missing-checksum",
            Self::UnknownChecksum => "unknown-checksum",
            Self::MissingUri => "missing-uri",
            Self::MissingFile => "missing-file",
            Self::NoFiles => "no-files",
            Self::UnknownGpu => "unknown-gpu",
            Self::ContradictoryTags => "contradictory-tags",
            Self::UnreachableSelector => "unreachable-selector",
            Self::UnreadTag => "unread-tag",
            Self::NoNode => "no-node",
        }
    }
}

/// Returns the problems, in the order of the file; `folder` is the manifest's, for files beside it.
pub fn lint(document: &ManifestDocument, folder: &Path) -> Vec<Finding> {
    let profiles = &document.manifest().profiles;
    let equal = equal_tags(profiles);
    let mut findings = Vec::new();
    for (profile, position) in profiles.iter().zip(document.positions()) {
        let mut found = |rule: Rule, message: String| {
            findings.push(Finding { position: *position, profile: profile.id.clone(), rule, message });
        };
        if let Some((first, _)) = equal.iter().find(|(_, second)| *second == profile.id) {
            found(
                Rule::EqualTags,
                format!("it has the same tags as {first}: selection can't tell the two profiles apart"),
            );
        }
        match document.id_kind(profile) {
            IdKind::Content | IdKind::NimTags => {}
            IdKind::Opaque => {
                found(Rule::OpaqueId, "its id follows no public rule, so it can't be checked".into())
            }
            IdKind::Wrong { computed: Some(id) } => {
                found(Rule::WrongId, format!("NIM's rule gives its tags the id {id}"));
            }
            IdKind::Wrong { computed: None } => {
                found(
                    Rule::WrongId,
                    "NIM's rule gives its tags no id: a key contains `|` or `:`, or a value contains `|`"
                        .into(),
                );
            }
        }
        files(profile, folder, &mut found);
        for problem in selection::selector_problems(&profile.tags) {
            match problem {
                SelectorProblem::UnknownGpu(message) => found(Rule::UnknownGpu, message),
                SelectorProblem::Contradiction(message) => found(Rule::ContradictoryTags, message),
                SelectorProblem::Unreachable(message) => found(Rule::UnreachableSelector, message),
                SelectorProblem::NotRead(message) => found(Rule::UnreadTag, message),
                SelectorProblem::NoNode(message) => found(Rule::NoNode, message),
            }
        }
    }
    findings
}

fn files(profile: &ManifestProfile, folder: &Path, found: &mut impl FnMut(Rule, String)) {
    let files = &profile.workspace.files;
    if files.is_empty() {
        found(Rule::NoFiles, "it has no files".into());
    }
    let lacking = |lacks: &dyn Fn(&ManifestFile) -> bool| {
        let names: Vec<&str> =
            files.iter().filter(|(_, file)| lacks(file)).map(|(path, _)| path.as_str()).collect();
        (!names.is_empty()).then(|| listed(&names))
    };
    if let Some(names) = lacking(&|file| file.checksum.is_none()) {
        found(Rule::MissingChecksum, format!("no checksum: {names}"));
    }
    let unknown = |checksum: &String| checksum.parse::<Blake3>().is_err();
    if let Some(names) = lacking(&|file| file.checksum.as_ref().is_some_and(unknown)) {
        found(Rule::UnknownChecksum, format!("the checksum is not `blake3:` and 64 hex digits: {names}"));
    }
    if let Some(names) = lacking(&|file| file.uri.is_none()) {
        found(Rule::MissingUri, format!("no uri: {names}"));
    }
    let path_of = |file: &ManifestFile| file.uri.as_deref().and_then(file_path);
    if let Some(names) = lacking(&|file| path_of(file).is_some_and(|path| !folder.join(path).is_file())) {
        found(Rule::MissingFile, format!("not at the path in their uri, beside the manifest: {names}"));
    }
}

/// Joins the first few names.
fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lint_finds() {
        let text = "\
schema_version: '2.0'
profiles:
- {id: 425dcb3ef646e497d5a50bbd1eb1169c9f33f4253f36669bb428ef250e2447cd, tags: {gpu: t4}}
- {id: a, tags: {gpu: t4}, workspace: {files: {x: {checksum: 'md5:1'}, y: {uri: u}}}}
- {id: b, tags: {gpu: L40S, gpu_device: '26b5:10de'}, workspace: {files: {x: u}}}
- {id: c, tags: {gpu: b999}, workspace: {files: {x: u}}}
- {id: d, tags: {product_name_regex: '^NVIDIA-B7'}, workspace: {files: {x: u}}}
- {id: e, tags: {product_name_regex: '('}, workspace: {files: {x: u}}}
- {id: f, tags: {gpu: l4, compute_capability: '9.0'}, workspace: {files: {x: u}}}
- {id: g, tags: {tp: many}, workspace: {files: {x: u}}}
- {id: h, tags: {gpu_arch: ada, min_driver: '535', cuda_major_version: '12', name: device-model}, workspace: {files: {x: u}}}
- {id: i, tags: {type: TensorRT, precision: int8}, workspace: {files: {x: u}}}
- {id: j, tags: {gpu: h100-sxm}, workspace: {files: {x: u}}}
- {id: k, tags: {gpu: h100-sxm, product_name_regex: '^NVIDIA-H100-80GB(?!-MIG)'}, workspace: {files: {x: u}}}
- {id: l, tags: {gpu: rtx-pro-6000-server, product_name_regex: '^NVIDIA-RTX-6000-Ada'}, workspace: {files: {x: u}}}
- {id: m, tags: {gpu: h100-sxm, product_name_regex: '^NVIDIA-H100-80GB'}, workspace: {files: {x: u}}}
- {id: n, tags: {gpu: h100}, workspace: {files: {x: u}}}
- {id: o, tags: {key: NVIDIA-H100-80GB-HBM3_10.0.1_12, type: TensorRT}, workspace: {files: {x: u}}}
- {id: q, tags: {gpu: l4}, workspace: {files: {x: 'file:profiles/q/x'}}}
- {id: p, tags: {product_name_regex: '^NVIDIA-A10(?!0).*'}, workspace: {files: {x: u}}}
";
        let found: Vec<(String, &str)> =
            lint(&ManifestDocument::parse(text.as_bytes(), "m.yaml").unwrap(), Path::new("absent"))
                .into_iter()
                .map(|finding| (finding.profile, finding.rule.name()))
                .collect();
        let of = |id: &str| -> Vec<&str> {
            let own =
                found.iter().filter(|(profile, rule)| profile.starts_with(id) && *rule != "missing-checksum");
            own.map(|(_, rule)| *rule).filter(|rule| *rule != "opaque-id").collect()
        };
        assert_eq!(of("4"), ["wrong-id", "no-files"]);
        assert_eq!(of("a"), ["equal-tags", "unknown-checksum", "missing-uri"]);
        assert_eq!(of("b"), ["contradictory-tags"]);
        assert_eq!(of("c"), ["unknown-gpu"]);
        assert_eq!(of("h"), ["unread-tag", "unread-tag"]);
        assert_eq!(of("i"), ["unread-tag"]);
        for id in ["j", "k", "l"] {
            assert_eq!(of(id), ["no-node"], "{id}");
        }
        assert_eq!(of("q"), ["missing-file"]);
        for id in ["m", "n", "o", "p"] {
            assert_eq!(of(id), [""; 0], "{id}");
        }
        for id in ["d", "e", "f", "g"] {
            assert_eq!(of(id), ["unreachable-selector"], "{id}");
        }
    }
}
