//! The C library's functions that start threads and wait, which this executable defines. For threads that take part, waiting is
//! the [schedule](super::schedule)'s; for all others, the C library's own functions are called.

#![expect(unsafe_code, reason = "these functions replace those of the C library")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute_copy;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::schedule::{self, Wait};
use crate::rising;

/// From `errno.h`, the same on every Linux.
const EBUSY: c_int = 16;
const ETIMEDOUT: c_int = 110;
const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
/// How long a thread waits before it tries again to lock what a thread that takes no part has locked.
const BUSY: Duration = Duration::from_micros(20);
/// The number of processors that the library is told: it starts as many threads as they are.
const PROCESSORS: c_int = 2;

type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    fn dlvsym(library: *mut c_void, name: *const c_char, version: *const c_char) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn pthread_mutex_trylock(mutex: *mut c_void) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut c_void) -> c_int;
    fn pthread_rwlock_tryrdlock(lock: *mut c_void) -> c_int;
    fn pthread_rwlock_trywrlock(lock: *mut c_void) -> c_int;
    fn pthread_key_create(key: *mut u32, destructor: unsafe extern "C" fn(*mut c_void)) -> c_int;
    fn pthread_setspecific(key: u32, value: *const c_void) -> c_int;
}

/// A function of the C library's, or of C++'s, behind one of the same name here.
struct Next {
    name: &'static CStr,
    /// Of the symbol, where there is more than one.
    version: Option<&'static CStr>,
    address: AtomicUsize,
}

impl Next {
    const fn new(name: &'static CStr) -> Self {
        Self { name, version: None, address: AtomicUsize::new(0) }
    }

    const fn of_version(name: &'static CStr, version: &'static CStr) -> Self {
        Self { name, version: Some(version), address: AtomicUsize::new(0) }
    }

    /// Returns the function.
    ///
    /// # Safety
    /// `F` is a pointer to a function of its type.
    unsafe fn get<F: Copy>(&self) -> F {
        let mut address = self.address.load(Ordering::Relaxed);
        if address == 0 {
            let found = match self.version {
                // SAFETY: both are C strings.
                Some(version) => unsafe { dlvsym(RTLD_NEXT, self.name.as_ptr(), version.as_ptr()) },
                // SAFETY: a C string.
                None => unsafe { dlsym(RTLD_NEXT, self.name.as_ptr()) },
            };
            if found.is_null() {
                let _ = rustix::io::write(rustix::stdio::stderr(), self.name.to_bytes());
                let _ = rustix::io::write(rustix::stdio::stderr(), b" is not in the C library\n");
                std::process::abort();
            }
            address = found.expose_provenance();
            self.address.store(address, Ordering::Relaxed);
        }
        let pointer: *mut c_void = ptr::with_exposed_provenance_mut(address);
        // SAFETY: the caller's promise.
        unsafe { transmute_copy(&pointer) }
    }
}

/// What a new thread is told.
struct Beginning {
    start: Start,
    argument: *mut c_void,
    place: usize,
}

/// How often the C library calls a destructor of a thread's value that is set again: `PTHREAD_DESTRUCTOR_ITERATIONS`.
const LAST_CALL: usize = 4;

/// Makes this thread give its turn away when it ends, however it does: after the destructors of its C++ objects, which may lock
/// what others need, and after those of all other values.
fn leave_at_the_end() {
    static KEY: OnceLock<Option<u32>> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = 0;
        // SAFETY: the key is written, and the destructor takes any value.
        let error = unsafe { pthread_key_create(&raw mut key, leave) };
        (error == 0).then_some(key)
    });
    unsafe extern "C" fn leave(call: *mut c_void) {
        if call.addr() < LAST_CALL {
            set(call.addr() + 1);
        } else if let Some(place) = schedule::place() {
            schedule::leave(place);
        }
    }
    fn set(call: usize) {
        if let Some(key) = KEY.get().copied().flatten() {
            // SAFETY: the key was created; the value is a number.
            unsafe { pthread_setspecific(key, ptr::without_provenance(call)) };
        }
    }
    match key {
        Some(_) => set(1),
        None => std::process::abort(),
    }
}

unsafe extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    // SAFETY: `pthread_create` below made it for this thread alone.
    let Beginning { start, argument, place } = *unsafe { Box::from_raw(beginning.cast::<Beginning>()) };
    schedule::enter(place);
    leave_at_the_end();
    // SAFETY: as whoever created the thread promises.
    unsafe { start(argument) }
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut usize,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    type Create = unsafe extern "C" fn(*mut usize, *const c_void, Start, *mut c_void) -> c_int;
    static NEXT: Next = Next::of_version(c"pthread_create", c"GLIBC_2.2.5");
    // SAFETY: the function's type.
    let create: Create = unsafe { NEXT.get() };
    let Some(place) = schedule::place().and_then(|_| schedule::reserve()) else {
        // SAFETY: as the caller promises.
        return unsafe { create(thread, attributes, start, argument) };
    };
    let beginning = rising::apart(|| Box::into_raw(Box::new(Beginning { start, argument, place })));
    // SAFETY: as the caller promises; `begin` takes the box.
    let create = || unsafe { create(thread, attributes, begin, beginning.cast()) };
    // Whether the C library allocates for a thread depends on whether another one has just ended.
    let error = rising::apart(create);
    if error == 0 {
        // SAFETY: it was written just now.
        schedule::name(place, unsafe { thread.read() });
    } else {
        schedule::cancel(place);
        // SAFETY: no thread took it.
        drop(unsafe { Box::from_raw(beginning) });
    }
    error
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_join(thread: usize, result: *mut *mut c_void) -> c_int {
    type Join = unsafe extern "C" fn(usize, *mut *mut c_void) -> c_int;
    static NEXT: Next = Next::of_version(c"pthread_join", c"GLIBC_2.2.5");
    if let Some(place) = schedule::place()
        && schedule::takes_part(thread)
    {
        schedule::wait(place, Some(Wait::End { thread }), false);
    }
    // SAFETY: the function's type, and as the caller promises.
    unsafe { NEXT.get::<Join>()(thread, result) }
}

/// Tries until it is locked, with turns of others in between.
fn lock(place: usize, mut try_lock: impl FnMut() -> c_int) -> c_int {
    loop {
        let error = try_lock();
        if error != EBUSY {
            return error;
        }
        if !schedule::yield_turn(place) {
            std::thread::park_timeout(BUSY);
        }
    }
}

macro_rules! locks {
    ($($name:ident, $text:literal, $version:literal, $try_lock:ident;)*) => {$(
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(locked: *mut c_void) -> c_int {
            static NEXT: Next = Next::of_version($text, $version);
            match schedule::place() {
                // SAFETY: as the caller promises.
                Some(place) => lock(place, || unsafe { $try_lock(locked) }),
                // SAFETY: the function's type, and as the caller promises.
                None => unsafe { NEXT.get::<unsafe extern "C" fn(*mut c_void) -> c_int>()(locked) },
            }
        }
    )*};
}

locks! {
    pthread_mutex_lock, c"pthread_mutex_lock", c"GLIBC_2.2.5", pthread_mutex_trylock;
    pthread_rwlock_rdlock, c"pthread_rwlock_rdlock", c"GLIBC_2.2.5", pthread_rwlock_tryrdlock;
    pthread_rwlock_wrlock, c"pthread_rwlock_wrlock", c"GLIBC_2.2.5", pthread_rwlock_trywrlock;
}

/// Waits for a signal, with the mutex unlocked; returns whether there was one.
///
/// # Safety
/// As `pthread_cond_wait`.
unsafe fn wait_for_signal(place: usize, condition: *mut c_void, mutex: *mut c_void, has_limit: bool) -> bool {
    // A signal counts from before the mutex is unlocked.
    schedule::announce(place, schedule::condition(condition.addr()));
    // SAFETY: the caller has locked it.
    unsafe { pthread_mutex_unlock(mutex) };
    let waited = schedule::wait(place, None, has_limit);
    // SAFETY: as the caller promises.
    lock(place, || unsafe { pthread_mutex_trylock(mutex) });
    matches!(waited, Wait::Condition { signalled: true, .. })
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_wait(condition: *mut c_void, mutex: *mut c_void) -> c_int {
    type CondWait = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
    static NEXT: Next = Next::of_version(c"pthread_cond_wait", c"GLIBC_2.3.2");
    let Some(place) = schedule::place() else {
        // SAFETY: the function's type, and as the caller promises.
        return unsafe { NEXT.get::<CondWait>()(condition, mutex) };
    };
    // SAFETY: as the caller promises.
    unsafe { wait_for_signal(place, condition, mutex, false) };
    0
}

/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const c_void,
) -> c_int {
    type TimedWait = unsafe extern "C" fn(*mut c_void, *mut c_void, *const c_void) -> c_int;
    static NEXT: Next = Next::of_version(c"pthread_cond_timedwait", c"GLIBC_2.3.2");
    let Some(place) = schedule::place() else {
        // SAFETY: the function's type, and as the caller promises.
        return unsafe { NEXT.get::<TimedWait>()(condition, mutex, until) };
    };
    // SAFETY: as the caller promises.
    if unsafe { wait_for_signal(place, condition, mutex, true) } { 0 } else { ETIMEDOUT }
}

macro_rules! signals {
    ($($name:ident, $text:literal, $all:literal;)*) => {$(
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(condition: *mut c_void) -> c_int {
            static NEXT: Next = Next::of_version($text, c"GLIBC_2.3.2");
            if schedule::signal(condition.addr(), $all) && !$all {
                return 0;
            }
            // Threads that take no part wait in the C library.
            // SAFETY: the function's type, and as the caller promises.
            unsafe { NEXT.get::<unsafe extern "C" fn(*mut c_void) -> c_int>()(condition) }
        }
    )*};
}

signals! {
    pthread_cond_signal, c"pthread_cond_signal", false;
    pthread_cond_broadcast, c"pthread_cond_broadcast", true;
}

/// C++'s `std::future` waits with this: `std::__atomic_futex_unsigned_base::_M_futex_wait_until`. It returns whether the number
/// may be another one than `from`.
///
/// # Safety
/// As C++'s.
#[unsafe(no_mangle)]
unsafe extern "C" fn _ZNSt28__atomic_futex_unsigned_base19_M_futex_wait_untilEPjjbNSt6chrono8durationIlSt5ratioILl1ELl1EEEENS2_IlS3_ILl1ELl1000000000EEEE(
    this: *mut c_void,
    number: *mut u32,
    from: u32,
    has_limit: bool,
    seconds: i64,
    nanoseconds: i64,
) -> bool {
    type WaitUntil = unsafe extern "C" fn(*mut c_void, *mut u32, u32, bool, i64, i64) -> bool;
    static NEXT: Next = Next::new(
        c"_ZNSt28__atomic_futex_unsigned_base19_M_futex_wait_untilEPjjbNSt6chrono8durationIlSt5ratioILl1ELl1EEEENS2_IlS3_ILl1ELl1000000000EEEE",
    );
    let Some(place) = schedule::place() else {
        // SAFETY: the function's type, and as the caller promises.
        return unsafe { NEXT.get::<WaitUntil>()(this, number, from, has_limit, seconds, nanoseconds) };
    };
    schedule::wait(place, Some(Wait::Change { address: number.expose_provenance(), from }), has_limit);
    // SAFETY: the caller's number, which is used as an atomic.
    !has_limit || unsafe { AtomicU32::from_ptr(number) }.load(Ordering::Acquire) != from
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn sched_yield() -> c_int {
    static NEXT: Next = Next::new(c"sched_yield");
    match schedule::place() {
        Some(place) => {
            schedule::yield_turn(place);
            0
        }
        // SAFETY: the function's type.
        None => unsafe { NEXT.get::<unsafe extern "C" fn() -> c_int>()() },
    }
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn get_nprocs() -> c_int {
    static NEXT: Next = Next::new(c"get_nprocs");
    if schedule::place().is_some() {
        return PROCESSORS;
    }
    // SAFETY: the function's type.
    unsafe { NEXT.get::<unsafe extern "C" fn() -> c_int>()() }
}
