//! Signals that ask the program to end.

use std::io::Read as _;
use std::os::fd::IntoRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI32, Ordering};
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
/// How long it has if jobs on other machines are being ended.
const REMOTE_GRACE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Sets a flag on SIGINT and SIGTERM, and on SIGHUP unless `nohup` had it ignored. The process ends after [`GRACE`] (later if it is
/// ending jobs on other machines), or at once on a second signal; its workers end too, because their standard input closes. It ends with a message on SIGBUS, which it gets
/// if a mapped file loses what is read of it.
pub(crate) fn cancel_on_signals() -> Cancel {
    let cancel = Cancel::new();
    let flag = cancel.clone();
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    end_on_sigbus();
    // Without a handler, Ctrl-C ends the process at once; that leaves no partial file either.
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM].into_iter().chain(hang_up)) else { return cancel };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if flag.is_cancelled() {
                end(ErrorKind::Interrupted);
            }
            flag.cancel();
            let cancel = flag.clone();
            std::thread::spawn(move || {
                std::thread::sleep(GRACE);
                let polls = (REMOTE_GRACE - GRACE).as_millis() / POLL.as_millis();
                for _ in (0..polls).take_while(|_| cancel.is_cleaning_up()) {
                    std::thread::sleep(POLL);
                }
                output::interrupted();
                end(ErrorKind::Interrupted);
            });
        }
    });
    cancel
}

fn end(kind: ErrorKind) {
    work_folder::remove_ours();
    #[expect(
        clippy::exit,
        reason = "the user asked for it and something doesn't listen, or a thread can't go on"
    )]
    std::process::exit(i32::from(code(kind)));
}

/// Ends the program with a message if a mapped file lost what is read of it. Rust's own handler of SIGBUS, which looks for
/// overflows of the stack, would end it without a word; it is replaced, for signal-hook would run it first.
fn end_on_sigbus() {
    let Ok((mut told, tells)) = UnixStream::pair() else { return };
    TELLS.store(tells.into_raw_fd(), Ordering::Relaxed);
    std::thread::spawn(move || {
        let mut byte = [0];
        if told.read_exact(&mut byte).is_ok() {
            output::cut_off(&nimctl::onnx::shortened_files());
            end(ErrorKind::Input);
        }
    });
    #[expect(unsafe_code, reason = "a handler that doesn't return has no safe form")]
    // SAFETY: the structure is what the system takes, and `hold` does only what is allowed in a handler.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = hold as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
    }
}

/// Where the handler says that a thread can't go on.
static TELLS: AtomicI32 = AtomicI32::new(-1);

/// Keeps a thread that can't go on, and must not go back, until another one has ended the program.
extern "C" fn hold(_signal: i32) {
    #[expect(unsafe_code, reason = "of the calls that are allowed in a handler")]
    // SAFETY: both calls are allowed in a handler; the byte lives as long as the call.
    unsafe {
        let byte = 0_u8;
        libc::write(TELLS.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        loop {
            libc::pause();
        }
    }
}

/// Returns whether the process was started with a signal ignored, where the system says so.
fn is_ignored(signal: i32) -> bool {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal - 1) & 1 == 1
}
