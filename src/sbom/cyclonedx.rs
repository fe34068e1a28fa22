//! CycloneDX 1.6 as JSON: the part of the format that a bill of materials of a release needs.

use serde::Serialize;

use crate::digest::Sha256;

/// The version of the format.
const SPEC_VERSION: &str = "1.6";
const JSON_SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";

/// A bill of materials.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    serial_number: Option<String>,
    version: u32,
    /// What it describes, and what wrote it.
    pub metadata: Metadata,
    /// Everything else, sorted by reference.
    pub components: Vec<Component>,
    /// What needs what, sorted by reference.
    pub dependencies: Vec<Dependency>,
    /// Whether all parts are listed.
    pub compositions: Vec<Composition>,
}

/// What a bill describes, and what wrote it. It has no time: the same release gives the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Metadata {
    /// The programs that wrote the bill.
    pub tools: Tools,
    /// What the bill is of.
    pub component: Component,
}

/// The programs that wrote a bill.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tools {
    /// The programs.
    pub components: Vec<Component>,
}

/// One thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component {
    /// What kind of thing.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its name in this bill.
    #[serde(rename = "bom-ref")]
    pub bom_ref: String,
    /// Who supplies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Organization>,
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it is, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Digests of its bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hashes: Vec<Hash>,
    /// Its terms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<License>,
    /// The package that it comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// Its parts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<Component>,
    /// What is known of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_card: Option<ModelCard>,
    /// What is known of data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<Data>,
    /// What the format has no member for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
}

/// The kind of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A program.
    Application,
    /// Inputs of a model.
    Data,
    /// A file.
    File,
    /// A library.
    Library,
    /// A model, or a graph of one.
    MachineLearningModel,
}

/// A supplier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Organization {
    /// Its name.
    pub name: String,
}

/// A digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hash {
    alg: &'static str,
    content: String,
}

/// Terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum License {
    /// An SPDX expression.
    Expression(String),
    /// Terms that have no SPDX identifier.
    License(NamedLicense),
}

/// Terms that have no SPDX identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedLicense {
    /// How their author calls them.
    pub name: String,
}

/// What is known of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelCard {
    /// What it takes and gives, and what it was made with.
    pub model_parameters: ModelParameters,
    /// What was measured.
    pub quantitative_analysis: QuantitativeAnalysis,
}

/// What a model takes and gives, and the data that took part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ModelParameters {
    /// The data.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datasets: Vec<DatasetReference>,
    /// Its inputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Tensor>,
    /// Its outputs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Tensor>,
}

/// The reference of a data component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DatasetReference {
    /// The reference.
    #[serde(rename = "ref")]
    pub to: String,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Tensor {
    /// Its graph, name and shapes.
    pub format: String,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuantitativeAnalysis {
    /// The values.
    pub performance_metrics: Vec<Metric>,
}

/// A measured value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// What was measured.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub value: String,
    /// Of what part.
    pub slice: String,
    /// Its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence_interval: Option<Bounds>,
}

/// A confidence interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Its lower end.
    pub lower_bound: String,
    /// Its upper end.
    pub upper_bound: String,
}

/// What is known of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Data {
    #[serde(rename = "type")]
    kind: &'static str,
    name: String,
    contents: DataContents,
    description: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct DataContents {
    properties: Vec<Property>,
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Property {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// What a component needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// Its reference.
    #[serde(rename = "ref")]
    pub of: String,
    /// The references of what it needs, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// Whether all parts of something are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Composition {
    /// The answer.
    pub aggregate: Aggregate,
    /// The reference of the whole.
    pub assemblies: Vec<String>,
}

/// Whether all parts are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    /// All are.
    Complete,
    /// Some are not.
    Incomplete,
}

impl Bom {
    /// Makes a bill, and gives it a serial number that follows from all that is in it.
    pub fn new(
        metadata: Metadata,
        components: Vec<Component>,
        dependencies: Vec<Dependency>,
        compositions: Vec<Composition>,
    ) -> Self {
        let mut bom = Self {
            schema: JSON_SCHEMA,
            bom_format: "CycloneDX",
            spec_version: SPEC_VERSION,
            serial_number: None,
            version: 1,
            metadata,
            components,
            dependencies,
            compositions,
        };
        bom.serial_number = Some(serial_number(&Sha256::of(bom.to_json().as_bytes())));
        bom
    }

    /// Returns the text of the file.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Component {
    /// Starts a component of which nothing else is known.
    pub fn new(kind: Kind, bom_ref: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            bom_ref: bom_ref.into(),
            supplier: None,
            name: name.into(),
            version: None,
            description: None,
            hashes: Vec::new(),
            licenses: Vec::new(),
            purl: None,
            components: Vec::new(),
            model_card: None,
            data: Vec::new(),
            properties: Vec::new(),
        }
    }

    /// Starts a file.
    pub fn file(bom_ref: String, path: &str, sha256: &Sha256) -> Self {
        Self { hashes: vec![Hash::from(sha256)], ..Self::new(Kind::File, bom_ref, path) }
    }
}

impl From<&Sha256> for Hash {
    fn from(digest: &Sha256) -> Self {
        Self { alg: "SHA-256", content: digest.to_hex() }
    }
}

impl Data {
    /// Makes what is known of a set of data.
    pub fn dataset(name: String, description: String, properties: Vec<Property>) -> Self {
        Self { kind: "dataset", name, contents: DataContents { properties }, description }
    }
}

impl Property {
    /// Makes a property of ours, whose name begins with `nimctl:`.
    pub fn new(name: &str, value: impl ToString) -> Self {
        Self { name: format!("nimctl:{name}"), value: value.to_string() }
    }
}

/// Returns a UUID of version 8, which is for values that follow from something.
fn serial_number(digest: &Sha256) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_a_uuid_that_follows_from_the_digest() {
        let zeros = serial_number(&Sha256::from_bytes([0; 32]));
        assert_eq!(zeros, "urn:uuid:00000000-0000-8000-8000-000000000000");
        let ones = serial_number(&Sha256::from_bytes([0xff; 32]));
        assert_eq!(ones, "urn:uuid:ffffffff-ffff-8fff-bfff-ffffffffffff");
    }

    #[test]
    fn licences_are_written_as_the_schema_wants() {
        let json = |license: License| serde_json::to_value(license).unwrap();
        let named = License::License(NamedLicense { name: "a licence".into() });
        assert_eq!(json(named), serde_json::json!({ "license": { "name": "a licence" } }));
        let expression = License::Expression("MIT OR Apache-2.0".into());
        assert_eq!(json(expression), serde_json::json!({ "expression": "MIT OR Apache-2.0" }));
    }
}
