//! Writes installed tools to a tar, for machines without pip.

use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::Path;

use super::hashed_copy::{CopyCount, CopyError, Expected, hashed_copy};
use super::install::{Found, look};
use super::record::Record;
use super::tar_contents::{LIST_NAME, TarContents, name_in_tar};
use super::{Places, Stage, Tool, ToolchainError, Watch};
use crate::digest::Sha256;
use crate::files::atomic_file;

/// A tool that was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedTool {
    /// Which.
    pub tool: Tool,
    /// In which version.
    pub version: String,
    /// The number of its files.
    pub files: usize,
    /// Their size.
    pub size_bytes: u64,
}

/// A tar that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// What it holds.
    pub tools: Vec<ExportedTool>,
    /// The digest of the tar.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
}

/// Writes the pinned versions of tools to a tar, with their digests. Each file is compared with its digest on the way; the same
/// tools are always the same bytes.
///
/// # Errors
/// A tool that is not installed, or whose files were changed; a destination that can't be written. Whatever happens, the destination
/// is whole or what it was.
pub fn export(
    tools: &[Tool],
    places: &Places,
    destination: &Path,
    watch: &mut Watch<'_>,
) -> Result<Export, ToolchainError> {
    let mut tools = tools.to_vec();
    tools.sort();
    tools.dedup();
    let mut records = Vec::new();
    let mut installed = Vec::new();
    for tool in tools {
        let pin = places.lock.pin(tool, &places.host)?;
        let folder = places.tool_folder(tool).join(pin.folder_name());
        match look(tool, &pin, &folder) {
            Found::Whole(files) => installed.push((tool, folder, files)),
            Found::Nothing => return Err(ToolchainError::NothingToExport { tool }),
            Found::Damaged { reason } => return Err(ToolchainError::Damaged { tool, folder, reason }),
            Found::Newer(newer) => return Err(newer.into()),
        }
        records.push(Record::of_pin(tool, &pin));
    }
    let exported = records
        .iter()
        .map(|record| ExportedTool {
            tool: record.name,
            version: record.version.clone(),
            files: record.files.len(),
            size_bytes: record.files.iter().map(|file| file.size_bytes).sum(),
        })
        .collect::<Vec<_>>();
    let total_bytes = Some(exported.iter().map(|tool| tool.size_bytes).sum());
    let mut count = CopyCount { stage: Stage::Packing, done_bytes: 0, total_bytes };

    let destination = &atomic_file::destination(destination)
        .map_err(|source| ToolchainError::Io { doing: "write the tar".into(), source })?;
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let writing = |error| ToolchainError::writing(format!("write {}", destination.display()), parent, error);
    let mut new = atomic_file::temporary_in(parent).map_err(writing)?;
    let mut tar = Tar::new(&mut new);
    let list = serde_json::to_vec_pretty(&TarContents::new(&places.host, records))
        .map_err(|error| writing(io::Error::other(error)))?;
    tar.begin(LIST_NAME, list.len() as u64).map_err(writing)?;
    tar.out.write_all(&list).map_err(writing)?;
    tar.finish_file(list.len() as u64).map_err(writing)?;
    for (tool, folder, files) in installed {
        for file in files {
            let damaged = |reason| ToolchainError::Damaged { tool, folder: folder.clone(), reason };
            let expected = Expected { sha256: file.sha256, size_bytes: file.size_bytes };
            let mut from = fs_err::File::open(&file.path).map_err(|error| damaged(error.to_string()))?;
            tar.begin(&name_in_tar(tool, &file.name), file.size_bytes).map_err(writing)?;
            let copied = hashed_copy(&mut from, &mut tar.out, Some(file.size_bytes), &mut count, watch);
            let got = copied.map_err(|error| match error {
                CopyError::Read(error) => damaged(error.to_string()),
                CopyError::Write(error) => writing(error),
                CopyError::TooLong => {
                    damaged(format!("{} has more than {} bytes", file.name, file.size_bytes))
                }
                CopyError::Cancelled => ToolchainError::Cancelled { doing: format!("packing {tool}") },
            })?;
            if got != expected {
                return Err(damaged(format!("{} is {}, not {}", file.name, got.sha256, expected.sha256)));
            }
            tar.finish_file(file.size_bytes).map_err(writing)?;
        }
    }
    tar.finish().map_err(writing)?;
    let (sha256, size_bytes) = Sha256::of_file(new.path())
        .map_err(|source| ToolchainError::Io { doing: "read the tar back".into(), source })?;
    atomic_file::persist(new, destination).map_err(writing)?;
    Ok(Export { tools: exported, sha256, size_bytes })
}

/// A tar that is written file by file, from a stream that is hashed meanwhile.
struct Tar<W: io::Write> {
    out: BufWriter<W>,
}

impl<W: io::Write> Tar<W> {
    fn new(out: W) -> Self {
        Self { out: BufWriter::with_capacity(1 << 20, out) }
    }

    /// Writes the header of a file: no times, no owners.
    fn begin(&mut self, name: &str, size_bytes: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size_bytes);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    /// Fills the last block of a file.
    fn finish_file(&mut self, size_bytes: u64) -> io::Result<()> {
        let padding = size_bytes.next_multiple_of(BLOCK_BYTES) - size_bytes;
        io::copy(&mut io::repeat(0).take(padding), &mut self.out).map(|_| ())
    }

    /// Writes the end of the tar.
    fn finish(mut self) -> io::Result<()> {
        io::copy(&mut io::repeat(0).take(2 * BLOCK_BYTES), &mut self.out)?;
        self.out.flush()
    }
}

const BLOCK_BYTES: u64 = 512;
