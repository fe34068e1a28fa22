//! A pack as it is read: piece after piece from the files that have them, so that no pack is ever in memory.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::PublishError;
use crate::chunks::Chunk;
use crate::packs::NewPack;

/// Reads a pack.
pub(super) struct Pieces<'a> {
    pack: &'a NewPack,
    /// Where each file is.
    places: &'a [&'a Path],
    /// Where each piece begins in the pack.
    starts: Vec<u64>,
    at: u64,
    /// The number and the bytes of the piece that was read last.
    piece: Option<(usize, Vec<u8>)>,
    open: Option<(usize, fs_err::File)>,
    /// Why reading failed.
    problem: Option<PublishError>,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(pack: &'a NewPack, places: &'a [&'a Path]) -> Self {
        let mut end = 0;
        let starts = pack
            .pieces
            .iter()
            .map(|(_, _, chunk)| {
                let start = end;
                end += u64::from(chunk.length);
                start
            })
            .collect();
        Self { pack, places, starts, at: 0, piece: None, open: None, problem: None }
    }

    /// Returns why reading failed, if it did: more than an [`io::Error`] can tell.
    pub(super) fn problem(self) -> Option<PublishError> {
        self.problem
    }

    /// Reads a piece, and checks that it is still what was listed.
    fn load(&mut self, number: usize) -> Result<(), PublishError> {
        let (file, offset, chunk) = self.pack.pieces[number];
        let place = self.places[file];
        let reading = |source| PublishError::Read { path: place.into(), source };
        if self.open.as_ref().is_none_or(|(opened, _)| *opened != file) {
            self.open = Some((file, fs_err::File::open(place).map_err(reading)?));
        }
        let Some((_, opened)) = &self.open else { unreachable!("it was opened") };
        let mut bytes = self.piece.take().map(|(_, bytes)| bytes).unwrap_or_default();
        bytes.resize(chunk.length as usize, 0);
        opened.file().read_exact_at(&mut bytes, offset).map_err(reading)?;
        if Chunk::of(&bytes) != chunk {
            return Err(PublishError::Changed { path: place.into(), folder: None });
        }
        self.piece = Some((number, bytes));
        Ok(())
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.pack.size_bytes || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.starts.partition_point(|start| *start <= self.at) - 1;
        if self.piece.as_ref().is_none_or(|(loaded, _)| *loaded != number)
            && let Err(problem) = self.load(number)
        {
            let error = io::Error::other(problem.to_string());
            self.problem = Some(problem);
            return Err(error);
        }
        let Some((_, bytes)) = &self.piece else { unreachable!("it was read") };
        let rest = &bytes[usize::try_from(self.at - self.starts[number]).unwrap_or(usize::MAX)..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Pieces<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.pack.size_bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the beginning"))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom};

    use super::Pieces;
    use crate::chunks::Chunk;
    use crate::ops::publish::PublishError;
    use crate::packs::NewPack;

    #[test]
    fn a_pack_is_read_from_anywhere_and_what_changed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        fs_err::write(&one, "..abc").unwrap();
        fs_err::write(&two, "defg").unwrap();
        let pieces = vec![(0, 2, Chunk::of(b"abc")), (1, 0, Chunk::of(b"de")), (1, 2, Chunk::of(b"fg"))];
        let pack = NewPack { pieces, size_bytes: 7 };
        let places = [one.as_path(), two.as_path()];
        let mut reader = Pieces::new(&pack, &places);
        for start in 0..=7 {
            let mut read = String::new();
            reader.seek(SeekFrom::Start(start)).unwrap();
            reader.read_to_string(&mut read).unwrap();
            assert_eq!(read, "abcdefg"[start as usize..]);
        }
        assert_eq!(reader.seek(SeekFrom::End(-1)).unwrap(), 6);
        assert!(reader.seek(SeekFrom::Current(-7)).is_err());
        fs_err::write(&two, "defG").unwrap();
        let mut reader = Pieces::new(&pack, &places);
        let mut read = Vec::new();
        assert!(reader.read_to_end(&mut read).is_err());
        assert_eq!(read, b"abcde");
        let problem = reader.problem().expect("it says why");
        assert!(problem.hint().is_some_and(|hint| hint.contains("`nimctl build`")));
        let in_release = problem.in_release(Some(folder.path()));
        let verify = format!("`nimctl verify {}`", folder.path().display());
        assert!(in_release.hint().is_some_and(|hint| hint.contains(&verify)));
        assert!(matches!(in_release, PublishError::Changed { path, folder: Some(_) } if path == two));
    }
}
