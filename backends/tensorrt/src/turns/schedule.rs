//! Whose turn it is. A thread that takes part runs until it has to wait; then the next one that need not wait has its turn, in
//! the order of their places. So what a program does in which order follows from the program alone, and from no clock.
//!
//! Nothing here allocates.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::rising;

/// How many threads take part at most; others run as they like.
const PLACES: usize = 256;
/// How long a thread that waits sleeps before it looks again, while another has its turn. It is woken when it is its turn.
const WHILE_OTHERS_RUN: Duration = Duration::from_millis(100);
/// The same while all wait: for what no thread that takes part does.
const WHILE_ALL_WAIT: Duration = Duration::from_millis(5);

/// After so many looks at a thread that has its turn and computes nothing, it waits for one that has not: a bug, which must not
/// look like a long build.
const LOOKS: u32 = 600;

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing but its turn.
    Turn,
    /// That somebody signals the condition variable at this address.
    Condition { address: usize, number: u64, signalled: bool },
    /// That the number at this address is another.
    Change { address: usize, from: u32 },
    /// That this thread has ended.
    End { thread: usize },
}

struct Place {
    taken: bool,
    /// The C library's name of the thread, once that is known.
    thread: usize,
    wait: Wait,
    /// Whether it also goes on when nobody else can.
    has_limit: bool,
}

pub(super) struct Schedule {
    places: [Place; PLACES],
    running: Option<usize>,
    next_number: u64,
}

static SCHEDULE: Mutex<Schedule> = Mutex::new(Schedule {
    places: [const { Place { taken: false, thread: 0, wait: Wait::Turn, has_limit: false } }; PLACES],
    running: None,
    next_number: 0,
});
static WAKE: [Condvar; PLACES] = [const { Condvar::new() }; PLACES];

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Returns the place of this thread, if it takes part.
pub(super) fn place() -> Option<usize> {
    PLACE.try_with(Cell::get).ok().flatten()
}

/// Takes a place for a thread that will run later, if there is one.
pub(super) fn reserve() -> Option<usize> {
    let mut schedule = schedule();
    let place = schedule.places.iter().position(|place| !place.taken)?;
    schedule.places[place] = Place { taken: true, thread: 0, wait: Wait::Turn, has_limit: false };
    Some(place)
}

/// Says which thread has a place that was reserved.
pub(super) fn name(place: usize, thread: usize) {
    schedule().places[place].thread = thread;
}

/// Gives a place back that no thread came to.
pub(super) fn cancel(place: usize) {
    schedule().places[place].taken = false;
}

/// Begins to take part, and waits for the first turn.
#[expect(unsafe_code, reason = "the C library is asked")]
pub(super) fn enter(place: usize) {
    unsafe extern "C" {
        safe fn pthread_self() -> usize;
    }
    PLACE.set(Some(place));
    rising::take_part(true);
    let mut schedule = schedule();
    schedule.places[place].thread = pthread_self();
    if schedule.running.is_none() {
        schedule.pass_on(place);
    }
    wait_for_turn(schedule, place);
}

/// Ends taking part; the next thread has its turn.
pub(super) fn leave(place: usize) {
    PLACE.set(None);
    rising::take_part(false);
    let mut schedule = schedule();
    schedule.places[place].taken = false;
    schedule.pass_on(place);
}

/// Lets others have their turn until this thread need not wait any more, for what it says or has [announced](announce).
/// Returns what it waited for, as it is then. With `has_limit`, it goes on too when nobody else can: time passes only then.
pub(super) fn wait(place: usize, wait: Option<Wait>, has_limit: bool) -> Wait {
    let mut schedule = schedule();
    if let Some(wait) = wait {
        schedule.places[place].wait = wait;
    }
    schedule.places[place].has_limit = has_limit;
    schedule.pass_on(place);
    wait_for_turn(schedule, place)
}

/// Lets all others have their turn. Returns whether there was another.
pub(super) fn yield_turn(place: usize) -> bool {
    let mut schedule = schedule();
    schedule.pass_on(place);
    let is_alone = schedule.running == Some(place);
    wait_for_turn(schedule, place);
    !is_alone
}

/// Returns how a thread waits for a signal; it comes after all that wait already.
pub(super) fn condition(address: usize) -> Wait {
    let mut schedule = schedule();
    schedule.next_number += 1;
    Wait::Condition { address, number: schedule.next_number, signalled: false }
}

/// Begins to wait, with the turn kept: a signal from now on counts.
pub(super) fn announce(place: usize, wait: Wait) {
    schedule().places[place].wait = wait;
}

/// Signals a condition variable to the thread that waits longest, or to all; returns whether one waited.
pub(super) fn signal(address: usize, all: bool) -> bool {
    let mut schedule = schedule();
    let mut any = false;
    loop {
        let waiting = schedule.places.iter_mut().filter(|place| place.taken).filter_map(|place| {
            match &mut place.wait {
                Wait::Condition { address: at, number, signalled } if *at == address && !*signalled => {
                    Some((*number, signalled))
                }
                _ => None,
            }
        });
        let Some((_, signalled)) = waiting.min_by_key(|(number, _)| *number) else { break };
        *signalled = true;
        any = true;
        if !all {
            break;
        }
    }
    if any && schedule.running.is_none() {
        schedule.pass_on(0);
    }
    any
}

/// Returns whether a thread takes part.
pub(super) fn takes_part(thread: usize) -> bool {
    schedule().places.iter().any(|place| place.taken && place.thread == thread)
}

impl Schedule {
    /// Gives the turn to the first place after this one, or itself at last, whose thread need not wait.
    fn pass_on(&mut self, place: usize) {
        let order = || (1..=PLACES).map(|step| (place + step) % PLACES);
        let ready = order().find(|&next| self.places[next].taken && !self.must_wait(next));
        let next =
            ready.or_else(|| order().find(|&next| self.places[next].taken && self.places[next].has_limit));
        self.running = next;
        if let Some(next) = next {
            self.places[next].has_limit = false;
            WAKE[next].notify_all();
        }
    }

    #[expect(unsafe_code, reason = "a number of another thread's is looked at")]
    fn must_wait(&self, place: usize) -> bool {
        match self.places[place].wait {
            Wait::Turn => false,
            Wait::Condition { signalled, .. } => !signalled,
            Wait::Change { address, from } => {
                let number = std::ptr::with_exposed_provenance_mut(address);
                // SAFETY: a thread waits in a function that it gave the address to, so it is valid; it is used as an atomic.
                unsafe { AtomicU32::from_ptr(number) }.load(Ordering::Acquire) == from
            }
            Wait::End { thread } => self.places.iter().any(|place| place.taken && place.thread == thread),
        }
    }
}

fn wait_for_turn(mut schedule: MutexGuard<'static, Schedule>, place: usize) -> Wait {
    let mut seen = (None, 0);
    let mut looks = 0;
    while schedule.running != Some(place) {
        let limit = if schedule.running.is_some() { WHILE_OTHERS_RUN } else { WHILE_ALL_WAIT };
        (schedule, _) = WAKE[place].wait_timeout(schedule, limit).unwrap_or_else(PoisonError::into_inner);
        let Some(running) = schedule.running else {
            schedule.pass_on(place);
            continue;
        };
        let now = (Some(running), processor_time_ns(schedule.places[running].thread));
        looks = if now == seen && !schedule.must_wait(place) { looks + 1 } else { 0 };
        seen = now;
        if looks > LOOKS {
            let _ =
                rustix::io::write(rustix::stdio::stderr(), b"the library's threads wait for each other\n");
            std::process::abort();
        }
    }
    std::mem::replace(&mut schedule.places[place].wait, Wait::Turn)
}

/// Returns how long a thread has computed; 0 if that is not known.
#[expect(unsafe_code, reason = "the C library is asked")]
fn processor_time_ns(thread: usize) -> i64 {
    unsafe extern "C" {
        fn pthread_getcpuclockid(thread: usize, clock: *mut i32) -> i32;
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    let (mut clock, mut time) = (0, [0, 0]);
    // SAFETY: a place is given back before its thread ends, and the schedule is locked, so the thread is there.
    if thread == 0 || unsafe { pthread_getcpuclockid(thread, &raw mut clock) } != 0 {
        return 0;
    }
    // SAFETY: seconds and nanoseconds are written.
    let error = unsafe { clock_gettime(clock, &raw mut time) };
    if error == 0 { time[0].saturating_mul(1_000_000_000).saturating_add(time[1]) } else { 0 }
}

fn schedule() -> MutexGuard<'static, Schedule> {
    SCHEDULE.lock().unwrap_or_else(PoisonError::into_inner)
}
