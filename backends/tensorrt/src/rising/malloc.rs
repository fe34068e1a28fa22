//! The C library's functions for memory, which this executable defines: every library that is loaded binds to them, and Rust's
//! own allocator calls them.
//!
//! Blocks come from the [region](super::region) while the library is loaded and while it builds, else from the C library. What a
//! block belongs to is seen by its address, so each can be freed at any time.

#![expect(unsafe_code, reason = "these functions replace those of the C library")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

use super::region::Region;

/// 16 TiB of the 128 that a process has on x86-64: a ViT-L/14 takes 5 GB of it.
static REGION: Region = Region::new(1 << 44);
/// Whose blocks are in the region now. From the first allocation of the process on, the library that builds is expected to be
/// loaded, on any thread.
static WHOSE: AtomicU8 = AtomicU8::new(EVERYBODYS);
/// Nobody's: a plan runs.
pub(super) const NOBODYS: u8 = 0;
/// Those of the threads that build.
pub(super) const BUILDERS: u8 = 1;
/// Those of all threads.
pub(super) const EVERYBODYS: u8 = 2;

thread_local! {
    /// Whether this thread builds.
    static BUILDS: Cell<bool> = const { Cell::new(false) };
}

/// Where a build begins in the region: behind all that was allocated when the library was loaded.
const BEGINNING: usize = 256 << 20;

/// What the C library guarantees, so that types with stricter needs ask for it.
const MIN_ALIGN: usize = 16;
const PAGE: usize = 4096;
/// From `errno.h`, the same on every Linux.
const EINVAL: c_int = 22;
const ENOMEM: c_int = 12;
/// From `dlfcn.h`.
const RTLD_DEFAULT: *mut c_void = ptr::null_mut();
const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);

// The C library's own, under the names that it keeps for those who replace them.
unsafe extern "C" {
    fn __libc_malloc(size: usize) -> *mut c_void;
    fn __libc_calloc(count: usize, size: usize) -> *mut c_void;
    fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
    fn __libc_memalign(align: usize, size: usize) -> *mut c_void;
    fn __libc_free(block: *mut c_void);
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// Chooses whose blocks are in the region from now on.
pub(super) fn set_whose(whose: u8) {
    WHOSE.store(whose, Ordering::Relaxed);
}

/// Says whether this thread builds; returns whether it did before.
pub(super) fn set_builds(builds: bool) -> bool {
    BUILDS.replace(builds)
}

/// Lets a build begin at the same address in every process.
pub(super) fn begin() {
    REGION.skip_to(BEGINNING);
}

/// Returns whether an allocation since the last call did not get a block of the region although it should have.
pub(super) fn take_refused() -> bool {
    REGION.take_refused()
}

/// Returns whether libraries that are loaded bind to the functions here.
pub(super) fn is_bound() -> bool {
    // SAFETY: the name is a C string.
    let bound = unsafe { dlsym(RTLD_DEFAULT, c"malloc".as_ptr()) };
    bound.addr() == malloc as *const () as usize
}

fn rising(size: usize, align: usize) -> Option<*mut c_void> {
    let is_in_region = match WHOSE.load(Ordering::Relaxed) {
        NOBODYS => false,
        BUILDERS => BUILDS.get(),
        _ => true,
    };
    if is_in_region { REGION.allocate(size, align) } else { None }
}

/// Rust's allocator for a program whose own blocks are not to be among those of a build: how many they are depends on the
/// lengths of paths, and on how often progress is reported.
#[derive(Clone, Copy, Debug)]
pub struct Apart;

// SAFETY: these are the C library's functions, which keep what `GlobalAlloc` demands.
unsafe impl GlobalAlloc for Apart {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: any numbers will do; the alignment is a power of two.
        unsafe {
            if layout.align() <= MIN_ALIGN {
                __libc_malloc(layout.size()).cast()
            } else {
                __libc_memalign(layout.align(), layout.size()).cast()
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: as the caller promises.
        unsafe { __libc_free(block.cast()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= MIN_ALIGN {
            // SAFETY: any numbers will do.
            return unsafe { __libc_calloc(1, layout.size()).cast() };
        }
        // SAFETY: as the caller promises.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block is as large.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= MIN_ALIGN {
            // SAFETY: as the caller promises.
            return unsafe { __libc_realloc(block.cast(), new_size).cast() };
        }
        // SAFETY: the caller promises that the size, rounded up, is no overflow.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as the caller promises.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: both are as large, and different blocks; the old one is freed once.
            unsafe {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    match rising(size, MIN_ALIGN) {
        Some(block) => block,
        // SAFETY: any size will do.
        None => unsafe { __libc_malloc(size) },
    }
}

/// # Safety
/// The block is a live one, or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    if REGION.contains(block) {
        // SAFETY: as the caller promises.
        unsafe { REGION.free(block) }
    } else {
        // SAFETY: what the region doesn't have is the C library's.
        unsafe { __libc_free(block) }
    }
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // Memory of the region is zero until it is used, and never used again.
    match count.checked_mul(size).and_then(|bytes| rising(bytes, MIN_ALIGN)) {
        Some(block) => block,
        // SAFETY: any sizes will do; too large ones are refused.
        None => unsafe { __libc_calloc(count, size) },
    }
}

/// # Safety
/// The block is a live one, or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        // SAFETY: any size will do.
        return unsafe { malloc(size) };
    }
    if !REGION.contains(block) {
        // It stays where it is: no build began or ended since it was allocated, but for a few.
        // SAFETY: what the region doesn't have is the C library's.
        return unsafe { __libc_realloc(block, size) };
    }
    if size == 0 {
        // As the C library does.
        // SAFETY: as the caller promises.
        unsafe { free(block) };
        return ptr::null_mut();
    }
    // SAFETY: as the caller promises.
    if unsafe { REGION.shrink(block, size) } {
        return block;
    }
    // SAFETY: any size will do.
    let new = unsafe { malloc(size) };
    if !new.is_null() {
        // SAFETY: the old block is live, and smaller than the new one, which is another.
        unsafe {
            ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), REGION.usable_size(block));
            free(block);
        }
    }
    new
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    let block = if align.is_power_of_two() { rising(size, align) } else { None };
    match block {
        Some(block) => block,
        // SAFETY: any numbers will do.
        None => unsafe { __libc_memalign(align, size) },
    }
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    // SAFETY: any numbers will do.
    unsafe { memalign(align, size) }
}

/// # Safety
/// `out` may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return EINVAL;
    }
    // SAFETY: any numbers will do.
    let block = unsafe { memalign(align, size) };
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: as the caller promises.
    unsafe { out.write(block) };
    0
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    // SAFETY: any numbers will do.
    unsafe { memalign(PAGE, size) }
}

/// # Safety
/// None is needed; it is C's.
#[unsafe(no_mangle)]
unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    // A size that can't be rounded up can't be allocated either.
    // SAFETY: any numbers will do.
    unsafe { memalign(PAGE, size.checked_next_multiple_of(PAGE).unwrap_or(size)) }
}

/// # Safety
/// The block is a live one, or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    if REGION.contains(block) {
        // SAFETY: as the caller promises.
        return unsafe { REGION.usable_size(block) };
    }
    // The C library keeps no second name for this one.
    // SAFETY: the name is a C string.
    let function = unsafe { dlsym(RTLD_NEXT, c"malloc_usable_size".as_ptr()) };
    if block.is_null() || function.is_null() {
        return 0;
    }
    // SAFETY: it is a function of this type.
    let function: unsafe extern "C" fn(*mut c_void) -> usize = unsafe { transmute(function) };
    // SAFETY: what the region doesn't have is the C library's.
    unsafe { function(block) }
}

#[cfg(test)]
#[path = "malloc_tests.rs"]
mod tests;
