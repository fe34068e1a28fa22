//! Installs tools from a tar that [`export`](super::export) wrote.
//!
//! The tar may be anybody's. What it holds has to be what the lock pins, file by file: of its own list, nothing is believed but which
//! tools it has. All of it is read and checked before anything is put in place.

use std::io::{self, Read as _};
use std::path::Path;

use super::hashed_copy::{CopyCount, CopyError, Expected, hashed_copy};
use super::install::{Found, look, put_in_place};
use super::lock::Pin;
use super::record::Record;
use super::tar_contents::{LIST_NAME, MAX_LIST_BYTES, TarContents, name_in_tar};
use super::{InstallOutcome, Installed, Places, Stage, Tool, ToolchainError, Watch};
use super::{lock_place, remove_leftovers, work_folder};
use crate::files::atomic_file;
use crate::files::text::tar_problem;

/// The zeros that a tar ends with.
const END_BYTES: u64 = 1024;

/// A tool to import.
struct Wanted<'a> {
    tool: Tool,
    pin: Pin<'a>,
    /// Where its files are unpacked, and what it means that they are: `None` if the tool is there.
    new: Option<(tempfile::TempDir, InstallOutcome)>,
}

/// Installs every tool of a tar; a tool that is installed already stays as it is, but its files in the tar are checked too.
///
/// # Errors
/// A file that is no such tar, is damaged, or has another version of a tool than the lock. Whatever happens, each tool's folder is whole
/// or what it was.
pub fn import(path: &Path, places: &Places, watch: &mut Watch<'_>) -> Result<Vec<Installed>, ToolchainError> {
    let not_an_export = |reason: String| ToolchainError::NotAnExport { path: path.into(), reason };
    let unreadable = |source| ToolchainError::Io { doing: format!("read {}", path.display()), source };
    // A pipe would wait for its writer.
    if !fs_err::metadata(path).map_err(unreadable)?.is_file() {
        return Err(not_an_export("it is not a regular file".into()));
    }
    let file = fs_err::File::open(path).map_err(unreadable)?;
    let mut archive = tar::Archive::new(io::BufReader::with_capacity(1 << 20, &file));
    let entries = archive.entries().map_err(unreadable)?;
    // As they are: no header may rename or stretch what follows it.
    let mut members = Members { path, entries: entries.raw(true), end_bytes: 0 };

    let contents = members.list()?;
    let mut wanted = check(&contents, path, places)?;
    let mut locks = Vec::new();
    for Wanted { tool, pin, new } in &mut wanted {
        let lock_path = places.toolchains().join(format!(".lock-{tool}"));
        locks.push(lock_place(lock_path, tool.name(), watch)?);
        let parent = places.tool_folder(*tool);
        let outcome = match look(*tool, pin, &parent.join(pin.folder_name())) {
            Found::Whole(_) => continue,
            Found::Nothing => InstallOutcome::Installed,
            Found::Damaged { reason } => InstallOutcome::Repaired { reason },
            Found::Newer(newer) => return Err(newer.into()),
        };
        let writing = |error| ToolchainError::writing(format!("install {tool}"), &parent, error);
        remove_leftovers(&parent, tool.name()).map_err(writing)?;
        *new = Some((work_folder(&parent, tool.name()).map_err(writing)?, outcome));
    }
    let mut count = CopyCount {
        stage: Stage::Unpacking,
        done_bytes: 0,
        total_bytes: Some(wanted.iter().map(|wanted| wanted.pin.unpacked_bytes()).sum()),
    };
    for Wanted { tool, pin, new } in &wanted {
        let folder = new.as_ref().map(|(folder, _)| folder.path());
        for file in pin.files {
            let expected = Expected { sha256: file.sha256, size_bytes: file.size_bytes };
            let to = folder.map(|folder| folder.join(&file.name));
            members.unpack(*tool, &file.name, expected, to.as_deref(), &mut count, watch)?;
        }
    }
    members.end(&file)?;

    let mut installed = Vec::new();
    for Wanted { tool, pin, new } in wanted {
        let folder = places.tool_folder(tool).join(pin.folder_name());
        let (files, outcome) = match new {
            Some((new, outcome)) => (put_in_place(new, tool, &pin, places)?, outcome),
            None => match look(tool, &pin, &folder) {
                Found::Whole(files) => (files, InstallOutcome::AlreadyInstalled),
                Found::Nothing => return Err(ToolchainError::NotInstalled { tool }),
                Found::Damaged { reason } => return Err(ToolchainError::Damaged { tool, folder, reason }),
                Found::Newer(newer) => return Err(newer.into()),
            },
        };
        installed.push(Installed { tool, version: pin.version.into(), folder, files, outcome });
    }
    Ok(installed)
}

/// Compares the list of a tar with the lock.
fn check<'a>(
    contents: &TarContents,
    path: &Path,
    places: &'a Places,
) -> Result<Vec<Wanted<'a>>, ToolchainError> {
    if contents.host != places.host {
        let (found, host) = (contents.host.clone(), places.host.clone());
        return Err(ToolchainError::ExportForAnotherHost { path: path.into(), found, host });
    }
    let wanted = contents.tools.iter().map(|found| {
        let pin = places.lock.pin(found.name, &places.host)?;
        let expected = Record::of_pin(found.name, &pin);
        if *found == expected {
            return Ok(Wanted { tool: found.name, pin, new: None });
        }
        let (found_is, expected_is) = if found.version != expected.version {
            (format!("version {}", found.version), format!("version {}", expected.version))
        } else if found.wheel_sha256 != expected.wheel_sha256 {
            let of_wheel = |record: &Record| format!("files of the wheel {}", record.wheel_sha256);
            (of_wheel(found), of_wheel(&expected))
        } else {
            ("other files".into(), "another list of files".into())
        };
        Err(ToolchainError::OtherVersion {
            path: path.into(),
            tool: found.name,
            found: found_is,
            expected: expected_is,
        })
    });
    wanted.collect()
}

/// The members of a tar, read in their order.
struct Members<'a, R: io::Read> {
    path: &'a Path,
    entries: tar::Entries<'a, R>,
    /// Where the last member that was read ends.
    end_bytes: u64,
}

impl<'a, R: io::Read> Members<'a, R> {
    fn damaged(&self, reason: String) -> ToolchainError {
        ToolchainError::DamagedExport { path: self.path.into(), reason }
    }

    /// Returns the list, which comes first.
    fn list(&mut self) -> Result<TarContents, ToolchainError> {
        let not_an_export = |reason: String| ToolchainError::NotAnExport { path: self.path.into(), reason };
        let mut member = match self.entries.next() {
            Some(member) => {
                member.map_err(|error| not_an_export(format!("it is not a tar: {}", tar_problem(&error))))?
            }
            None => return Err(not_an_export("it is an empty tar".into())),
        };
        let is_list = member.path_bytes() == LIST_NAME.as_bytes()
            && member.header().entry_type() == tar::EntryType::Regular;
        if !is_list {
            return Err(not_an_export(format!("it does not begin with {LIST_NAME}")));
        }
        if member.size() > MAX_LIST_BYTES {
            return Err(not_an_export(format!("{LIST_NAME} has more than {MAX_LIST_BYTES} bytes")));
        }
        self.end_bytes = end_of(&member);
        let size_bytes = member.size();
        let mut text = Vec::new();
        member.read_to_end(&mut text).map_err(|source| ToolchainError::Io {
            doing: format!("read {}", self.path.display()),
            source,
        })?;
        if text.len() as u64 != size_bytes {
            return Err(self.damaged(format!("it ends inside of {LIST_NAME}")));
        }
        TarContents::parse(&text, self.path)
    }

    /// Reads the next member, which has to be this file, and writes it to a path of our choice, if there is one.
    fn unpack(
        &mut self,
        tool: Tool,
        file: &str,
        expected: Expected,
        to: Option<&Path>,
        count: &mut CopyCount,
        watch: &mut Watch<'_>,
    ) -> Result<(), ToolchainError> {
        let name = name_in_tar(tool, file);
        let mut member = match self.entries.next() {
            Some(member) => member
                .map_err(|error| self.damaged(format!("{name} cannot be read: {}", tar_problem(&error))))?,
            None => return Err(self.damaged(format!("it ends before {name}"))),
        };
        if *member.path_bytes() != *name.as_bytes() {
            let found = member.path_bytes().escape_ascii().to_string();
            return Err(self.damaged(format!("it has `{found}` in the place of {name}")));
        }
        if member.header().entry_type() != tar::EntryType::Regular {
            return Err(self.damaged(format!("{name} is a link or something else that is not a file")));
        }
        if member.size() != expected.size_bytes {
            let (found, expected) = (member.size(), expected.size_bytes);
            return Err(self.damaged(format!("{name} has {found} bytes, not {expected}")));
        }
        self.end_bytes = end_of(&member);
        let copied = match to {
            Some(to) => {
                let folder = to.parent().unwrap_or(Path::new("."));
                let writing = |error| ToolchainError::writing(format!("unpack {name}"), folder, error);
                let mut new = atomic_file::temporary_in(folder).map_err(writing)?;
                let copied = hashed_copy(&mut member, &mut new, Some(expected.size_bytes), count, watch);
                if let Err(CopyError::Write(error)) = copied {
                    return Err(writing(error));
                }
                if matches!(copied, Ok(found) if found == expected) {
                    atomic_file::persist(new, to).map_err(writing)?;
                }
                copied
            }
            None => hashed_copy(&mut member, &mut io::sink(), Some(expected.size_bytes), count, watch),
        };
        match copied {
            Ok(found) if found == expected => Ok(()),
            Ok(found) if found.size_bytes < expected.size_bytes => {
                Err(self.damaged(format!("it ends inside of {name}")))
            }
            Ok(found) => Err(self.damaged(format!("{name} is {}, not {}", found.sha256, expected.sha256))),
            Err(CopyError::Cancelled) => {
                Err(ToolchainError::Cancelled { doing: format!("unpacking {name}") })
            }
            Err(CopyError::Read(error) | CopyError::Write(error)) => {
                Err(self.damaged(format!("{name} cannot be read: {error}")))
            }
            Err(CopyError::TooLong) => {
                Err(self.damaged(format!("{name} has more than {} bytes", expected.size_bytes)))
            }
        }
    }

    /// Checks that nothing follows but the end of the tar.
    fn end(mut self, file: &fs_err::File) -> Result<(), ToolchainError> {
        match self.entries.next() {
            Some(Ok(member)) => {
                let found = member.path_bytes().escape_ascii().to_string();
                return Err(self.damaged(format!("it has `{found}`, which {LIST_NAME} does not list")));
            }
            Some(Err(error)) => {
                return Err(self.damaged(format!("its end cannot be read: {}", tar_problem(&error))));
            }
            None => {}
        }
        let size_bytes = file.metadata().map(|metadata| metadata.len());
        match size_bytes {
            Ok(size_bytes) if size_bytes == self.end_bytes + END_BYTES => Ok(()),
            Ok(size_bytes) if size_bytes < self.end_bytes + END_BYTES => {
                Err(self.damaged("its end is missing".into()))
            }
            Ok(_) => Err(self.damaged("something follows its end".into())),
            Err(source) => Err(ToolchainError::Io { doing: format!("read {}", self.path.display()), source }),
        }
    }
}

/// Returns where a member ends, with what fills its last block.
fn end_of<R: io::Read>(member: &tar::Entry<'_, R>) -> u64 {
    member.raw_file_position().saturating_add(member.size()).checked_next_multiple_of(512).unwrap_or(u64::MAX)
}
