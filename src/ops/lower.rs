//! `lower`: one graph to another precision, without recipe, store or backend.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use regex::Regex;

use crate::backend::facts_of;
use crate::error_kind::ErrorKind;
use crate::files::atomic_file;
use crate::files::destination::{self, BadDestination};
use crate::machine::memory;
use crate::onnx::{
    Io, LoweringOptions, LoweringReport, OnnxError, OnnxFile, Precision, Raised, WrittenFile, analysis, lower,
};
use crate::ops::lowering_warnings::lowering_warnings;

/// What to lower, as a user says it.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// The precision to lower to.
    pub precision: Precision,
    /// The operator set of ONNX's own domain to raise the model to before it is lowered.
    pub opset: Option<i64>,
    /// Operators whose nodes stay in FP32.
    pub keep_ops: Vec<String>,
    /// Which nodes stay in FP32.
    pub keep_nodes: Vec<NodePattern>,
    /// Operators that are lowered although they sum up many values.
    pub lower_ops: Vec<String>,
    /// The backend that the graph is for.
    pub target: String,
    /// Write an FP32 graph that computes what the lowered one would.
    pub emulate: bool,
    /// Whether the graph's inputs and outputs stay in FP32.
    pub io: Io,
}

/// A regular expression over whole names of nodes. A node without a name goes by that of its first output.
#[derive(Clone, Debug)]
pub struct NodePattern {
    text: String,
    whole: Regex,
}

impl FromStr for NodePattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, regex::Error> {
        // Alone first, so that a message shows what the user wrote.
        Regex::new(text)?;
        Ok(Self { text: text.into(), whole: Regex::new(&format!(r"\A(?:{text})\z"))? })
    }
}

impl NodePattern {
    /// Returns the expression as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub struct LowerOutcome {
    /// How the operator set was raised, if that was asked for.
    pub raised: Option<Raised>,
    /// What the lowering did, or would do.
    pub report: LoweringReport,
    /// The files written, relative to the destination's folder; none in a dry run.
    pub files: Vec<WrittenFile>,
    /// What should be kept but is not in the graph.
    pub unmatched: Vec<Unmatched>,
    /// What else keeps a part of the graph in FP32 and could be changed, in words.
    pub warnings: Vec<String>,
    /// How long all of it took.
    pub elapsed: Duration,
    /// The largest resident size of this process, pages of mapped files included, on systems that report it.
    pub peak_memory_bytes: Option<u64>,
}

/// Something to keep that the graph doesn't have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// No node has a name that matches.
    Pattern(String),
    /// No node is of this operator.
    Operator(String),
}

/// Why lowering failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "fields are named in the message of their variant")]
pub enum LowerError {
    /// The graph can't be read, lowered or written.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The destination is a file of the source, or no file.
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// The destination's folder does not exist.
    #[error("cannot write {} to {}: the folder does not exist; create it first", name.display(), folder.display())]
    NoFolder { folder: PathBuf, name: PathBuf },
}

impl LowerError {
    /// Returns what the error means to the person who runs the program.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Onnx(error) => error.kind(),
            Self::Destination(_) | Self::NoFolder { .. } => ErrorKind::Input,
        }
    }
}

/// Lowers the graph at `source` and writes it to `destination`, whole or not at all.
///
/// # Errors
/// The graph is malformed, or it cannot be written to the destination: see [`LowerError`].
pub fn lower_to(
    source: &Path,
    destination: &Path,
    options: &LowerOptions,
) -> Result<LowerOutcome, LowerError> {
    #[expect(clippy::disallowed_methods, reason = "the lowering is timed")]
    let start = Instant::now();
    let (file, raised) = opened(source, options)?;
    let destination = &check_destination(&file, destination)?;
    let options = exact(&file, options);
    let write = if options.emulate { lower::emulate } else { lower::lower };
    let lower::Lowered { files, report } = write(&file, &options.lowering, destination)?;
    Ok(LowerOutcome { raised, ..outcome(report, files, options, start) })
}

/// Returns what [`lower_to`] would do, and writes nothing.
///
/// # Errors
/// The graph is malformed, or cannot be written to the destination.
pub fn report(
    source: &Path,
    destination: Option<&Path>,
    options: &LowerOptions,
) -> Result<LowerOutcome, LowerError> {
    #[expect(clippy::disallowed_methods, reason = "the lowering is timed")]
    let start = Instant::now();
    let (file, raised) = opened(source, options)?;
    if let Some(destination) = destination {
        check_destination(&file, destination)?;
    }
    let options = exact(&file, options);
    let report = lower::report(&file, &options.lowering)?;
    Ok(LowerOutcome { raised, ..outcome(report, Vec::new(), options, start) })
}

fn opened(source: &Path, options: &LowerOptions) -> Result<(OnnxFile, Option<Raised>), OnnxError> {
    let file = OnnxFile::open(source)?;
    let Some(opset) = options.opset else { return Ok((file, None)) };
    file.raised(opset).map(|(file, raised)| (file, Some(raised)))
}

/// The options with names in place of patterns.
struct Exact {
    lowering: LoweringOptions,
    emulate: bool,
    unmatched: Vec<Unmatched>,
}

fn exact(file: &OnnxFile, options: &LowerOptions) -> Exact {
    let LowerOptions { precision, opset: _, keep_ops, keep_nodes: patterns, lower_ops, target, emulate, io } =
        options;
    let nodes = analysis::nodes(file.graph());
    let mut unmatched = Vec::new();
    let mut keep_nodes = Vec::new();
    for pattern in patterns {
        let before = keep_nodes.len();
        let names = nodes.iter().map(|node| analysis::label(node));
        keep_nodes.extend(names.filter(|name| pattern.whole.is_match(name)));
        if keep_nodes.len() == before {
            unmatched.push(Unmatched::Pattern(pattern.text.clone()));
        }
    }
    let absent = keep_ops.iter().filter(|op| !nodes.iter().any(|node| node.op_type() == op.as_str()));
    unmatched.extend(absent.cloned().map(Unmatched::Operator));
    keep_nodes.sort_unstable();
    keep_nodes.dedup();
    let lowering = LoweringOptions {
        precision: *precision,
        keep_ops: keep_ops.clone(),
        keep_nodes: keep_nodes.into_iter().map(Into::into).collect(),
        lower_ops: lower_ops.clone(),
        fp32_inside: facts_of(target).fp32_inside.iter().copied().collect(),
        io: *io,
        quantization: None,
    };
    Exact { lowering, emulate: *emulate, unmatched }
}

fn outcome(report: LoweringReport, files: Vec<WrittenFile>, options: Exact, start: Instant) -> LowerOutcome {
    let Exact { lowering: _, emulate: _, unmatched } = options;
    let (elapsed, peak_memory_bytes) = (start.elapsed(), memory::own_peak_bytes());
    let warnings = lowering_warnings(&report);
    LowerOutcome { raised: None, report, files, unmatched, warnings, elapsed, peak_memory_bytes }
}

/// Returns the file that is written: a link's data belongs beside what the link leads to.
pub(super) fn check_destination(file: &OnnxFile, destination: &Path) -> Result<PathBuf, LowerError> {
    let beside_source = file.path().parent().unwrap_or(Path::new(""));
    let external = file.external_files().iter().map(|path| beside_source.join(path));
    let read: Vec<PathBuf> = std::iter::once(file.path().to_owned()).chain(external).collect();
    let inputs = || read.iter().map(PathBuf::as_path);
    destination::check(destination, inputs())?;
    let real = atomic_file::destination(destination).map_err(OnnxError::io("write", destination))?;
    let folder = real.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let name = real.file_name().unwrap_or_default().into();
        return Err(LowerError::NoFolder { folder: folder.into(), name });
    }
    // A large graph's weights go to a file beside it, which must not be the source's own.
    let mut data = real.as_os_str().to_owned();
    data.push(".data");
    destination::check(Path::new(&data), inputs())?;
    Ok(real)
}

#[cfg(test)]
mod tests {
    use super::NodePattern;

    #[track_caller]
    fn check(pattern: &str, name: &str, matches: bool) {
        let pattern: NodePattern = pattern.parse().unwrap();
        assert_eq!(pattern.whole.is_match(name), matches, "{} on {name}", pattern.as_str());
    }

    #[test]
    fn patterns_match_whole_names() {
        check("/blocks/3/.*", "/blocks/3/attn/MatMul", true);
        check("MatMul", "MatMul_1", false);
        check("MatMul", "x/MatMul", false);
        check("a|ab", "ab", true);
        check("a|b", "ab", false);
        check("a", "a\n", false);
        check("", "", true);
    }

    #[test]
    fn a_message_shows_what_was_written() {
        let message = "a)(?:b".parse::<NodePattern>().unwrap_err().to_string();
        assert!(message.contains("    a)(?:b\n     ^\n"), "{message}");
    }
}
