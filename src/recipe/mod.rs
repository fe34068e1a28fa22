//! Recipes: hand-written YAML that names a model and the profiles wanted of it.
//!
//! [`Recipe::parse`] turns the text into checked types once; everything later relies on what is checked there. What a
//! recipe alone can't show (does the graph have that input?) is checked against the graph by [`Recipe::check_graph`].

mod error;
mod graph_check;
mod only;
pub mod proposal;
mod quantized;
mod references;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_saphyr::{Location, Spanned};

pub use error::{RecipeError, RecipeProblem};
pub use graph_check::GraphMismatch;
pub(crate) use graph_check::OneNameTwoRanges;
pub use only::Only;
pub use references::{GraphNames, UnknownName};

use crate::backend::{Backend, Builds};
use crate::canonical::MAX_SAFE_INTEGER;
use crate::compute_capability::ComputeCapability;
use crate::gpu;
use crate::mixed_precision::{Calibrate, MixedPrecision, Search};
use crate::onnx::{Io, LoweringOptions, Precision};
use crate::profile::{
    CONTENTS_FILE, Contents, ModelRelease, ProfilePrecision, ProfileSpec, Target, capability_tag,
    largest_batch,
};
use crate::release::{PASSPORT_FILE, SAMPLES_FILE};
use crate::samples::Sample;
use crate::shape_range::ShapeRange;
use crate::source::Source;
use crate::stored_format::{self, NewerSchema};
use crate::validation::{DemandProblem, Demands};
use crate::yaml::words;

/// The longest name: files of the store are called after it, and file systems stop at 255. OCI's limit for tags.
pub(crate) const MAX_NAME_CHARS: usize = 128;
/// Files of a profile beside the folders of its graphs.
pub(crate) const NOT_FOR_GRAPHS: [&str; 3] = [CONTENTS_FILE, PASSPORT_FILE, SAMPLES_FILE];
/// The largest workspace: its bytes are a number that every JSON reader keeps exactly (53 bits).
const MAX_WORKSPACE_MIB: u64 = MAX_SAFE_INTEGER >> 20;

/// A checked recipe.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The file, as the user named it.
    pub path: String,
    /// The model and its release.
    pub model: ModelRelease,
    /// Its graphs by name, at least one.
    pub graphs: BTreeMap<String, RecipeGraph>,
    /// The profiles, in the recipe's order, with the matrix written out; their names are unique.
    pub profiles: Vec<ProfileSpec>,
    /// What is demanded of their numbers.
    pub validation: Demands,
    /// The recipe as it was read, to find lines in.
    text: Arc<str>,
}

/// One graph of a recipe.
#[derive(Clone, Debug)]
pub struct RecipeGraph {
    /// Where its ONNX comes from.
    pub source: Source,
    /// Line of the recipe with the source.
    pub source_line: u64,
    /// Shape ranges by input; each is in order.
    pub shapes: BTreeMap<String, ShapeRange>,
    /// Line of each shape range.
    pub shape_lines: BTreeMap<String, u64>,
    /// Where the values of inputs come from that the graph is run on.
    pub samples: BTreeMap<String, Sample>,
    /// Where those come from that quantization measures on; empty where nothing is quantized.
    pub calibration: BTreeMap<String, Sample>,
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// The first problem, with its line and column in `path` (which is only named, not read).
    pub fn parse(text: &str, path: &str) -> Result<Self, RecipeError> {
        refuse_newer(text, path)?;
        let raw: schema::Recipe =
            serde_saphyr::from_str(text).map_err(|error| syntax_error(&error, text, path))?;
        let schema::Recipe { schema, model, graphs, profiles, validation } = raw;
        if schema.value != schema::RECIPE_SCHEMA {
            return Err(RecipeProblem::Schema { found: schema.value.clone() }.at_value(path, &schema));
        }
        let schema::Model { name, release } = model;
        for (what, name) in [("model name", &name), ("model release", &release)] {
            check_name(what, &name.value).map_err(|problem| problem.at_value(path, name))?;
        }
        if graphs.value.is_empty() {
            return Err(RecipeProblem::Empty { what: "`graphs`" }.at_value(path, &graphs));
        }
        let graphs = graphs
            .value
            .into_iter()
            .map(|(name, graph)| Ok((name.clone(), check_graph(path, &name, graph)?)))
            .collect::<Result<BTreeMap<_, _>, RecipeError>>()?;
        if profiles.value.is_empty() {
            return Err(RecipeProblem::Empty { what: "`profiles`" }.at_value(path, &profiles));
        }
        let mut specs = Vec::new();
        for group in profiles.value {
            expand_group(path, group, &mut specs)?;
        }
        quantized::check_calibration(path, &graphs, &specs)?;
        let at = validation.as_ref().map(|demands| demands.referenced);
        let recipe = Self {
            path: path.into(),
            validation: validation.map(|demands| demands.value).unwrap_or_default(),
            model: ModelRelease { name: name.value, release: release.value },
            graphs,
            profiles: specs,
            text: text.into(),
        };
        recipe.check_own_names()?;
        recipe.validation.check().map_err(|DemandProblem { path: keys, name, message }| {
            let error = RecipeProblem::Validation(message).at(path, at.unwrap_or(Location::UNKNOWN));
            let keys: Vec<&str> = std::iter::once("validation").chain(keys).collect();
            RecipeError { position: recipe.position(&keys, &name).or(error.position), ..error }
        })?;
        Ok(recipe)
    }

    /// Makes what is known of the recipe that a profile was built from: the model, its graphs and their shapes. It has no profiles,
    /// samples or demands; `name` stands for its file.
    pub fn of_contents(contents: &Contents, name: &str) -> Self {
        let graph = |graph: &String| RecipeGraph {
            source: Source::Path(graph.clone()),
            source_line: 0,
            shapes: contents.shape_ranges.get(graph).cloned().unwrap_or_default(),
            shape_lines: BTreeMap::new(),
            samples: BTreeMap::new(),
            calibration: BTreeMap::new(),
        };
        Self {
            path: name.into(),
            model: contents.model.clone(),
            graphs: contents.graphs.keys().map(|name| (name.clone(), graph(name))).collect(),
            profiles: Vec::new(),
            validation: Demands::default(),
            text: "".into(),
        }
    }

    /// Returns what is demanded of the numbers of a profile.
    pub fn demands_of(&self, profile: &str) -> Demands {
        match self.profiles.iter().find(|spec| spec.name() == profile) {
            Some(spec) => {
                let gate = spec.quantization.map(|demands| demands.gate.min_row_cosine);
                self.validation.for_precision(spec.precision(), gate)
            }
            None => self.validation.clone(),
        }
    }

    /// Returns the JSON Schema of recipes.
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(schema::Recipe)
    }

    /// Returns the shape ranges of every graph that has some.
    pub fn shape_ranges(&self) -> BTreeMap<String, BTreeMap<String, ShapeRange>> {
        self.graphs
            .iter()
            .filter(|(_, graph)| !graph.shapes.is_empty())
            .map(|(name, graph)| (name.clone(), graph.shapes.clone()))
            .collect()
    }

    /// Returns the max batch size: the value of the tag `batch_size`.
    pub fn batch_size(&self) -> Option<i64> {
        largest_batch(&self.shape_ranges())
    }
}

/// Looks at the schema before anything else: a newer recipe may have anything else. The reader reports what is not YAML.
fn refuse_newer(text: &str, path: &str) -> Result<(), RecipeError> {
    match serde_saphyr::from_str(text) {
        Ok(schema::Head { schema: Some(schema) })
            if stored_format::is_newer(&schema.value, schema::RECIPE_SCHEMA) =>
        {
            let newer = NewerSchema { found: schema.value.clone(), known: schema::RECIPE_SCHEMA.into() };
            Err(RecipeProblem::from(newer).at_value(path, &schema))
        }
        _ => Ok(()),
    }
}

fn syntax_error(error: &serde_saphyr::Error, text: &str, path: &str) -> RecipeError {
    let (location, problem) = words::explain(error, text);
    RecipeProblem::Syntax(problem).at(path, location)
}

/// Checks a name that files and tags are called after.
fn check_name(what: &'static str, name: &str) -> Result<(), RecipeProblem> {
    let length = name.chars().count();
    if !is_plain_name(name) {
        return Err(RecipeProblem::Name { what, name: name.into() });
    }
    if length > MAX_NAME_CHARS {
        return Err(RecipeProblem::LongName { what, length });
    }
    Ok(())
}

/// Returns whether something may be called this: a graph, say, which folders are called after.
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

fn check_graph(path: &str, name: &str, graph: schema::Graph) -> Result<RecipeGraph, RecipeError> {
    let schema::Graph { source, shapes, samples, calibration } = graph;
    check_name("graph name", name).map_err(|problem| problem.at_value(path, &source))?;
    if NOT_FOR_GRAPHS.contains(&name) {
        return Err(RecipeProblem::NotForGraphs { name: name.into() }.at_value(path, &source));
    }
    for (input, range) in &shapes {
        range.value.check().map_err(|problem| {
            RecipeProblem::ShapeRange { graph: name.into(), input: input.clone(), problem }
                .at_value(path, range)
        })?;
    }
    let shape_lines = shapes.iter().map(|(input, range)| (input.clone(), range.referenced.line())).collect();
    let source_line = source.referenced.line();
    let shapes = shapes.into_iter().map(|(input, range)| (input, range.value)).collect();
    Ok(RecipeGraph { source: source.value, source_line, shapes, shape_lines, samples, calibration })
}

/// Writes out one group's matrix of targets and precisions.
fn expand_group(
    path: &str,
    group: Spanned<schema::ProfileGroup>,
    specs: &mut Vec<ProfileSpec>,
) -> Result<(), RecipeError> {
    let schema::ProfileGroup {
        backend: backend_name,
        precisions,
        targets,
        lowering,
        quantize,
        workspace_mib,
    } = group.value;
    if workspace_mib.is_some_and(|mib| mib > MAX_WORKSPACE_MIB) {
        let location = backend_name.referenced;
        return Err(RecipeProblem::Workspace { mib: workspace_mib.unwrap_or_default() }.at(path, location));
    }
    let backend = Backend::new(&backend_name.value)
        .map_err(|error| RecipeProblem::from(error).at_value(path, &backend_name))?;
    if precisions.value.is_empty() {
        return Err(RecipeProblem::Empty { what: "`precisions`" }.at_value(path, &precisions));
    }
    let schema::Lowering { io, keep_ops, keep_nodes, lower_ops, calibrate, search } = lowering;
    check_gates(path, calibrate.as_ref(), search.as_ref())?;
    let mixed_precision = MixedPrecision {
        calibrate: calibrate.map(|calibrate| calibrate.value),
        search: search.map(|search| search.value),
    };
    quantized::check(path, quantize.as_ref(), &precisions, !mixed_precision.is_empty())?;
    let lists = [&keep_ops, &keep_nodes, &lower_ops];
    let asks_something =
        io != Io::Keep || lists.iter().any(|list| !list.is_empty()) || !mixed_precision.is_empty();
    let inside = backend.facts().fp32_inside;
    for (target, location) in check_targets(path, &backend, targets)? {
        for precision in precisions.value.iter().copied() {
            if precision == ProfilePrecision::FP32 && asks_something {
                return Err(RecipeProblem::LoweringOfFp32(Precision::Fp32).at_value(path, &precisions));
            }
            let (quantization, demands) = match precision.quantized() {
                None => (None, None),
                Some(precision) => {
                    let (quantization, demands) =
                        quantized::of_precision(precision, quantize.as_ref(), &backend, &target)
                            .map_err(|problem| problem.at_value(path, &precisions))?;
                    quantized::check_target(&backend, &target, &quantization)
                        .map_err(|problem| problem.at(path, location))?;
                    (Some(Box::new(quantization)), Some(demands))
                }
            };
            let precision = match (precision, &quantization) {
                (ProfilePrecision::Float(precision), _) => precision,
                (ProfilePrecision::Quantized(_), quantization) => {
                    quantization.as_ref().map_or(Precision::Fp16, |quantization| quantization.options.base)
                }
            };
            let spec = ProfileSpec {
                backend: backend.clone(),
                target: target.clone(),
                lowering: LoweringOptions {
                    precision,
                    io,
                    keep_ops: keep_ops.clone(),
                    keep_nodes: keep_nodes.clone(),
                    lower_ops: lower_ops.clone(),
                    // The graph as it is is the same for all.
                    fp32_inside: if precision == Precision::Fp32 {
                        BTreeSet::new()
                    } else {
                        inside.iter().copied().collect()
                    },
                    quantization,
                },
                mixed_precision,
                quantization: demands,
                workspace_mib,
                line: location.line(),
            };
            if let Some(first) = specs.iter().find(|other| other.name() == spec.name()) {
                return Err(
                    RecipeProblem::EqualTags { name: spec.name(), first_line: first.line }.at(path, location)
                );
            }
            specs.push(spec);
        }
    }
    Ok(())
}

/// Checks what a search must reach, and what calibration allows.
fn check_gates(
    path: &str,
    calibrate: Option<&Spanned<Calibrate>>,
    search: Option<&Spanned<Search>>,
) -> Result<(), RecipeError> {
    if let Some(calibrate) = calibrate
        && !(calibrate.value.headroom >= 1.0 && calibrate.value.headroom.is_finite())
    {
        let problem = RecipeProblem::Headroom { headroom: calibrate.value.headroom };
        return Err(problem.at_value(path, calibrate));
    }
    match search {
        Some(search) if !(search.value.min_row_cosine > 0.0 && search.value.min_row_cosine < 1.0) => {
            let problem = RecipeProblem::Gate { min_row_cosine: search.value.min_row_cosine };
            Err(problem.at_value(path, search))
        }
        _ => Ok(()),
    }
}

fn check_targets(
    path: &str,
    backend: &Backend,
    targets: Spanned<schema::Targets>,
) -> Result<Vec<(Target, Location)>, RecipeError> {
    let location = targets.referenced;
    let empty = |what| Err(RecipeProblem::Empty { what }.at(path, location));
    if backend.ships_onnx() && !matches!(targets.value, schema::Targets::Generic) {
        return Err(RecipeProblem::TargetedOnnx.at(path, location));
    }
    match targets.value {
        schema::Targets::Generic if backend.ships_onnx() => Ok(vec![(Target::Generic, location)]),
        schema::Targets::Generic => {
            Err(RecipeProblem::GenericPlan { backend: backend.clone() }.at(path, location))
        }
        schema::Targets::Gpus(names) if names.is_empty() => empty("`gpus`"),
        schema::Targets::Gpus(names) => names
            .iter()
            .map(|name| {
                let gpu = gpu::find(&name.value)
                    .map_err(|error| RecipeProblem::from(error).at_value(path, name))?;
                check_supported(
                    backend,
                    &format!("{} (compute capability {})", gpu.name, gpu.compute_capability),
                    gpu.compute_capability,
                )
                .map_err(|problem| problem.at_value(path, name))?;
                let target =
                    Target::Gpu { name: gpu.name.clone(), compute_capability: gpu.compute_capability };
                Ok((target, name.referenced))
            })
            .collect(),
        schema::Targets::ComputeCapabilities(texts) if texts.is_empty() => empty("`compute_capabilities`"),
        schema::Targets::ComputeCapabilities(texts) => texts
            .iter()
            .map(|text| {
                Ok((
                    Target::ComputeCapabilities(vec![check_capability(path, backend, text)?]),
                    text.referenced,
                ))
            })
            .collect(),
        schema::Targets::Portable(texts) if texts.is_empty() => empty("`portable`"),
        schema::Targets::Portable(_) if backend.facts().builds == Builds::OnTheDevice => {
            Err(RecipeProblem::NoPortablePlans { backend: backend.clone() }.at(path, location))
        }
        schema::Targets::Portable(texts) => {
            let mut capabilities = texts
                .iter()
                .map(|text| check_capability(path, backend, text))
                .collect::<Result<Vec<_>, _>>()?;
            capabilities.sort_unstable();
            capabilities.dedup();
            Ok(vec![(Target::ComputeCapabilities(capabilities), location)])
        }
    }
}

fn check_capability(
    path: &str,
    backend: &Backend,
    text: &Spanned<String>,
) -> Result<ComputeCapability, RecipeError> {
    let capability: ComputeCapability =
        text.value.parse().map_err(|error| RecipeProblem::from(error).at_value(path, text))?;
    check_supported(backend, &format!("compute capability {capability}"), capability)
        .map_err(|problem| problem.at_value(path, text))?;
    Ok(capability)
}

fn check_supported(
    backend: &Backend,
    target: &str,
    capability: ComputeCapability,
) -> Result<(), RecipeProblem> {
    match backend.facts().builds {
        Builds::AheadOfTime(known) if !known.contains(&capability) => Err(RecipeProblem::UnsupportedTarget {
            backend: backend.clone(),
            target: target.into(),
            can: capability_tag(known).replace('+', ", "),
            instead: Backend::on_the_device(),
        }),
        _ => Ok(()),
    }
}
