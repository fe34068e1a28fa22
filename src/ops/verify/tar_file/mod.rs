//! The files in a tar of a release: ours, or what `tar cf` makes of the folder.
//!
//! Programs that unpack tars differ in what they make of unusual ones. Whatever some of them would unpack under another name,
//! with other bytes, or besides what was read here, is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use super::folder::read;
use super::{Finding, Found, NOT_UTF_8};
use crate::files::text::tar_problem;
use crate::release::SUMS_FILE;

const GZIP_START: [u8; 2] = [0x1f, 0x8b];
const ZSTD_START: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const CHUNK_BYTES: usize = 64 * 1024;

/// Records of a PAX header that change neither the name nor the bytes of a file, besides its path and size, which are read.
const PAX_RECORDS: [&str; 10] =
    ["path", "size", "atime", "ctime", "mtime", "uid", "gid", "uname", "gname", "comment"];
/// The same, by how they begin: extended attributes and access lists, as GNU tar, bsdtar and star write them.
const PAX_PREFIXES: [&str; 8] = [
    "SCHILY.xattr.",
    "SCHILY.acl.",
    "SCHILY.dev",
    "SCHILY.ino",
    "SCHILY.nlink",
    "LIBARCHIVE.xattr.",
    "LIBARCHIVE.creationtime",
    "RHT.security.",
];

/// Reads every file, by its path in the release.
///
/// # Errors
/// A file that can't be read, or is no tar.
pub(super) fn files(path: &Path, findings: &mut Vec<Finding>) -> io::Result<BTreeMap<String, Found>> {
    let mut found = BTreeMap::new();
    let mut archive = tar::Archive::new(fs_err::File::open(path)?);
    let archive_name = path.display().to_string();
    let mut find = |path: &str, problem: String| findings.push(Finding { path: path.into(), problem });
    let mut whole = true;
    for (entry, index) in archive.entries()?.zip(0_usize..) {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) if index == 0 => return Err(no_tar(path, &error)),
            // What was read before is still compared.
            Err(error) => {
                find(&archive_name, format!("the archive is damaged or was cut: {}", tar_problem(&error)));
                whole = false;
                break;
            }
        };
        let name = match name(&mut entry)? {
            Ok(name) => name,
            Err((name, problem)) => {
                find(&name, problem);
                continue;
            }
        };
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let size_bytes = entry.size();
        let file = read(&name, entry, size_bytes)?;
        if file.size_bytes != size_bytes {
            find(&name, format!("the archive was cut: {} of {size_bytes} bytes", file.size_bytes));
        }
        if found.insert(name.clone(), file).is_some() {
            find(&name, "it is in the archive more than once".into());
        }
    }
    if whole && let Some(problem) = problem_of_end(archive.into_inner())? {
        find(&archive_name, problem);
    }
    let root = root(&found);
    let mut files = BTreeMap::new();
    for (name, file) in found {
        match name.strip_prefix(&root) {
            Some(inside) => _ = files.insert(inside.to_owned(), file),
            None => {
                find(&name, format!("it is outside of the folder {root}, which has the rest of the release"));
            }
        }
    }
    let names: BTreeSet<&str> = files.keys().map(String::as_str).collect();
    for name in &names {
        let mut folders = name.match_indices('/').map(|(end, _)| &name[..end]);
        if let Some(folder) = folders.find(|folder| names.contains(folder)) {
            find(name, format!("{folder} is a file, not a folder"));
        }
    }
    Ok(files)
}

/// Returns the name of a file or folder, or what is wrong with the entry.
fn name(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Result<String, (String, String)>> {
    let bytes = entry.path_bytes().into_owned();
    let lossy = String::from_utf8_lossy(&bytes).into_owned();
    let wrong = |problem: &str| Ok(Err((lossy.clone(), format!("{problem}: it was not read"))));
    let Ok(name) = String::from_utf8(bytes.clone()) else { return Ok(Err((lossy, NOT_UTF_8.into()))) };
    let entry_type = entry.header().entry_type();
    if entry_type.is_gnu_sparse() {
        return wrong("it is sparse; make the tar without --sparse");
    }
    if !entry_type.is_file() && !entry_type.is_dir() {
        return wrong("neither a file nor a folder");
    }
    if let Some(records) = entry.pax_extensions()? {
        let mut keys = BTreeSet::new();
        for record in records {
            let record = record?;
            let key = String::from_utf8_lossy(record.key_bytes()).into_owned();
            let is_known = PAX_RECORDS.contains(&key.as_str())
                || PAX_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
            if !is_known {
                return wrong(&format!("its header has the record `{key}`, which not every tar reads alike"));
            }
            if key == "path" && record.value_bytes() != bytes {
                return wrong("it has two names");
            }
            if !keys.insert(key) {
                return wrong("its header has a record twice");
            }
        }
    }
    // As `tar cf x.tar ./release` writes it.
    let plain = name.strip_prefix("./").unwrap_or(&name);
    let plain = if entry_type.is_dir() { plain.strip_suffix('/').unwrap_or(plain) } else { plain };
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    let is_current = entry_type.is_dir() && matches!(plain, "" | ".");
    if !is_current && !plain.split('/').all(is_plain) {
        return wrong("its name is not that of a file in a release");
    }
    Ok(Ok(plain.to_owned()))
}

/// Returns what comes before every path: the folder with the list of digests, and `/`; nothing if that is not in a folder.
fn root(found: &BTreeMap<String, Found>) -> String {
    if found.contains_key(SUMS_FILE) {
        return String::new();
    }
    let folder =
        |name: &String| name.split_once('/').map(|(folder, rest)| (format!("{folder}/"), rest == SUMS_FILE));
    let mut folders = found.keys().filter_map(folder);
    let first = folders.next();
    match first {
        Some((_, false)) => folders.find(|(_, has_sums)| *has_sums).or(first).map(|(folder, _)| folder),
        first => first.map(|(folder, _)| folder),
    }
    .unwrap_or_default()
}

/// Returns what is wrong with what follows the last entry: a tar ends with two empty blocks, of which one was read, and more
/// of them.
fn problem_of_end(mut rest: impl Read) -> io::Result<Option<String>> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut read = 0;
    loop {
        let count = rest.read(&mut chunk)?;
        if chunk[..count].iter().any(|byte| *byte != 0) {
            return Ok(Some("there is more data behind its end, which some programs unpack".into()));
        }
        read += count;
        if count == 0 {
            let cut = || "it ends without the mark of its end: it was cut".to_owned();
            return Ok((read == 0).then(cut));
        }
    }
}

/// Says of a file that is no tar what it is.
fn no_tar(path: &Path, error: &io::Error) -> io::Error {
    let mut start = [0; 4];
    let read = fs_err::File::open(path).and_then(|mut file| file.read(&mut start)).unwrap_or_default();
    let what = if start[..read].starts_with(&GZIP_START) {
        "it is compressed with gzip: unpack it with gunzip first".to_owned()
    } else if start[..read].starts_with(&ZSTD_START) {
        "it is compressed with zstd: unpack it with unzstd first".to_owned()
    } else {
        format!("it is neither a folder nor a tar ({})", tar_problem(error))
    };
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
