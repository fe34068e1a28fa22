//! The tar: the same files are the same bytes, whoever packs them, where and when.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};

/// A file of the tar.
pub(super) struct Member {
    pub(super) bytes: Vec<u8>,
    pub(super) is_executable: bool,
}

/// The files of the tar, by path.
pub(super) type Members = BTreeMap<String, Member>;

/// Writes all files below a folder of this name: sorted, of nobody, all of this time.
pub(super) fn write(out: impl Write, folder: &str, members: &Members, time: u64) -> Result<()> {
    // No name and no time in the gzip header, and no system either.
    let compressed = GzBuilder::new().operating_system(255).write(out, Compression::best());
    let mut tar = tar::Builder::new(compressed);
    for (path, Member { bytes, is_executable }) in members {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(if *is_executable { 0o755 } else { 0o644 });
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, format!("{folder}/{path}"), bytes.as_slice())?;
    }
    tar.into_inner().and_then(flate2::write::GzEncoder::finish).and_then(|mut out| out.flush())?;
    Ok(())
}

/// Reads the files of such a tar.
#[cfg(test)]
fn read(tar: &[u8]) -> std::io::Result<Vec<(String, u32, Vec<u8>)>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(tar));
    let members = archive.entries()?.map(|entry| {
        let mut entry = entry?;
        let path = entry.path()?.display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)?;
        Ok((path, entry.header().mode()?, bytes))
    });
    members.collect()
}

#[cfg(test)]
mod tests {
    use super::{Member, Members, read, write};

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let member = |text: &str, is_executable| Member { bytes: text.into(), is_executable };
        let packed = |order: [&str; 3]| {
            let mut members = Members::new();
            for path in order {
                members.insert(path.into(), member(path, path.starts_with("bin/")));
            }
            let mut out = Vec::new();
            write(&mut out, "x-1", &members, 1_700_000_000).unwrap();
            out
        };
        let tar = packed(["docs/a.md", "bin/x", "LICENSE"]);
        assert_eq!(tar, packed(["LICENSE", "docs/a.md", "bin/x"]));
        // Flags, time, and what the rest of the header says: nothing of this machine.
        assert_eq!(tar[3..10], [0, 0, 0, 0, 0, 2, 255]);
        let found = read(&tar).unwrap();
        let file = |path: &str, mode, text: &str| (path.to_owned(), mode, text.as_bytes().to_vec());
        assert_eq!(
            found,
            [
                file("x-1/LICENSE", 0o644, "LICENSE"),
                file("x-1/bin/x", 0o755, "bin/x"),
                file("x-1/docs/a.md", 0o644, "docs/a.md")
            ]
        );
    }
}
