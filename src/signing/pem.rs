//! Blocks of PEM text: `-----BEGIN <label>-----`, Base64, `-----END <label>-----`.

use pkcs8::der::pem;
use zeroize::Zeroizing;

/// One block, and nothing around it.
pub(super) struct Block<'a> {
    /// What it says that it is.
    pub(super) label: &'a str,
    text: &'a str,
}

/// Returns every block of a text. What is between them, which may be an explanation, is passed over.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let from = &rest[start..];
        let Some((label, _)) = from[BEGIN.len()..].split_once("-----") else { break };
        let end_line = format!("-----END {label}-----");
        let Some(end) = from.find(&end_line) else { break };
        let text = &from[..end + end_line.len()];
        blocks.push(Block { label, text });
        rest = &from[text.len()..];
    }
    blocks
}

impl Block<'_> {
    /// Returns the bytes, which are overwritten when they are dropped; `None` if this is no PEM.
    pub(super) fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        pem::decode_vec(self.text.as_bytes()).ok().map(|(_, bytes)| Zeroizing::new(bytes))
    }

    /// Returns whether it is encrypted in the way that OpenSSL had before PKCS#8.
    pub(super) fn has_old_encryption(&self) -> bool {
        self.text.contains("Proc-Type:") && self.text.contains("ENCRYPTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
subject=CN=a
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
text
-----BEGIN X-----\r
AAECAw==\r
-----END X-----
-----BEGIN CUT OFF-----
AAEC";

    #[test]
    fn blocks_have_labels_and_bytes() {
        let blocks = blocks(TWO);
        let labels: Vec<&str> = blocks.iter().map(|block| block.label).collect();
        assert_eq!(labels, ["EC PARAMETERS", "X"]);
        assert_eq!(*blocks[1].decode().unwrap(), [0, 1, 2, 3]);
    }

    #[test]
    fn damaged_base64_is_no_block() {
        let damaged = TWO.replace("AAECAw==", "AAE*Aw==");
        assert!(blocks(&damaged)[1].decode().is_none());
        assert!(blocks("no PEM").is_empty());
    }
}
