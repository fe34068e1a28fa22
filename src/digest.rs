//! Digests of bytes, always written with their algorithm: `sha256:<hex>`, `blake3:<hex>`.
//!
//! SHA-256 names blobs (OCI and `sha256sum` speak it); BLAKE3 is what NIM manifests carry as `checksum` and what
//! NIM's profile ids are made with. A file that needs both is read once.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;
use std::sync::mpsc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// Reads are this large: big enough that system calls don't matter, small enough to stay in the L2 cache.
const READ_SIZE_BYTES: usize = 256 * 1024;
/// How many chunks wait for the slower digest at most.
const CHUNKS_AHEAD: usize = 2;

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps 32 digest bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Returns the 32 digest bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Returns the 64 lower-case hex digits, without the algorithm.
            pub fn to_hex(&self) -> String {
                self.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }

            /// Parses 64 lower-case hex digits.
            pub fn from_hex(hex: &str) -> Result<Self, InvalidDigest> {
                parse_hex(hex).map(Self).ok_or_else(|| InvalidDigest { text: hex.into(), expected: "64 lower-case hex digits" })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, ":{}"), self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, InvalidDigest> {
                text.strip_prefix(concat!($prefix, ":"))
                    .and_then(parse_hex)
                    .map(Self)
                    .ok_or_else(|| InvalidDigest { text: text.into(), expected: concat!($prefix, ":<64 lower-case hex digits>") })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": concat!("^", $prefix, ":[0-9a-f]{64}$") })
            }
        }
    };
}

digest_type!(
    /// A SHA-256 digest.
    Sha256, "sha256"
);
digest_type!(
    /// A BLAKE3 digest of 256 bits.
    Blake3, "blake3"
);

/// A text that should be a digest and isn't.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a digest: expected {expected}")]
pub struct InvalidDigest {
    text: String,
    expected: &'static str,
}

impl Sha256 {
    /// Returns the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Returns the digest of all that a reader gives, and how many bytes that was.
    pub fn of_reader(reader: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut hasher = sha2::Sha256::new();
        let size_bytes = read_through(reader, |chunk| hasher.update(chunk))?;
        Ok((Self(hasher.finalize().into()), size_bytes))
    }

    /// Returns the digest of a file and its size in bytes.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_reader(&mut fs_err::File::open(path)?)
    }
}

impl Blake3 {
    /// Returns the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Returns the digest of a file.
    ///
    /// # Errors
    /// I/O errors.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs_err::File::open(path)?)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }
}

/// Returns both digests of the chunks that `next_chunk` gives until it gives none, and how many bytes they have. Another
/// thread computes the SHA-256, which takes longer than all the rest.
///
/// # Errors
/// Those of `next_chunk`.
pub fn both_of_chunks<C: AsRef<[u8]> + Send>(
    mut next_chunk: impl FnMut() -> io::Result<Option<C>>,
) -> io::Result<(Sha256, Blake3, u64)> {
    let mut blake3 = blake3::Hasher::new();
    let mut size_bytes = 0;
    let (sender, chunks) = mpsc::sync_channel::<C>(CHUNKS_AHEAD);
    std::thread::scope(|scope| {
        let sha256 = scope.spawn(move || {
            let mut hasher = sha2::Sha256::new();
            chunks.iter().for_each(|chunk| hasher.update(chunk));
            Sha256(hasher.finalize().into())
        });
        // Moved in here, so that it is dropped and the thread ends, whatever happens.
        let sender = sender;
        let ended_early = || io::Error::other("the thread of a digest ended early");
        while let Some(chunk) = next_chunk()? {
            blake3.update(chunk.as_ref());
            size_bytes += chunk.as_ref().len() as u64;
            sender.send(chunk).map_err(|_| ended_early())?;
        }
        drop(sender);
        let sha256 = sha256.join().map_err(|_| ended_early())?;
        Ok((sha256, Blake3(*blake3.finalize().as_bytes()), size_bytes))
    })
}

fn read_through(reader: &mut impl Read, mut consume: impl FnMut(&[u8])) -> io::Result<u64> {
    let mut buffer = vec![0; READ_SIZE_BYTES];
    let mut size_bytes = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(size_bytes),
            Ok(count) => {
                consume(&buffer[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // FIPS 180-2 appendix B.1, and the BLAKE3 specification's empty input.
        assert_eq!(
            Sha256::of(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            Blake3::of(b"").to_string(),
            "blake3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn both_digests_of_chunks_are_those_of_their_bytes() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|index| index as u8).collect();
        for size in [97, 999, 100_000] {
            let mut chunks = bytes.chunks(size);
            let both = both_of_chunks(|| Ok(chunks.next())).unwrap();
            assert_eq!(both, (Sha256::of(&bytes), Blake3::of(&bytes), 100_000));
        }
        let none: Option<&[u8]> = None;
        assert_eq!(both_of_chunks(|| Ok(none)).unwrap(), (Sha256::of(b""), Blake3::of(b""), 0));
        let mut left = 10;
        let failing = both_of_chunks(|| {
            left -= 1;
            if left > 0 { Ok(Some(b"x")) } else { Err(io::Error::other("no more")) }
        });
        assert_eq!(failing.unwrap_err().to_string(), "no more");
    }

    #[test]
    fn only_the_written_form_parses() {
        let digest = Sha256::of(b"x");
        assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        assert!(digest.to_hex().parse::<Sha256>().is_err());
        assert!(digest.to_string().to_uppercase().parse::<Sha256>().is_err());
        assert!(Blake3::from_str(&digest.to_string()).is_err());
    }
}
