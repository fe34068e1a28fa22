//! How compressed files are cut into parts. Pure: sizes in, slices out.

use std::fmt::Write as _;

use super::packed::Packed;

/// What one call carries: at most 64 MiB, of which the repository's own files take their share.
pub(super) const MAX_PART_BYTES: u64 = 60_000_000;

/// A piece of a compressed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// The file, as its place in the list.
    pub(super) file: usize,
    /// The part, from 1.
    pub(super) part: usize,
    /// Which slice of the file it is, from 0.
    pub(super) number: usize,
    /// Where it begins in the compressed file.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Fills one part after the other. The order of files is kept, so that a host can do without the last parts if it can do
/// without the last files. Part 1 leaves `reserved` bytes free.
pub(super) fn plan(sizes: &[u64], max_part: u64, reserved: u64) -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut part = 1;
    let mut free = max_part - reserved;
    for (file, &size) in sizes.iter().enumerate() {
        let (mut offset, mut number) = (0, 0);
        loop {
            if free == 0 {
                part += 1;
                free = max_part;
            }
            let length = free.min(size - offset);
            slices.push(Slice { file, part, number, offset, length });
            free -= length;
            offset += length;
            number += 1;
            if offset == size {
                break;
            }
        }
    }
    slices
}

/// Returns the name of a part's folder.
pub(super) fn folder_name(part: usize) -> String {
    format!("part-{part}")
}

/// Returns the name of a slice in its part's folder.
pub(super) fn slice_name(file: &Packed, slice: &Slice) -> String {
    format!("{}.xz.{:02}", file.path.replace('/', "+"), slice.number)
}

/// Writes the list that `run.sh` reads, a line for each file: sha256, mode, path, and its slices in order.
pub(super) fn list_of_files(files: &[Packed], slices: &[Slice]) -> String {
    let mut list = String::new();
    for (index, file) in files.iter().enumerate() {
        let Packed { path, sha256, mode, .. } = file;
        _ = write!(list, "{sha256} {mode} {path}");
        for slice in slices.iter().filter(|slice| slice.file == index) {
            _ = write!(list, " {}/{}", folder_name(slice.part), slice_name(file, slice));
        }
        list.push('\n');
    }
    list
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Packed, Slice, list_of_files, plan};

    fn slice(file: usize, part: usize, number: usize, offset: u64, length: u64) -> Slice {
        Slice { file, part, number, offset, length }
    }

    #[test]
    fn files_are_cut_where_a_part_is_full() {
        assert_eq!(
            plan(&[5, 12, 3], 10, 2),
            [
                slice(0, 1, 0, 0, 5),
                slice(1, 1, 0, 0, 3),
                slice(1, 2, 1, 3, 9),
                slice(2, 2, 0, 0, 1),
                slice(2, 3, 1, 1, 2)
            ]
        );
        assert_eq!(plan(&[8], 10, 2), [slice(0, 1, 0, 0, 8)]);
        assert_eq!(plan(&[25], 10, 0).iter().map(|slice| slice.length).collect::<Vec<_>>(), [10, 10, 5]);
        assert_eq!(plan(&[], 10, 2), []);
    }

    #[test]
    fn nothing_is_lost_and_no_part_is_too_large() {
        let sizes = [1, 59, 60, 61, 200, 7];
        let slices = plan(&sizes, 60, 4);
        for (file, size) in sizes.into_iter().enumerate() {
            let mut expected = 0;
            for slice in slices.iter().filter(|slice| slice.file == file) {
                assert_eq!(slice.offset, expected);
                expected += slice.length;
            }
            assert_eq!(expected, size);
        }
        for part in 1..=slices.last().unwrap().part {
            let bytes: u64 = slices.iter().filter(|slice| slice.part == part).map(|slice| slice.length).sum();
            assert!(bytes <= if part == 1 { 56 } else { 60 }, "part {part} has {bytes}");
        }
    }

    #[test]
    fn the_list_names_every_slice_of_a_file_in_order() {
        let file = |path: &str, mode| Packed {
            path: path.into(),
            sha256: "ab".into(),
            mode,
            packed: PathBuf::new(),
            packed_bytes: 0,
            unpacked_bytes: 0,
        };
        let files = [file("bin/nimctl", "755"), file("lib/x/libx.so.1", "644")];
        assert_eq!(
            list_of_files(&files, &plan(&[5, 12], 10, 2)),
            "ab 755 bin/nimctl part-1/bin+nimctl.xz.00\n\
             ab 644 lib/x/libx.so.1 part-1/lib+x+libx.so.1.xz.00 part-2/lib+x+libx.so.1.xz.01\n"
        );
    }
}
