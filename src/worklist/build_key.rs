//! Build keys: the digest of everything that goes into one job.
//!
//! Equal key: nothing to do. A different key: [`changes`] says which field changed, from what to what; that is why
//! the document is stored beside the hash. The table in [`crate::profile::Contents`]'s module says which value is
//! covered by the key, which by the id.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::canonical::{self, NotCanonical};
use crate::compute_capability::ComputeCapability;
use crate::digest::Sha256;
use crate::onnx::{GraphDigest, LoweringOptions};
use crate::profile::ToolIdentity;
use crate::shape_range::ShapeRange;
use crate::stored_format::{self, Unreadable};

/// The schema of the document; a new one makes every job run again.
pub const BUILD_KEY_SCHEMA: &str = "nimctl.build-key/1";

/// The digest of a [`BuildKeyDocument`]: decides whether to build, names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BuildKey(Sha256);

/// Everything that goes into one job. Destructured wherever it is used, so that a new field can't be forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildKeyDocument {
    /// [`BUILD_KEY_SCHEMA`].
    pub schema: String,
    /// What the job does: `lower`, or `compile` with its backend.
    pub action: Action,
    /// The bytes of the source graph with its external data.
    pub graph: GraphDigest,
    /// How the graph is lowered.
    pub lowering: LoweringOptions,
    /// The version of our own lowering.
    pub lowering_version: u32,
    /// Versions and digests of the libraries that take part.
    pub toolchain: BTreeMap<String, ToolIdentity>,
    /// The targets of the compiler.
    pub compute_capabilities: Vec<ComputeCapability>,
    /// The GPU that the plan is tuned on, for compilers that tune on the GPU itself.
    pub tuned_on: Option<String>,
    /// Shape ranges by input.
    pub shape_ranges: BTreeMap<String, ShapeRange>,
    /// The workspace limit in MiB.
    pub workspace_mib: Option<u64>,
}

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Lowers a graph's precision (or, for FP32, takes it as it is).
    Lower,
    /// Compiles a lowered graph into a plan with this backend.
    Compile(String),
}

/// One field whose change makes a job run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// The path of the field inside the document: `toolchain.tensorrt-rtx.version`.
    pub field: String,
    /// What it was; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl BuildKeyDocument {
    /// Starts a document for a job that has neither toolchain nor target.
    pub fn new(action: Action, graph: GraphDigest, lowering: LoweringOptions, lowering_version: u32) -> Self {
        Self {
            schema: BUILD_KEY_SCHEMA.into(),
            action,
            graph,
            lowering,
            lowering_version,
            toolchain: BTreeMap::new(),
            compute_capabilities: Vec::new(),
            tuned_on: None,
            shape_ranges: BTreeMap::new(),
            workspace_mib: None,
        }
    }

    /// Reads a document; `path` is only named in errors.
    ///
    /// # Errors
    /// A document of a newer nimctl, or a damaged one.
    pub fn parse(bytes: &[u8], path: &str) -> Result<Self, Unreadable> {
        stored_format::from_json(bytes, BUILD_KEY_SCHEMA, path)
    }

    /// Returns the key.
    ///
    /// # Errors
    /// A number beyond 53 bits.
    pub fn key(&self) -> Result<BuildKey, NotCanonical> {
        Ok(BuildKey(canonical::digest(self)?))
    }
}

impl BuildKey {
    /// Returns the 64 hex digits.
    pub fn to_hex(&self) -> String {
        self.0.to_hex()
    }
}

impl fmt::Display for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for BuildKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BuildKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Sha256::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for BuildKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BuildKey".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Sha256::json_schema(generator)
    }
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, old, new } = self;
        let word = |value: &Option<String>| value.as_deref().unwrap_or("nothing").to_owned();
        write!(f, "{field} changed from {} to {}", word(old), word(new))
    }
}

/// Returns every field in which two documents differ, sorted by name.
pub fn changes(old: &BuildKeyDocument, new: &BuildKeyDocument) -> Vec<FieldChange> {
    changes_between(old, new)
}

/// Does so with any two documents.
pub fn changes_between<T: Serialize>(old: &T, new: &T) -> Vec<FieldChange> {
    let (old, new) = (leaves(old), leaves(new));
    let fields: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    fields
        .into_iter()
        .filter(|field| old.get(*field) != new.get(*field))
        .map(|field| FieldChange {
            field: field.clone(),
            old: old.get(field).cloned(),
            new: new.get(field).cloned(),
        })
        .collect()
}

/// Flattens a document into `path.of.field → value`; lists of plain values count as one value.
fn leaves(document: &impl Serialize) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Null => {}
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| walk(&join(name), member, out))
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                items.iter().enumerate().for_each(|(index, item)| walk(&join(&index.to_string()), item, out));
            }
            Value::String(text) => {
                out.insert(path.to_owned(), text.clone());
            }
            other => {
                out.insert(path.to_owned(), other.to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    if let Ok(value) = serde_json::to_value(document) {
        walk("", &value, &mut out);
    }
    out
}
