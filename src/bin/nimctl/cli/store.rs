//! Arguments of `store`.

use clap::{Args, Subcommand};

/// What is done with the store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCare {
    /// List the profiles in the store: where each came from, how large it is, and what keeps it.
    #[command(after_help = "\
UNIQUE is what no other profile shares: so much goes with the profile.

Examples:
  nimctl store ls
  nimctl store ls --output json")]
    Ls,
    /// Show which bytes of the store are what.
    #[command(after_help = "Example:\n  nimctl store du")]
    Du,
    /// Remove what nobody needs; with a limit, also profiles beyond it.
    Gc(StoreGc),
    /// Read everything in the store, and repair what can be repaired.
    #[command(after_help = "\
Damaged files are removed, and what says that they are there: the next `nimctl build` or `nimctl pull` brings them back. The
index is made again from the passports, and chunk lists from their files. What a killed process left is shown too, and is
no error.

Exit codes: 1 there is no store, or it can't be written; 3 something was wrong, whether it was repaired or not.

Examples:
  nimctl store fsck
  nimctl store fsck --check-only --output json")]
    Fsck {
        /// Change nothing.
        #[arg(long, visible_alias = "dry-run")]
        check_only: bool,
    },
    /// Keep a profile, whatever the limits of `nimctl store gc` are.
    #[command(after_help = "\
Examples:
  nimctl store pin tensorrt-rtx-l4-fp16 --note 'in production'
  nimctl store pin 0d784512")]
    Pin {
        /// The profile: its id, the beginning of it, or its readable name.
        profile: String,
        /// Why it is kept; `nimctl store ls` shows it.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Take a profile's pin away.
    Unpin {
        /// The profile: its id, the beginning of it, or its readable name.
        profile: String,
    },
}

/// Arguments of `store gc`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a limit, every profile stays; what goes belongs to none: files that a killed process left, records of older builds
and what they made, and parts of files whose pull ended early more than 7 days ago. With a limit, a profile still stays if it
is pinned, is its recipe's last build, or is in use by a running process. Builds that run are waited for; pulls, validations,
benchmarks and publishing go on.

Exit codes: 1 the store can't be written; 3 a file of the store is damaged (run `nimctl store fsck`), or the store still takes
more than --max-size.

Examples:
  nimctl store gc --dry-run
  nimctl store gc --keep-last 2
  nimctl store gc --max-size 200GB")]
pub(crate) struct StoreGc {
    /// Show what would be removed and why; remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Of each name, keep this many profiles: the newest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_last: Option<u32>,
    /// Remove the oldest profiles until the store takes at most so much: 500MB, 1.5TB, 20GiB, or a number of bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
}

/// Reads a size: a number and a unit, of 1000 (kB, MB, GB, TB) or of 1024 (KiB, MiB, GiB, TiB).
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("b", 1),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ];
    let wrong = || format!("`{text}` is no size: write a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB");
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..end], text[end..].trim().to_ascii_lowercase());
    let unit = if unit.is_empty() { "b" } else { unit.as_str() };
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or_else(wrong)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(wrong);
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = value * factor as f64;
    // Beyond 2^53 no fraction of a byte is meant.
    if bytes < 9_007_199_254_740_992.0 { Ok(bytes as u64) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("1024", 1024),
            ("500MB", 500_000_000),
            ("1.5 GB", 1_500_000_000),
            ("2gib", 2 << 30),
            ("20 kB", 20_000),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for text in ["", "GB", "-1", "1.2.3GB", "5 parsecs", "99999999999TB", "1e9", "NaN"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
