//! What a profile was made from, as SLSA provenance v1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OUR_TYPES;
use crate::passport::{GraphPassport, Passport};
use crate::profile::{ModelRelease, ProfileId, Tags};
use crate::signing::InvalidStatement;
use crate::worklist::{BUILD_KEY_SCHEMA, BuildKeyDocument, BuildRecord, OutputFile};

/// The type of the predicate.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";

/// What a profile was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The profile's id.
    pub profile_id: ProfileId,
    /// Its readable name.
    pub name: String,
    /// The model and its release.
    pub model: ModelRelease,
    /// Its tags.
    pub tags: Tags,
    /// What made each graph.
    pub graphs: BTreeMap<String, Documents>,
    /// The files that came out of each graph's jobs, under `<graph>/lower/` and `<graph>/compile/`.
    pub outputs: Vec<OutputFile>,
    /// The URI of who ran the build.
    pub builder: String,
    /// The version of nimctl that says this.
    pub nimctl_version: String,
}

/// The jobs of one graph: each document is the one behind its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Documents {
    /// The lowering.
    pub lower: BuildKeyDocument,
    /// The compilation, for a profile that has a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile: Option<BuildKeyDocument>,
}

/// What whoever asked for the build decided.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    profile: ProfileParameters,
    graphs: BTreeMap<String, Documents>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileParameters {
    id: ProfileId,
    name: String,
    model: ModelRelease,
    tags: Tags,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPredicate {
    build_definition: RawDefinition,
    run_details: RawDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDefinition {
    build_type: String,
    external_parameters: Value,
}

#[derive(Deserialize)]
struct RawDetails {
    builder: RawBuilder,
    #[serde(default)]
    byproducts: Vec<RawByproduct>,
}

#[derive(Deserialize)]
struct RawBuilder {
    id: String,
    #[serde(default)]
    version: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawByproduct {
    annotations: OutputFile,
}

fn build_type() -> String {
    format!("{OUR_TYPES}/build/profile/v1")
}

impl Provenance {
    /// Returns what a passport says.
    pub(super) fn of(passport: &Passport, builder: &str) -> Self {
        let documents = |graph: &GraphPassport| Documents {
            lower: graph.lowering.document.clone(),
            compile: graph.compilation.as_ref().map(|record| record.document.clone()),
        };
        let mut outputs = Vec::new();
        for (name, GraphPassport { lowering, compilation }) in &passport.graphs {
            let mut of = |step: &str, record: &BuildRecord| {
                outputs.extend(record.outputs.iter().map(|output| OutputFile {
                    path: format!("{name}/{step}/{}", output.path),
                    ..output.clone()
                }));
            };
            of("lower", lowering);
            if let Some(record) = compilation {
                of("compile", record);
            }
        }
        Self {
            profile_id: passport.id,
            name: passport.name.clone(),
            model: passport.contents.model.clone(),
            tags: passport.tags.clone(),
            graphs: passport.graphs.iter().map(|(name, graph)| (name.clone(), documents(graph))).collect(),
            outputs,
            builder: builder.to_owned(),
            nimctl_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Returns every tool that took part, with its version and the digests of its libraries.
    pub fn toolchain(&self) -> BTreeMap<&str, &crate::profile::ToolIdentity> {
        let documents =
            self.graphs.values().flat_map(|graph| std::iter::once(&graph.lower).chain(&graph.compile));
        documents
            .flat_map(|document| document.toolchain.iter().map(|(name, tool)| (name.as_str(), tool)))
            .collect()
    }

    pub(super) fn to_predicate(&self) -> Value {
        let Self { profile_id, name, model, tags, graphs, outputs, builder, nimctl_version } = self;
        let mut dependencies = Vec::new();
        for (graph, documents) in graphs {
            dependencies.extend(documents.lower.graph.files.iter().map(|file| {
                json!({ "name": format!("graph/{graph}/{}", file.path), "digest": { "sha256": file.sha256.to_hex() },
                        "annotations": { "size_bytes": file.size_bytes } })
            }));
        }
        for (tool, identity) in self.toolchain() {
            dependencies.extend(identity.libraries.iter().map(|(library, sha256)| {
                json!({ "name": format!("toolchain/{tool}/{library}"), "digest": { "sha256": sha256.to_hex() },
                        "annotations": { "version": identity.version } })
            }));
        }
        let byproducts: Vec<Value> = outputs
            .iter()
            .map(|output| json!({ "name": output.path, "digest": { "sha256": output.sha256.to_hex() }, "annotations": output }))
            .collect();
        let parameters = Parameters {
            profile: ProfileParameters {
                id: *profile_id,
                name: name.clone(),
                model: model.clone(),
                tags: tags.clone(),
            },
            graphs: graphs.clone(),
        };
        json!({
            "buildDefinition": {
                "buildType": build_type(),
                "externalParameters": parameters,
                "resolvedDependencies": dependencies,
            },
            "runDetails": {
                "builder": { "id": builder, "version": { "nimctl": nimctl_version } },
                "byproducts": byproducts,
            },
        })
    }

    /// Reads a predicate; `None` for a build of something else.
    pub(super) fn parse(predicate: &Value) -> Result<Option<Self>, InvalidStatement> {
        let wrong =
            |error: serde_json::Error| InvalidStatement::Predicate(format!("its provenance: {error}"));
        let RawPredicate { build_definition, run_details } =
            RawPredicate::deserialize(predicate).map_err(wrong)?;
        if build_definition.build_type != build_type() {
            return Ok(None);
        }
        let Parameters { profile, graphs } =
            Parameters::deserialize(&build_definition.external_parameters).map_err(wrong)?;
        let documents = graphs.values().flat_map(|graph| std::iter::once(&graph.lower).chain(&graph.compile));
        if let Some(other) =
            documents.map(|document| &document.schema).find(|schema| *schema != BUILD_KEY_SCHEMA)
        {
            let problem = format!(
                "its provenance has documents of the schema `{other}`, and `{BUILD_KEY_SCHEMA}` is read"
            );
            return Err(InvalidStatement::Predicate(problem));
        }
        let ProfileParameters { id, name, model, tags } = profile;
        let RawDetails { builder: RawBuilder { id: builder, mut version }, byproducts } = run_details;
        Ok(Some(Self {
            profile_id: id,
            name,
            model,
            tags,
            graphs,
            outputs: byproducts.into_iter().map(|byproduct| byproduct.annotations).collect(),
            builder,
            nimctl_version: version.remove("nimctl").unwrap_or_default(),
        }))
    }
}
