//! What a profile was made from: all that a rebuild starts from.

use std::collections::BTreeMap;

use super::{Finding, Subject};
use crate::canonical::NotCanonical;
use crate::mixed_precision::MixedPrecision;
use crate::onnx::{GraphDigest, LoweringOptions};
use crate::passport::{GraphPassport, Passport};
use crate::profile::{Contents, ProfileId, ProfileSpec, Tags, ToolIdentity};
use crate::worklist::{
    Action, BuildKey, BuildKeyDocument, FieldChange, Inputs, Job, OutputFile, changes, jobs,
};

/// The tools of a profile's contents that are a part of nimctl. The build key has their versions elsewhere.
const OF_NIMCTL: &str = "nimctl-";
/// How the fields begin that say which revision of a worker made a plan.
const WORKERS: &str = "toolchain.nimctl-backend-";
/// Its version is a field of the build key of its own.
const LOWERING: &str = "nimctl-lowering";

/// What a profile was made from, and the digests of what came of it.
///
/// A passport says it ([`MadeFrom::of_passport`]). Whatever else carries the same documents can fill it too.
#[derive(Clone, Debug)]
pub struct MadeFrom {
    /// The profile's readable name.
    pub name: String,
    /// Its id.
    pub id: ProfileId,
    /// Its tags.
    pub tags: Tags,
    /// What it is made of: the document behind the id.
    pub contents: Contents,
    /// How each graph was built.
    pub graphs: BTreeMap<String, GraphMadeFrom>,
}

/// What one graph of a profile was made from.
#[derive(Clone, Debug)]
pub struct GraphMadeFrom {
    /// Everything that went into its lowering, with the key that was recorded for it.
    pub lowering: (BuildKey, BuildKeyDocument),
    /// The files of the lowered graph.
    pub lowered: Vec<OutputFile>,
    /// Everything that went into its compilation, for a profile that has a plan.
    pub compilation: Option<(BuildKey, BuildKeyDocument)>,
    /// The plan.
    pub compiled: Vec<OutputFile>,
}

impl GraphMadeFrom {
    fn of_passport(passport: &GraphPassport) -> Self {
        let GraphPassport { lowering, compilation } = passport;
        Self {
            lowering: (lowering.key, lowering.document.clone()),
            lowered: lowering.outputs.clone(),
            compilation: compilation.as_ref().map(|record| (record.key, record.document.clone())),
            compiled: compilation.as_ref().map(|record| record.outputs.clone()).unwrap_or_default(),
        }
    }

    /// Returns how the graph was lowered.
    pub fn options(&self) -> &LoweringOptions {
        &self.lowering.1.lowering
    }

    /// Returns the digest of the quantized graph that the lowering began with, if it began with one.
    pub fn quantized(&self) -> Option<&GraphDigest> {
        self.options().quantization.as_ref()?.graph.as_ref()
    }

    fn documents(&self) -> impl Iterator<Item = &(BuildKey, BuildKeyDocument)> {
        std::iter::once(&self.lowering).chain(&self.compilation)
    }

    /// Returns the document of an action, as it was recorded.
    pub fn document(&self, action: &Action) -> Option<&BuildKeyDocument> {
        self.documents().map(|(_, document)| document).find(|document| document.action == *action)
    }
}

impl MadeFrom {
    /// Takes what a passport says.
    pub fn of_passport(passport: &Passport) -> Self {
        let Passport { schema: _, id, name, tags, contents, graphs, validation: _, bench: _, made_of: _ } =
            passport;
        let graphs =
            graphs.iter().map(|(name, graph)| (name.clone(), GraphMadeFrom::of_passport(graph))).collect();
        Self { name: name.clone(), id: *id, tags: tags.clone(), contents: contents.clone(), graphs }
    }

    /// Returns the libraries that compiled it, as its contents have them.
    pub fn toolchain(&self) -> BTreeMap<String, ToolIdentity> {
        let tools = self.contents.toolchain.iter().filter(|(name, _)| !name.starts_with(OF_NIMCTL));
        tools.map(|(name, tool)| (name.clone(), tool.clone())).collect()
    }

    /// Returns the version of a part of nimctl that took part.
    pub fn version_of(&self, part: &str) -> Option<&str> {
        self.contents.toolchain.get(part).map(|tool| tool.version.as_str())
    }

    /// Returns the profile as a recipe would ask for it; `None` without a graph.
    pub fn spec(&self) -> Option<ProfileSpec> {
        let GraphMadeFrom { lowering, lowered: _, compilation, compiled: _ } = self.graphs.values().next()?;
        Some(ProfileSpec {
            backend: self.contents.backend.clone(),
            target: self.contents.target.clone(),
            lowering: lowering.1.lowering.clone(),
            mixed_precision: MixedPrecision::default(),
            quantization: None,
            workspace_mib: compilation.as_ref().and_then(|(_, document)| document.workspace_mib),
            line: 0,
        })
    }

    /// Returns how each graph was lowered, as [`Inputs`] takes it.
    pub fn lowerings(&self) -> BTreeMap<(String, String), LoweringOptions> {
        let of_graph = |(name, graph): (&String, &GraphMadeFrom)| {
            ((self.name.clone(), name.clone()), graph.options().clone())
        };
        self.graphs.iter().map(of_graph).collect()
    }

    /// Returns the jobs that this nimctl would run with these libraries.
    ///
    /// # Errors
    /// A number in a shape or size beyond 53 bits.
    pub fn jobs(&self, toolchain: &BTreeMap<String, ToolIdentity>) -> Result<Vec<Job>, NotCanonical> {
        let Some(spec) = self.spec() else { return Ok(Vec::new()) };
        let toolchains = BTreeMap::from([(spec.name(), toolchain.clone())]);
        jobs(
            &[&spec],
            &Inputs {
                model: &self.contents.model.name,
                graphs: &self.contents.graphs,
                shape_ranges: &self.contents.shape_ranges,
                lowerings: &self.lowerings(),
                toolchains: &toolchains,
            },
        )
    }

    /// Returns in what a rebuild here with these libraries would differ from what was recorded: tools, and nothing else if the
    /// record has no [contradictions](Self::contradictions). Not the revision of the worker: see [`Self::other_worker`].
    ///
    /// # Errors
    /// As [`Self::jobs`].
    pub fn other_tools(
        &self,
        toolchain: &BTreeMap<String, ToolIdentity>,
    ) -> Result<Vec<Finding>, NotCanonical> {
        let mut findings: Vec<Finding> = Vec::new();
        let changes = self.changes_to(&self.jobs(toolchain)?).into_iter();
        for (_, change) in changes.filter(|(_, change)| !change.field.starts_with(WORKERS)) {
            let (tool, what) = match change.field.strip_prefix("toolchain.") {
                Some(field) => match field.split_once(".libraries.") {
                    Some((tool, library)) => (tool.to_owned(), format!("library {library} of {tool}")),
                    None => {
                        let tool = field.strip_suffix(".version").unwrap_or(field);
                        (tool.to_owned(), format!("version of {tool}"))
                    }
                },
                None => (change.field.clone(), change.field.replace('_', " ")),
            };
            let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            let finding = Finding {
                subject: Subject::Tool,
                name: change.field.clone(),
                recorded: change.old.clone(),
                found: change.new.clone(),
                text: format!(
                    "{what}: the release was built with {}, here is {}{}",
                    word(&change.old),
                    word(&change.new),
                    if tool.starts_with(OF_NIMCTL) || !change.field.starts_with("toolchain.") {
                        ": use the nimctl that built the release"
                    } else {
                        ""
                    }
                ),
            };
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
        Ok(findings)
    }

    /// Returns which revision of its worker made the profile, if this nimctl expects another one. Plans may differ then, and need not.
    ///
    /// # Errors
    /// As [`Self::jobs`].
    pub fn other_worker(&self) -> Result<Option<Finding>, NotCanonical> {
        let changes = self.changes_to(&self.jobs(&self.toolchain())?).into_iter();
        let of_worker = changes.map(|(_, change)| change).find(|change| change.field.starts_with(WORKERS));
        Ok(of_worker.map(|FieldChange { field, old, new }| {
            let word = |value: &Option<String>| {
                value.as_ref().map_or("none".to_owned(), |revision| format!("revision {revision}"))
            };
            let text = format!(
                "the worker is another one: {} built the release ({field}), here is {}",
                word(&old),
                word(&new)
            );
            Finding { recorded: old, found: new, ..Finding::new(Subject::Tool, field, text) }
        }))
    }

    /// Returns the fields in which some jobs differ from what was recorded, each with its graph.
    pub fn changes_to(&self, jobs: &[Job]) -> Vec<(String, FieldChange)> {
        let mut found = Vec::new();
        for job in jobs {
            for user in &job.users {
                let Some(recorded) =
                    self.graphs.get(&user.graph).and_then(|graph| graph.document(&job.document.action))
                else {
                    continue;
                };
                for change in changes(recorded, &job.document) {
                    let entry = (user.graph.clone(), change);
                    if !found.contains(&entry) {
                        found.push(entry);
                    }
                }
            }
        }
        found
    }

    /// Returns what the record of the builds says otherwise than the contents, which the profile's id names. A rebuild of such a
    /// profile would mean nothing.
    ///
    /// # Errors
    /// As [`Self::jobs`].
    pub fn contradictions(&self) -> Result<Vec<Finding>, NotCanonical> {
        let mut findings = Vec::new();
        let mut found = |name: &str, text: String| findings.push(Finding::new(Subject::Field, name, text));
        let of_contents: Vec<&String> = self.contents.graphs.keys().collect();
        if of_contents != self.graphs.keys().collect::<Vec<_>>() || of_contents.is_empty() {
            found("graphs", "the passport and contents.json name different graphs".into());
            return Ok(findings);
        }
        if let Some(spec) = self.spec()
            && spec.name() != self.name
        {
            let text = format!(
                "the passport's name is {}, and its contents are those of {}",
                self.name,
                spec.name()
            );
            found("name", text);
            return Ok(findings);
        }
        let ships_onnx = self.contents.backend.ships_onnx();
        for (name, graph) in &self.graphs {
            for (key, document) in graph.documents() {
                if document.key()? != *key {
                    let text = format!("graph `{name}`: the recorded build key is not that of its document");
                    found(&format!("{name}: key"), text);
                }
            }
            let wanted =
                [Some(Action::Lower), Some(Action::Compile(self.contents.backend.name().to_owned()))];
            for ((_, document), wanted) in graph.documents().zip(wanted) {
                if Some(&document.action) != wanted.as_ref() {
                    let text = format!("graph `{name}`: the passport records a job of another kind");
                    found(&format!("{name}: action"), text);
                }
            }
            if graph.compilation.is_some() == ships_onnx {
                let text = format!(
                    "graph `{name}`: the passport has a compilation where none belongs, or lacks one"
                );
                found(&format!("{name}: compilation"), text);
            }
            let shipped = if ships_onnx { &graph.lowered } else { &graph.compiled };
            for output in shipped {
                let path = format!("{name}/{}", output.path);
                let listed = self.contents.files.iter().find(|file| file.path == path);
                if listed.is_none_or(|file| file.sha256 != output.sha256) {
                    let text =
                        format!("the passport says that {path} is {}, contents.json does not", output.sha256);
                    found(&path, text);
                }
            }
        }
        for (graph, change) in self.changes_to(&self.jobs(&self.toolchain())?) {
            let is_of_this_nimctl = change.field == "lowering_version"
                || change.field.starts_with(&format!("toolchain.{OF_NIMCTL}"));
            if is_of_this_nimctl {
                continue;
            }
            let (passport, contents) = (change.old.clone(), change.new.clone());
            let word = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
            findings.push(Finding {
                subject: Subject::Field,
                name: format!("{graph}: {}", change.field),
                recorded: passport.clone(),
                found: contents.clone(),
                text: format!(
                    "graph `{graph}`: {} is {} in the passport, and {} in contents.json",
                    change.field,
                    word(passport),
                    word(contents)
                ),
            });
        }
        let of_documents = self.graphs.values().map(|graph| graph.lowering.1.lowering_version.to_string());
        if let Some(version) = self.version_of(LOWERING)
            && let Some(other) = of_documents.into_iter().find(|other| other != version)
        {
            let text =
                format!("the lowering has version {other} in the passport, and {version} in contents.json");
            findings.push(Finding::new(Subject::Field, LOWERING, text));
        }
        Ok(findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_from(change: impl Fn(&mut Passport)) -> MadeFrom {
        let bytes = include_bytes!("../../tests/fixtures/formats/passport-static.json");
        let mut passport = Passport::parse(bytes, "p").unwrap();
        change(&mut passport);
        MadeFrom::of_passport(&passport)
    }

    fn names(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.name.as_str()).collect()
    }

    /// The passport of an earlier nimctl.
    #[test]
    fn a_golden_passport_has_no_contradictions() {
        let golden = made_from(|_| {});
        assert_eq!(golden.contradictions().unwrap(), []);
        // It was lowered by version 2.
        let other = golden.other_tools(&golden.toolchain()).unwrap();
        assert_eq!(names(&other), ["lowering_version"]);
        assert!(other[0].text.ends_with(": use the nimctl that built the release"), "{}", other[0].text);
        assert_eq!(golden.other_worker().unwrap(), None);
    }

    #[test]
    fn tools_that_are_other_ones_are_named() {
        let golden = made_from(|_| {});
        let mut here = golden.toolchain();
        let (name, tool) = here.iter_mut().next().unwrap();
        let (name, field) = (name.clone(), format!("toolchain.{name}.version"));
        tool.version = "0.0.1".into();
        let found = golden.other_tools(&here).unwrap();
        assert_eq!(names(&found), ["lowering_version", &field]);
        assert!(found[1].text.ends_with("here is 0.0.1"), "{}", found[1].text);
        assert!(!golden.other_tools(&BTreeMap::new()).unwrap().is_empty(), "{name} is missing");
    }

    #[test]
    fn another_worker_is_named_and_no_obstacle() {
        let other = made_from(|passport| {
            for graph in passport.graphs.values_mut() {
                let record = graph.compilation.as_mut().unwrap();
                let worker = ToolIdentity { version: "2".into(), libraries: BTreeMap::new() };
                record
                    .document
                    .toolchain
                    .insert(format!("nimctl-backend-{}", passport.contents.backend), worker);
                record.key = record.document.key().unwrap();
            }
        });
        assert_eq!(other.contradictions().unwrap(), []);
        assert_eq!(names(&other.other_tools(&other.toolchain()).unwrap()), ["lowering_version"]);
        let found = other.other_worker().unwrap().unwrap();
        assert_eq!((found.recorded.as_deref(), found.found), (Some("2"), None));
    }
}
