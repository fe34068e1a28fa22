//! Compares a rebuilt profile with the released one: bytes first, and what they mean where they differ.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::error::{ReproduceError, io as io_error};
use super::renumbered::Renumbered;
use crate::digest::Sha256;
use crate::onnx::{OnnxFile, other_weight};
use crate::ops::assemble::AssembledProfile;
use crate::plan::{PlanHeader, TextComparison, compare_texts, read_texts};
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
    // What the id says beside the files must be the same, whatever became of them.
    if !of_id.is_empty() {
        verdict = Verdict::Different;
        findings.extend(of_id);
    }
    // It comes first: what is compiled from another graph is another plan.
    let lowered = lowered(made_from, rebuilt);
    if !lowered.is_empty() {
        verdict = Verdict::Different;
        findings.splice(0..0, lowered);
    }
    if verdict != Verdict::Identical {
        findings.extend(made_from.other_worker()?);
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

/// Returns the id of what was built, in the schema that the release has, and what differs in the contents and the id beside files.
fn id(made_from: &MadeFrom, rebuilt: &AssembledProfile) -> Result<(ProfileId, Vec<Finding>), ReproduceError> {
    let (recorded, now) = (&made_from.contents, &rebuilt.passport.contents);
    let contents = Contents {
        schema: recorded.schema.clone(),
        gpu_tags: recorded.gpu_tags.as_ref().and(now.gpu_tags.clone()),
        ..now.clone()
    };
    let id_of = |contents: &Contents| {
        let json = contents.to_canonical_json()?;
        ProfileId::of_tags(&contents.tags(&Sha256::of(json.as_bytes()))).map_err(|error| {
            io_error("cannot compute the id of the rebuilt profile")(io::Error::other(error))
        })
    };
    let id = id_of(&contents)?;
    let with_files_of_release = Contents { files: recorded.files.clone(), ..contents };
    let expected = id_of(&with_files_of_release)?;
    if expected == made_from.id {
        return Ok((id, Vec::new()));
    }
    let finding = |change| {
        let mut finding = Finding::of_change(Subject::Id, "", &change, "in the rebuild");
        finding.name = format!("contents: {}", change.field);
        finding.text = finding.text.replacen("graph ``: ", "contents.json: ", 1);
        finding
    };
    let mut findings: Vec<Finding> =
        changes_between(recorded, &with_files_of_release).into_iter().map(finding).collect();
    if findings.is_empty() {
        let text = format!(
            "the id is {} in the release, and {expected} follows from its contents: its tags say something else",
            made_from.id
        );
        findings.push(Finding::new(Subject::Id, "id", text));
    }
    Ok((id, findings))
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
        // A file of others may have weights that can't be compared.
        let Ok(weight) = other_weight(&released, &rebuilt) else { return self.bytes("") };
        match weight {
            Some(weight) => {
                let text = format!("{}: weight `{}` differs: {}", self.path, weight.name, weight.what);
                Ok(Same::Not(Finding::new(Subject::Weight, weight.name, text)))
            }
            None => self.bytes("; every weight is the same"),
        }
    }

    fn plan(&self) -> Result<Same, ReproduceError> {
        let read = |path: &Path| PlanHeader::read(path);
        let (old, new) =
            (read(self.released).map_err(self.failed())?, read(self.rebuilt).map_err(self.failed())?);
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
        let header = words(&old);
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
            TextComparison::Same => {
                self.beside(Renumbered { header, old, new, numbers: BTreeMap::new(), reordered: false })
            }
            TextComparison::SameButNumbering { numbers, reordered } => {
                self.beside(Renumbered { header, old, new, numbers, reordered })
            }
        }
    }

    /// Compares what is beside the texts of two plans.
    fn beside(&self, plans: Renumbered) -> Result<Same, ReproduceError> {
        match plans.compare(self.released, self.rebuilt).map_err(self.failed())? {
            Ok(compared) => Ok(Same::Meaning(compared)),
            Err(why) => self.bytes(&format!("; {why}")),
        }
    }
}

/// Returns the offset of the first byte in which two readers differ.
fn first_difference(a: impl Read, b: impl Read) -> io::Result<u64> {
    let (mut a, mut b) = (a, b);
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    let mut offset = 0;
    loop {
        of_a.clear();
        of_b.clear();
        (&mut a).take(CHUNK_BYTES as u64).read_to_end(&mut of_a)?;
        (&mut b).take(CHUNK_BYTES as u64).read_to_end(&mut of_b)?;
        let same = of_a.iter().zip(&of_b).take_while(|(a, b)| a == b).count();
        if same < of_a.len() || same < of_b.len() || of_a.is_empty() {
            return Ok(offset + same as u64);
        }
        offset += same as u64;
    }
}
