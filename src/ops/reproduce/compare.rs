//! Compares a rebuilt profile with the released one: bytes first, and what they mean where they differ.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use super::error::{ReproduceError, io as io_error};
use crate::digest::Sha256;
use crate::onnx::{OnnxFile, other_weight};
use crate::ops::assemble::AssembledProfile;
use crate::plan::{PlanHeader, PlanText, TextComparison, compare_texts, read_texts};
use crate::profile::{Contents, ContentsFile, ProfileId, capability_tag};
use crate::reproduction::{
    FileFacts, FileReproduction, Finding, MadeFrom, ProfileReproduction, Subject, Verdict,
};
use crate::worklist::changes_between;

/// The size of what is compared at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Compares a profile whose released files are in one folder and whose rebuilt files are in another.
pub(super) fn compare(
    made_from: &MadeFrom,
    released: &Path,
    rebuilt: &AssembledProfile,
    rebuilt_folder: &Path,
) -> Result<ProfileReproduction, ReproduceError> {
    let recorded = facts(&made_from.contents.files);
    let found = facts(&rebuilt.passport.contents.files);
    let mut files = Vec::new();
    let mut findings = Vec::new();
    let paths: std::collections::BTreeSet<&String> = recorded.keys().chain(found.keys()).collect();
    for path in paths {
        let (old, new) = (recorded.get(path).copied(), found.get(path).copied());
        let mut file = FileReproduction {
            path: path.clone(),
            verdict: Verdict::Different,
            recorded: old,
            rebuilt: new,
            compared: Vec::new(),
        };
        match (old, new) {
            (Some(old), Some(new)) if old == new => file.verdict = Verdict::Identical,
            (Some(old), Some(new)) => {
                let pair = Pair { path, released: &released.join(path), rebuilt: &rebuilt_folder.join(path) };
                let same = if made_from.contents.backend.ships_onnx() { pair.onnx()? } else { pair.plan()? };
                match same {
                    Same::Meaning(compared) => {
                        (file.verdict, file.compared) = (Verdict::Equivalent, compared)
                    }
                    Same::Not(mut finding) => {
                        finding.recorded.get_or_insert(old.sha256.to_string());
                        finding.found.get_or_insert(new.sha256.to_string());
                        findings.push(finding);
                    }
                }
            }
            (Some(_), None) => {
                findings.push(Finding::new(
                    Subject::File,
                    path,
                    format!("{path}: the rebuild has no such file"),
                ));
            }
            (None, _) => {
                findings.push(Finding::new(
                    Subject::File,
                    path,
                    format!("{path}: the release has no such file"),
                ));
            }
        }
        files.push(file);
    }
    let (rebuilt_id, of_id) = id(made_from, rebuilt)?;
    let mut verdict = files.iter().map(|file| file.verdict).max().unwrap_or(Verdict::Different);
    if verdict == Verdict::Identical && rebuilt_id != made_from.id {
        verdict = Verdict::Different;
        findings.extend(of_id);
    }
    if verdict != Verdict::Identical {
        findings.extend(made_from.other_worker()?);
    }
    if verdict == Verdict::Different {
        // It comes first: what is compiled from another graph is another plan.
        findings.splice(0..0, lowered(made_from, rebuilt));
    }
    Ok(ProfileReproduction {
        name: made_from.name.clone(),
        id: made_from.id.to_string(),
        rebuilt_id: Some(rebuilt_id),
        verdict,
        files,
        findings,
    })
}

fn facts(files: &[ContentsFile]) -> BTreeMap<String, FileFacts> {
    let one = |ContentsFile { path, sha256, size_bytes }: &ContentsFile| {
        (path.clone(), FileFacts { sha256: *sha256, size_bytes: *size_bytes })
    };
    files.iter().map(one).collect()
}

/// Returns the id of what was built, in the schema that the release has, and the fields in which its contents differ beside files.
fn id(made_from: &MadeFrom, rebuilt: &AssembledProfile) -> Result<(ProfileId, Vec<Finding>), ReproduceError> {
    let (recorded, now) = (&made_from.contents, &rebuilt.passport.contents);
    let contents = Contents {
        schema: recorded.schema.clone(),
        gpu_tags: recorded.gpu_tags.as_ref().and(now.gpu_tags.clone()),
        ..now.clone()
    };
    let json = contents.to_canonical_json()?;
    let id = ProfileId::of_tags(&contents.tags(&Sha256::of(json.as_bytes())))
        .map_err(|error| io_error("cannot compute the id of the rebuilt profile")(io::Error::other(error)))?;
    let finding = |change| {
        let mut finding = Finding::of_change(Subject::Id, "", &change, "in the rebuild");
        finding.name = format!("contents: {}", change.field);
        finding.text = finding.text.replacen("graph ``: ", "contents.json: ", 1);
        finding
    };
    Ok((id, changes_between(recorded, &contents).into_iter().map(finding).collect()))
}

/// Returns which lowered graphs are other ones, of a profile that was compiled from them.
fn lowered(made_from: &MadeFrom, rebuilt: &AssembledProfile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, graph) in &made_from.graphs {
        let Some(now) = rebuilt.passport.graphs.get(name).filter(|now| now.compilation.is_some()) else {
            continue;
        };
        for output in &graph.lowered {
            let other = now.lowering.outputs.iter().find(|other| other.path == output.path);
            let found = other.map(|other| other.sha256.to_string());
            if found.as_deref() != Some(&*output.sha256.to_string()) {
                findings.push(Finding {
                    recorded: Some(output.sha256.to_string()),
                    found,
                    ..Finding::new(
                        Subject::LoweredGraph,
                        format!("{name}/{}", output.path),
                        format!(
                            "graph `{name}`: the lowered graph that is compiled ({}) has other bytes",
                            output.path
                        ),
                    )
                });
            }
        }
    }
    findings
}

/// Whether two files of different bytes mean the same.
enum Same {
    /// They do, as far as this was compared.
    Meaning(Vec<String>),
    /// They don't, or that can't be known.
    Not(Finding),
}

/// A released and a rebuilt file of different bytes.
struct Pair<'a> {
    path: &'a str,
    released: &'a Path,
    rebuilt: &'a Path,
}

impl Pair<'_> {
    fn failed(&self) -> impl FnOnce(io::Error) -> ReproduceError {
        io_error(format!("cannot compare {}", self.path))
    }

    /// Says where the bytes differ first.
    fn bytes(&self, more: &str) -> Result<Same, ReproduceError> {
        let open = |path: &Path| fs_err::File::open(path);
        let first = open(self.released)
            .and_then(|released| first_difference(released, open(self.rebuilt)?))
            .map_err(self.failed())?;
        let size = |path: &Path| fs_err::metadata(path).map(|metadata| metadata.len());
        let (old, new) =
            (size(self.released).map_err(self.failed())?, size(self.rebuilt).map_err(self.failed())?);
        let text = format!(
            "{}: the bytes differ from offset {first} on ({old} bytes in the release, {new} in the rebuild){more}",
            self.path
        );
        Ok(Same::Not(Finding::new(Subject::File, self.path, text)))
    }

    fn onnx(&self) -> Result<Same, ReproduceError> {
        // The files beside a model are its external data.
        let (Ok(released), Ok(rebuilt)) = (OnnxFile::open(self.released), OnnxFile::open(self.rebuilt))
        else {
            return self.bytes("");
        };
        match other_weight(&released, &rebuilt)? {
            Some(weight) => {
                let text = format!("{}: weight `{}` differs: {}", self.path, weight.name, weight.what);
                Ok(Same::Not(Finding::new(Subject::Weight, weight.name, text)))
            }
            None => self.bytes("; every weight is the same"),
        }
    }

    fn plan(&self) -> Result<Same, ReproduceError> {
        let header = |path: &Path| PlanHeader::read(path);
        let (old, new) =
            (header(self.released).map_err(self.failed())?, header(self.rebuilt).map_err(self.failed())?);
        let (Some(old), Some(new)) = (old, new) else {
            return self.bytes("; it has no header that nimctl reads");
        };
        let words = |header: &PlanHeader| {
            let PlanHeader { builder_version, compute_capabilities, unknown_target_bits } = header;
            let targets = capability_tag(compute_capabilities);
            match unknown_target_bits {
                0 => format!("version {builder_version} for {targets}"),
                bits => format!("version {builder_version} for {targets} and unknown targets {bits:#x}"),
            }
        };
        if old != new {
            let text =
                format!("{}: the header says {}, and {} in the rebuild", self.path, words(&old), words(&new));
            return Ok(Same::Not(Finding::new(Subject::File, self.path, text)));
        }
        let header_of_both = words(&old);
        let texts = |path: &Path| read_texts(path);
        let (old, new) =
            (texts(self.released).map_err(self.failed())?, texts(self.rebuilt).map_err(self.failed())?);
        match compare_texts(&old, &new) {
            TextComparison::Different { text, line, old, new } => {
                let what = format!(
                    "{}: the text of its layers differs (text {text}, line {line}): `{old}` in the release, `{new}` in the rebuild",
                    self.path
                );
                Ok(Same::Not(Finding {
                    recorded: Some(old),
                    found: Some(new),
                    ..Finding::new(Subject::File, self.path, what)
                }))
            }
            TextComparison::NoText => self.bytes("; it has no text of its layers that nimctl reads"),
            TextComparison::Same => self.bytes("; the text of its layers is the same"),
            TextComparison::SameButNumbering => self.numbered(&header_of_both, &old, &new),
        }
    }

    /// Two plans of the same header, whose texts differ in the compiler's numbering alone. They are equivalent if nothing differs beside
    /// the texts: the compiled code is there, and the weights.
    fn numbered(&self, header: &str, old: &[PlanText], new: &[PlanText]) -> Result<Same, ReproduceError> {
        let size = |path: &Path| fs_err::metadata(path).map(|metadata| metadata.len());
        let sizes = (size(self.released).map_err(self.failed())?, size(self.rebuilt).map_err(self.failed())?);
        let places = |texts: &[PlanText]| -> Vec<Range<u64>> {
            texts.iter().map(|text| text.offset..text.offset + text.size_bytes).collect()
        };
        let texts = "the text of its layers is the same but for the numbering of the compiler's own values";
        if sizes.0 != sizes.1 || places(old) != places(new) {
            return self.bytes(&format!("; {texts}"));
        }
        let places = places(old);
        let beside = sizes.0 - places.iter().map(|place| place.end - place.start).sum::<u64>();
        let open = |path: &Path| fs_err::File::open(path);
        let others = open(self.released)
            .and_then(|released| differences_beside(released, open(self.rebuilt)?, &places))
            .map_err(self.failed())?;
        match others {
            None => Ok(Same::Meaning(vec![
                format!("{texts} ({} texts)", places.len()),
                format!(
                    "all {beside} bytes beside the texts are the same: compiled code, tables and weights"
                ),
                format!("the header is the same: {header}"),
            ])),
            Some((first, count)) => {
                let text = format!(
                    "{}: {texts}, but {count} of {beside} bytes beside the texts differ, the first at offset {first}",
                    self.path
                );
                Ok(Same::Not(Finding::new(Subject::File, self.path, text)))
            }
        }
    }
}

/// Returns the offset of the first byte in which two readers of the same size differ outside of some places, and how many there are.
fn differences_beside(a: impl Read, b: impl Read, places: &[Range<u64>]) -> io::Result<Option<(u64, u64)>> {
    let (mut a, mut b) = (a, b);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let (mut offset, mut first, mut count) = (0, None, 0);
    loop {
        (of_a.clear(), of_b.clear());
        (&mut a).take(CHUNK_BYTES as u64).read_to_end(&mut of_a)?;
        (&mut b).take(CHUNK_BYTES as u64).read_to_end(&mut of_b)?;
        if of_a.is_empty() {
            return Ok(first.map(|first| (first, count)));
        }
        for (at, _) in (offset..).zip(of_a.iter().zip(&of_b)).filter(|(_, (a, b))| a != b) {
            if !places.iter().any(|place| place.contains(&at)) {
                first.get_or_insert(at);
                count += 1;
            }
        }
        offset += of_a.len() as u64;
    }
}

/// Returns the offset of the first byte in which two readers differ.
fn first_difference(a: impl Read, b: impl Read) -> io::Result<u64> {
    let (mut a, mut b) = (a, b);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut offset = 0;
    loop {
        (of_a.clear(), of_b.clear());
        (&mut a).take(CHUNK_BYTES as u64).read_to_end(&mut of_a)?;
        (&mut b).take(CHUNK_BYTES as u64).read_to_end(&mut of_b)?;
        let same = of_a.iter().zip(&of_b).take_while(|(a, b)| a == b).count();
        if same < of_a.len() || same < of_b.len() || of_a.is_empty() {
            return Ok(offset + same as u64);
        }
        offset += same as u64;
    }
}
