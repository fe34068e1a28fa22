//! Why a profile is another one than the one with its name in an earlier release: every field of its jobs' keys that changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::passport::{GraphPassport, Passport};
use crate::profile::Contents;
use crate::worklist::{BuildKeyDocument, FieldChange, changes};

/// A field that changed, and the jobs whose keys have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedField {
    /// The field, and what it was and is.
    #[serde(flatten)]
    pub change: FieldChange,
    /// The jobs: `text: lower`, `vision: compile`.
    pub jobs: Vec<String>,
}

impl ChangedField {
    /// Returns whether a shorter line of [`why_rebuilt`] says the same: the files of graphs, and libraries.
    fn is_said_of_contents(&self) -> bool {
        self.change.field.starts_with("graph.")
            || (self.change.field.starts_with("toolchain.")
                && !self.change.field.starts_with("toolchain.nimctl-"))
    }
}

impl std::fmt::Display for ChangedField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { change: FieldChange { field, old, new }, jobs } = self;
        let word = |value: &Option<String>| value.as_deref().unwrap_or("nothing").to_owned();
        write!(f, "`{field}` {} → {} ({})", word(old), word(new), jobs.join(", "))
    }
}

/// Returns every field that changed in the keys of a profile's jobs, sorted by field.
pub fn changed_fields(before: &Passport, now: &Passport) -> Vec<ChangedField> {
    let mut found: BTreeMap<(String, Option<String>, Option<String>), Vec<String>> = BTreeMap::new();
    for (graph, job, document) in documents(now) {
        let earlier = documents(before).find(|(other, step, _)| *other == graph && *step == job);
        let Some((_, _, earlier)) = earlier else { continue };
        for FieldChange { field, old, new } in changes(earlier, document) {
            found.entry((field, old, new)).or_default().push(format!("{graph}: {job}"));
        }
    }
    let field = |((field, old, new), jobs)| ChangedField { change: FieldChange { field, old, new }, jobs };
    found.into_iter().map(field).collect()
}

fn documents(passport: &Passport) -> impl Iterator<Item = (&str, &'static str, &BuildKeyDocument)> {
    passport.graphs.iter().flat_map(|(name, GraphPassport { lowering, compilation })| {
        let compiled = compilation.as_ref().map(|record| (name.as_str(), "compile", &record.document));
        std::iter::once((name.as_str(), "lower", &lowering.document)).chain(compiled)
    })
}

/// Returns what differs between two profiles with the same name, in words.
pub fn why_rebuilt(before: &Passport, now: &Passport) -> Vec<String> {
    let mut reasons = of_contents(&before.contents, &now.contents);
    // A range of shapes is in the contents as a whole, and in the keys value by value.
    let fields = changed_fields(before, now);
    reasons.extend(fields.iter().filter(|field| !field.is_said_of_contents()).map(ToString::to_string));
    if reasons.is_empty() {
        reasons.push("nothing that goes in changed: the compiler produced different bytes".into());
    }
    reasons
}

fn of_contents(before: &Contents, now: &Contents) -> Vec<String> {
    let mut reasons = Vec::new();
    if before.model != now.model {
        reasons.push(format!("release {} → {}", before.model.release, now.model.release));
    }
    for (graph, digest) in &now.graphs {
        if before.graphs.get(graph).is_some_and(|other| other != digest) {
            reasons.push(format!("graph `{graph}` changed"));
        }
    }
    for (tool, identity) in &now.toolchain {
        match before.toolchain.get(tool) {
            Some(other) if other.version != identity.version => {
                reasons.push(format!("{tool} {} → {}", other.version, identity.version));
            }
            Some(other) if other != identity => reasons.push(format!("{tool}: libraries changed")),
            Some(_) => {}
            None => reasons.push(format!("{tool} {} is new", identity.version)),
        }
    }
    if before.graphs.keys().ne(now.graphs.keys()) {
        reasons.push("its set of graphs changed".into());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &[u8] = include_bytes!("../../tests/fixtures/formats/passport.json");

    fn passport(change: impl Fn(&mut BuildKeyDocument)) -> Passport {
        let mut passport = Passport::parse(STORED, "p").unwrap();
        for graph in passport.graphs.values_mut() {
            change(&mut graph.lowering.document);
            if let Some(record) = &mut graph.compilation {
                change(&mut record.document);
            }
        }
        passport
    }

    #[test]
    fn every_changed_field_is_named_once_with_its_jobs() {
        let (before, now) = (passport(|_| ()), passport(|document| document.workspace_mib = Some(4096)));
        let fields = changed_fields(&before, &now);
        assert_eq!(fields.len(), 1, "{fields:?}");
        let jobs = documents(&now).count();
        assert_eq!((fields[0].change.field.as_str(), fields[0].jobs.len()), ("workspace_mib", jobs));
        let why = why_rebuilt(&before, &now);
        assert!(
            why.len() == 1 && why[0].starts_with("`workspace_mib` nothing → 4096 (text: lower"),
            "{why:?}"
        );
    }

    #[test]
    fn other_bytes_of_the_same_key_are_the_compilers() {
        let same = passport(|_| ());
        assert_eq!(changed_fields(&same, &same), []);
        assert_eq!(
            why_rebuilt(&same, &same),
            ["nothing that goes in changed: the compiler produced different bytes"]
        );
    }

    #[test]
    fn graphs_and_libraries_are_named_short() {
        let before = passport(|_| ());
        let mut now = passport(|document| document.graph.files[0].size_bytes += 1);
        for digest in now.contents.graphs.values_mut() {
            digest.files[0].size_bytes += 1;
        }
        assert_eq!(why_rebuilt(&before, &now), ["graph `text` changed"]);
    }
}
