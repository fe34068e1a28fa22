//! Checksums as manifests write them.

use std::fmt;
use std::io;
use std::path::Path;

use sha2::Digest as _;

use super::FileError;
use crate::digest::{Blake3, Sha256};

/// A checksum in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Blake3(Blake3),
    Sha256(Sha256),
    /// 128 hex digits.
    Sha512(String),
}

impl Checksum {
    /// Reads `blake3:HEX`, `sha256:HEX` or `sha512:HEX`.
    pub(super) fn parse(text: &str) -> Result<Self, FileError> {
        let unknown = || FileError::UnknownChecksum(text.into());
        let (kind, hex) = text.split_once(':').ok_or_else(unknown)?;
        let hex = hex.to_ascii_lowercase();
        let is_sha512 = hex.len() == 128 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        match kind.to_ascii_lowercase().as_str() {
            "blake3" => Blake3::from_hex(&hex).map(Self::Blake3).map_err(|_| unknown()),
            "sha256" => Sha256::from_hex(&hex).map(Self::Sha256).map_err(|_| unknown()),
            "sha512" if is_sha512 => Ok(Self::Sha512(hex)),
            _ => Err(unknown()),
        }
    }

    /// Returns that of the same kind of a file.
    pub(super) fn of_file(&self, path: &Path) -> io::Result<Self> {
        Ok(match self {
            Self::Blake3(_) => Self::Blake3(Blake3::of_file(path)?),
            Self::Sha256(_) => Self::Sha256(Sha256::of_file(path)?.0),
            Self::Sha512(_) => {
                let mut hasher = sha2::Sha512::new();
                let mut file = fs_err::File::open(path)?;
                let mut buffer = vec![0; 1 << 20];
                loop {
                    match io::Read::read(&mut file, &mut buffer)? {
                        0 => break,
                        count => hasher.update(&buffer[..count]),
                    }
                }
                let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                Self::Sha512(hex)
            }
        })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blake3(digest) => digest.fmt(f),
            Self::Sha256(digest) => digest.fmt(f),
            Self::Sha512(hex) => write!(f, "sha512:{hex}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs_err::write(&path, "abc").unwrap();
        let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                      2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        for text in [&Blake3::of(b"abc").to_string(), &Sha256::of(b"abc").to_string(), sha512] {
            let checksum = Checksum::parse(text).unwrap();
            assert_eq!(checksum.to_string(), text);
            assert_eq!(checksum.of_file(&path).unwrap(), checksum);
            assert_eq!(Checksum::parse(&text.to_uppercase()).unwrap(), checksum);
        }
        for wrong in ["", "md5:900150983cd24fb0d6963f7d28e17f72", "blake3:", "sha256:abc", "ab", "sha512:zz"]
        {
            assert!(Checksum::parse(wrong).is_err(), "{wrong}");
        }
    }
}
