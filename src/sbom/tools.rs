//! The libraries and programs that built and ran profiles.

use std::collections::{BTreeMap, BTreeSet};

use super::cyclonedx::{Component, Kind, License, NamedLicense, Organization, Property};
use crate::backend::{Licence, Tool};
use crate::canonical;
use crate::digest::Sha256;
use crate::passport::Passport;
use crate::profile::ToolIdentity;

/// Where digests come from that no passport has.
const LOCK: &str = "toolchain.lock.yaml";
/// How the names of nimctl's own tools begin.
const OURS: &str = "nimctl-";
/// How many hex digits of a digest tell two copies of one version apart.
const REFERENCE_DIGITS: usize = 16;

/// A tool as nimctl pins it: the package that it comes in, and its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedTool {
    /// The tool.
    pub tool: Tool,
    /// The Python package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The digests of its files, by name.
    pub libraries: BTreeMap<String, Sha256>,
}

/// Adds the tools of a profile to `known`, by reference, and returns their references.
pub(super) fn tools_of(
    passport: &Passport,
    pinned: &[PinnedTool],
    known: &mut BTreeMap<String, Component>,
) -> BTreeSet<String> {
    let mut references = BTreeSet::new();
    let mut names = BTreeSet::new();
    let records = passport.graphs.values().map(|graph| &graph.shipped().document.toolchain);
    for (name, identity) in std::iter::once(&passport.contents.toolchain).chain(records).flatten() {
        names.insert(name.as_str());
        let (reference, component) = recorded(name, identity, pinned);
        known.insert(reference.clone(), component);
        references.insert(reference);
    }
    // What ran it is only named. A library that also built it is listed above, with its digests.
    let ran_on = passport.validation.validation().map(|validation| validation.ran_on.as_str());
    let found = ran_on.and_then(library_in).filter(|(tool, _)| !names.contains(tool.name()));
    if let Some((tool, version)) = found {
        // The pinned files are those that run on the CPU.
        let is_pinned = ran_on.is_some_and(|ran_on| ran_on.ends_with(" on the CPU"));
        let (reference, component) = named(tool, version, if is_pinned { pinned } else { &[] });
        known.insert(reference.clone(), component);
        references.insert(reference);
    }
    references
}

/// Returns the library that a passport names as what ran a profile: `ONNX Runtime 1.32.0 on the CPU`.
fn library_in(ran_on: &str) -> Option<(Tool, &str)> {
    Tool::ALL.into_iter().find_map(|tool| {
        let version = ran_on.strip_prefix(tool.title())?.strip_prefix(' ')?.split(' ').next()?;
        version.starts_with(|first: char| first.is_ascii_digit()).then_some((tool, version))
    })
}

/// Returns a tool whose version and files a passport records.
fn recorded(name: &str, identity: &ToolIdentity, pinned: &[PinnedTool]) -> (String, Component) {
    let ToolIdentity { version, libraries } = identity;
    let mut reference = format!("tool:{name}@{version}");
    if !libraries.is_empty() {
        let text = canonical::to_string(libraries).unwrap_or_default();
        let digest = Sha256::of(text.as_bytes()).to_hex();
        reference = format!("{reference}+{}", &digest[..REFERENCE_DIGITS]);
    }
    let component = match name.parse() {
        Ok(tool) => {
            let pin = pinned.iter().find(|pin| pin.tool == tool && pin.libraries == *libraries);
            library(&reference, tool, version, libraries, pin)
        }
        Err(_) => program(&reference, name, version, libraries),
    };
    (reference, component)
}

/// Returns a tool of which a passport has the version alone; the digests are those of the pinned files of that version.
fn named(tool: Tool, version: &str, pinned: &[PinnedTool]) -> (String, Component) {
    let reference = format!("tool:{tool}@{version}");
    let pin = pinned.iter().find(|pin| pin.tool == tool && pin.version == version);
    let none = BTreeMap::new();
    let libraries = pin.map_or(&none, |pin| &pin.libraries);
    let mut component = library(&reference, tool, version, libraries, pin);
    if pin.is_some() {
        component.properties.push(Property::new("hashes_from", LOCK));
    }
    (reference, component)
}

fn library(
    reference: &str,
    tool: Tool,
    version: &str,
    libraries: &BTreeMap<String, Sha256>,
    pin: Option<&PinnedTool>,
) -> Component {
    let license = match tool.licence() {
        Licence::Spdx(expression) => License::Expression(expression.into()),
        Licence::Named(name) => License::License(NamedLicense { name: name.into() }),
    };
    Component {
        supplier: Some(Organization { name: tool.supplier().into() }),
        version: Some(version.into()),
        licenses: vec![license],
        purl: pin.map(|PinnedTool { package, version, .. }| format!("pkg:pypi/{package}@{version}")),
        components: files(reference, libraries),
        ..Component::new(Kind::Library, reference, tool.title())
    }
}

fn program(reference: &str, name: &str, version: &str, libraries: &BTreeMap<String, Sha256>) -> Component {
    let ours = License::Expression(env!("CARGO_PKG_LICENSE").into());
    Component {
        version: Some(version.into()),
        licenses: if name.starts_with(OURS) { vec![ours] } else { Vec::new() },
        components: files(reference, libraries),
        ..Component::new(Kind::Application, reference, name)
    }
}

fn files(reference: &str, libraries: &BTreeMap<String, Sha256>) -> Vec<Component> {
    let file =
        |(name, sha256): (&String, &Sha256)| Component::file(format!("{reference}/{name}"), name, sha256);
    libraries.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_a_profile_is_found_in_the_words_of_its_passport() {
        let found = |text| library_in(text);
        assert_eq!(found("ONNX Runtime 1.32.0 on the CPU"), Some((Tool::OnnxRuntime, "1.32.0")));
        assert_eq!(found("TensorRT for RTX 1.7.1.116 on GPU 0"), Some((Tool::TensorrtRtx, "1.7.1.116")));
        assert_eq!(found("TensorRT 11.4.0 on GPU 0"), Some((Tool::Tensorrt, "11.4.0")));
        for other in ["", "my-backend 1.0", "ONNX Runtime", "ONNX Runtime with CUDA"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_package_is_named_only_for_the_files_that_it_has() {
        let libraries = |text: &str| BTreeMap::from([("lib.so".to_owned(), Sha256::of(text.as_bytes()))]);
        let pin = PinnedTool {
            tool: Tool::TensorrtRtx,
            package: "p".into(),
            version: "1".into(),
            libraries: libraries("a"),
        };
        let of = |text| {
            let identity = ToolIdentity { version: "1".into(), libraries: libraries(text) };
            recorded("tensorrt-rtx", &identity, std::slice::from_ref(&pin))
        };
        let ((first, pinned), (second, other)) = (of("a"), of("b"));
        assert_ne!(first, second);
        assert_eq!(pinned.purl.as_deref(), Some("pkg:pypi/p@1"));
        assert_eq!(other.purl, None);
        assert_eq!(named(Tool::TensorrtRtx, "2", &[pin]).1.purl, None);
    }
}
