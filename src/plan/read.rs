//! Finds the texts of a plan in its file, in bounded memory.
//!
//! A table of sections follows the header: at byte 64, for each a tag of four letters, four bytes, its offset and its size
//! (64 bits each, little-endian). `NGNE` is the engine, with every text in it; `THGW` the weights. So the weights, which are almost
//! all of a plan, are not read. A text begins with `NLYM`, four bytes, and its size.

use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use super::facts::PlanLayers;
use super::header::PlanHeader;
use super::layers;
use super::text::Graph;

/// Where the table of sections begins, and the size of one entry.
const SECTIONS: usize = 64;
const SECTION_SIZE_BYTES: usize = 24;
const MAX_SECTIONS: usize = 8;
const ENGINE: &[u8; 4] = b"NGNE";

const TEXT_MAGIC: &[u8; 4] = b"NLYM";
const TEXT_BEGIN: &[u8; 8] = b"header {";
/// Magic, four bytes, size, and how a text begins.
const TEXT_HEAD: usize = 24;
/// Texts longer than this are not read; 0.35 MB is the longest seen.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// All texts of a plan together; what is behind is not read.
const MAX_TEXTS_BYTES: usize = 256 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// One text of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanText {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its size there.
    pub size_bytes: u64,
    /// The text; what is not UTF-8 is replaced.
    pub text: String,
}

/// Reads what the compiler made of each layer. `None` if the file is not a plan of TensorRT for RTX, or has no text that can be
/// read.
///
/// # Errors
/// I/O errors.
pub fn read_layers(plan: &Path) -> io::Result<Option<PlanLayers>> {
    Ok(layers::of(&graphs(&read_texts(plan)?)))
}

/// Reads the texts of a plan, in their order; none if the file is not a plan of TensorRT for RTX, or has no text that can be read.
///
/// Reads the engine section alone where the plan says where that is, else the whole file, a megabyte at a time.
///
/// # Errors
/// I/O errors.
pub fn read_texts(plan: &Path) -> io::Result<Vec<PlanText>> {
    let mut file = fs_err::File::open(plan)?;
    let mut head = Vec::new();
    (&mut file).take((SECTIONS + MAX_SECTIONS * SECTION_SIZE_BYTES) as u64).read_to_end(&mut head)?;
    if PlanHeader::parse(&head).is_none() {
        return Ok(Vec::new());
    }
    let length = file.metadata()?.len();
    let is_inside =
        |(offset, size_bytes): &(u64, u64)| offset.checked_add(*size_bytes).is_some_and(|end| end <= length);
    if let Some((offset, size_bytes)) = engine_section(&head).filter(is_inside) {
        file.seek(SeekFrom::Start(offset))?;
        let texts = texts_in(&mut (&mut file).take(size_bytes), offset)?;
        if layers::of(&graphs(&texts)).is_some() {
            return Ok(texts);
        }
    }
    file.seek(SeekFrom::Start(0))?;
    texts_in(&mut file, 0)
}

/// Returns the offset and the size of the engine section.
fn engine_section(head: &[u8]) -> Option<(u64, u64)> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    head.get(SECTIONS..)?
        .chunks_exact(SECTION_SIZE_BYTES)
        .find(|section| &section[..4] == ENGINE)
        .map(|section| (number(&section[8..16]), number(&section[16..24])))
}

/// Reads what the compiler made of each layer from a stream that holds a plan's texts; `None` if there is none.
///
/// # Errors
/// I/O errors.
pub fn layers_in(stream: &mut dyn Read) -> io::Result<Option<PlanLayers>> {
    Ok(layers::of(&graphs(&texts_in(stream, 0)?)))
}

fn graphs(texts: &[PlanText]) -> Vec<Graph> {
    texts.iter().map(|text| Graph::parse(&text.text)).collect()
}

/// Reads the texts of a stream that begins at an offset of its file.
fn texts_in(stream: &mut dyn Read, begin: u64) -> io::Result<Vec<PlanText>> {
    let mut found = Vec::new();
    let mut texts = Texts { stream, buffer: Vec::new(), is_at_end: false, at: begin };
    let mut total = 0;
    while let Some((offset, text)) = texts.next()? {
        total += text.len();
        if total > MAX_TEXTS_BYTES {
            break;
        }
        let size_bytes = text.len() as u64;
        found.push(PlanText { offset, size_bytes, text: String::from_utf8_lossy(&text).into_owned() });
    }
    Ok(found)
}

/// A stream, and what was read of it but not yet searched.
struct Texts<'a> {
    stream: &'a mut dyn Read,
    buffer: Vec<u8>,
    is_at_end: bool,
    /// Where the buffer begins in the file.
    at: u64,
}

impl Texts<'_> {
    /// Reads on until the buffer holds `size` bytes or the stream ends.
    fn fill(&mut self, size: usize) -> io::Result<()> {
        if !self.is_at_end && self.buffer.len() < size {
            let missing = (size - self.buffer.len()) as u64;
            let read = (&mut *self.stream).take(missing).read_to_end(&mut self.buffer)?;
            self.is_at_end = (read as u64) < missing;
        }
        Ok(())
    }

    /// Removes bytes from the beginning of the buffer.
    fn pass_over(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.at += count as u64;
    }

    /// Returns the next text, and where it is in the file.
    fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        loop {
            self.fill(BUFFER_BYTES)?;
            let Some(at) = find(&self.buffer) else {
                if self.is_at_end {
                    return Ok(None);
                }
                // What begins at the end of the buffer may go on behind it.
                self.pass_over(self.buffer.len().saturating_sub(TEXT_HEAD - 1));
                continue;
            };
            self.pass_over(at);
            let size = u64::from_le_bytes(self.buffer[8..16].try_into().expect("eight bytes"));
            let begin = TEXT_HEAD - TEXT_BEGIN.len();
            if size > MAX_TEXT_BYTES {
                self.pass_over(begin);
                continue;
            }
            let end = begin + size as usize;
            self.fill(end)?;
            let end = end.min(self.buffer.len());
            let text = self.buffer[begin..end].to_vec();
            let offset = self.at + begin as u64;
            self.pass_over(end);
            return Ok(Some((offset, text)));
        }
    }
}

/// Returns where the next text's magic is.
fn find(bytes: &[u8]) -> Option<usize> {
    bytes.windows(TEXT_HEAD).position(|window| {
        &window[..4] == TEXT_MAGIC && &window[TEXT_HEAD - TEXT_BEGIN.len()..] == TEXT_BEGIN
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEMM: &str = "header {\n  accelerators={sm89 }\n}\nmain {\n  fully_connected={ name=\"m\" input={\"x\" \"w\" } output={\"y\" } layers=\"[ONNX Layer: m]\" }\n}\n";

    fn text(of: &str) -> Vec<u8> {
        [TEXT_MAGIC.as_slice(), &[1, 2, 3, 4], &(of.len() as u64).to_le_bytes(), of.as_bytes()].concat()
    }

    /// A plan whose engine section has the texts, behind some weights that look like one more.
    fn plan(engine: &[u8], weights: &[u8]) -> Vec<u8> {
        let mut plan = b"vtrt".to_vec();
        plan.resize(24, 0);
        plan.extend([1, 7, 1, 0x74]);
        plan.extend(b"vtrt");
        plan.resize(SECTIONS, 0);
        let first = (SECTIONS + 2 * SECTION_SIZE_BYTES) as u64;
        for (tag, offset, size) in [
            (b"NGNE", first, engine.len() as u64),
            (b"THGW", first + engine.len() as u64, weights.len() as u64),
        ] {
            plan.extend(tag);
            plan.extend([0; 4]);
            plan.extend(offset.to_le_bytes());
            plan.extend(size.to_le_bytes());
        }
        [plan.as_slice(), engine, weights].concat()
    }

    #[track_caller]
    fn gemms(bytes: &[u8]) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.plan");
        fs_err::write(&path, bytes).unwrap();
        read_layers(&path).unwrap().map(|layers| layers.gemms.len())
    }

    #[test]
    fn the_engine_is_read_and_the_weights_are_not() {
        let two = [vec![0; 100], text(GEMM), b"NLYM".to_vec(), text(GEMM), vec![7; 9]].concat();
        assert_eq!(gemms(&plan(&two, &text(GEMM))), Some(2));
        // Without texts where they should be, they are looked for everywhere.
        assert_eq!(gemms(&plan(b"", &text(GEMM))), Some(1));
        assert_eq!(gemms(&plan(b"", b"NLYM")), None);
        assert_eq!(gemms(b"ONNX"), None);
    }

    #[test]
    fn a_text_may_begin_anywhere() {
        for before in
            [BUFFER_BYTES - 30, BUFFER_BYTES - 20, BUFFER_BYTES - 3, BUFFER_BYTES, 3 * BUFFER_BYTES + 1]
        {
            let mut bytes = vec![b'N'; before];
            bytes.extend(text(GEMM));
            let layers = layers_in(&mut bytes.as_slice()).unwrap().unwrap();
            assert_eq!(layers.gemms.len(), 1, "{before}");
        }
    }

    #[test]
    fn a_text_is_where_it_is_said_to_be() {
        let bytes =
            plan(&[vec![7; 2 * BUFFER_BYTES + 5], text(GEMM), vec![0; 9], text(GEMM)].concat(), &[1; 9]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.plan");
        fs_err::write(&path, &bytes).unwrap();
        let texts = read_texts(&path).unwrap();
        assert_eq!(texts.len(), 2);
        for PlanText { offset, size_bytes, text } in texts {
            let at = offset as usize;
            assert_eq!(&bytes[at..at + size_bytes as usize], text.as_bytes());
        }
    }

    #[test]
    fn a_wrong_size_is_survived() {
        let mut cut = text(GEMM);
        cut[8..16].copy_from_slice(&(1_u64 << 25).to_le_bytes());
        assert_eq!(layers_in(&mut cut.as_slice()).unwrap().unwrap().gemms.len(), 1);
        cut[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        let both = [cut, text(GEMM)].concat();
        assert_eq!(layers_in(&mut both.as_slice()).unwrap().unwrap().gemms.len(), 1);
    }
}
