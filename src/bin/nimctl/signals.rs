//! Signals that ask the program to end.

use std::time::Duration;

use nimctl::error_kind::ErrorKind;
use nimctl::files::work_folder;
use nimctl::worker::host::Cancel;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::exit::code;
use crate::output;

/// How long what is running has to notice and to clean up. Of what doesn't look (a file that is hashed, a read of a pipe),
/// the folders of unfinished work are removed then.
const GRACE: Duration = Duration::from_millis(1500);

/// Sets a flag on SIGINT and SIGTERM, and on SIGHUP unless `nohup` had it ignored. The process ends after [`GRACE`], or at
/// once on a second signal; its workers end too, because their standard input closes.
pub(crate) fn cancel_on_signals() -> Cancel {
    let cancel = Cancel::new();
    let flag = cancel.clone();
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    // Without a handler, Ctrl-C ends the process at once; that leaves no partial file either.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up)) else { return cancel };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if flag.is_cancelled() {
                end();
            }
            flag.cancel();
            std::thread::spawn(|| {
                std::thread::sleep(GRACE);
                output::interrupted();
                end();
            });
        }
    });
    cancel
}

fn end() {
    work_folder::remove_ours();
    #[expect(clippy::exit, reason = "the user asked for it, and something doesn't listen")]
    std::process::exit(i32::from(code(ErrorKind::Interrupted)));
}

/// Returns whether the process was started with a signal ignored, where the system says so.
fn is_ignored(signal: i32) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}
