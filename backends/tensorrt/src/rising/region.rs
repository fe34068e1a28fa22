//! A region of address space whose blocks have rising addresses: each lies above every block that was allocated before it, and
//! no address is used twice.
//!
//! Addresses are not memory. The region is reserved without any, gets it where a block is written, and gives it back when
//! blocks are freed: it is divided into cells, each with a count of the bytes in it that will never be used again, and a cell
//! that is all of that goes back to the kernel. So the memory in use stays near that of the live blocks.
//!
//! Nothing locks: an address is handed out by one atomic operation, so the blocks of one thread rise whatever other threads do,
//! a `fork` in the middle of anything leaves a region that works, and so does a thread that was stopped.
//!
//! Nothing here may allocate or touch `errno`: this is what allocates. `rustix` makes system calls directly.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

/// What goes back to the kernel at once, in bytes. A multiple of the page size.
const CELL: usize = 64 * 1024;
/// Memory becomes writable in steps of so many bytes: a page of counts belongs to each.
const STEP: usize = CELL / size_of::<AtomicU32>() * 4096;
/// Every block is a multiple of this, with its header.
const UNIT: usize = 16;
/// The number before each block: its size with this number, and [`LIVE`].
const HEADER: usize = size_of::<usize>();
/// Marks the header of a block that was not freed.
const LIVE: usize = 0b1010;
/// The smallest region that is worth reserving.
const MIN_BYTES: usize = 1 << 30;
/// Where a region lies if nothing else does: programs and libraries are far above on Linux.
const USUAL_START: usize = 1 << 45;

const UNRESERVED: usize = 0;
/// Reserving it failed, or a thread is at it.
const NONE: usize = 1;

/// A region; its address space is reserved by the first allocation, and never given back.
pub(super) struct Region {
    /// How much address space to reserve at most, in bytes: a power of two.
    max_bytes: usize,
    /// The first address, [`UNRESERVED`] or [`NONE`].
    start: AtomicUsize,
    /// The address after the last cell, where the counts begin.
    end: AtomicUsize,
    /// Where the next block begins; its header comes first.
    top: AtomicUsize,
    /// Cells are writable below this address, and so are their counts.
    writable: AtomicUsize,
    /// Whether an allocation was refused.
    refused: AtomicBool,
}

/// Where a block lies: its address, and the end of what belongs to it.
#[derive(Clone, Copy)]
struct Block {
    address: usize,
    end: usize,
}

impl Region {
    pub(super) const fn new(max_bytes: usize) -> Self {
        assert!(
            max_bytes.is_power_of_two() && max_bytes >= MIN_BYTES,
            "a region of that size makes no sense"
        );
        Self {
            max_bytes,
            start: AtomicUsize::new(UNRESERVED),
            end: AtomicUsize::new(0),
            top: AtomicUsize::new(0),
            writable: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
        }
    }

    /// Returns a block of at least `size` bytes above all others, zeroed, or `None` if there is no address space or memory for
    /// it. `align` is a power of two.
    pub(super) fn allocate(&self, size: usize, align: usize) -> Option<*mut c_void> {
        let block = if self.is_reserved() { self.place(size, align) } else { None };
        if block.is_none() {
            self.refused.store(true, Ordering::Relaxed);
        }
        block.map(|Block { address, end: _ }| ptr::with_exposed_provenance_mut(address))
    }

    /// Returns whether a block is one of this region.
    pub(super) fn contains(&self, block: *mut c_void) -> bool {
        let (start, end) = (self.start.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        start > NONE && (start..end).contains(&block.addr())
    }

    /// Returns the number of bytes that may be used of a block.
    ///
    /// # Safety
    /// It is a live block of this region.
    #[expect(unsafe_code, reason = "the header lies before the block")]
    pub(super) unsafe fn usable_size(&self, block: *mut c_void) -> usize {
        // SAFETY: the caller's promise is the same.
        let Block { address, end } = unsafe { self.block(block) };
        end.wrapping_sub(address)
    }

    /// Frees a block.
    ///
    /// # Safety
    /// It is a live block of this region, and not used from now on.
    #[expect(unsafe_code, reason = "the header lies before the block")]
    pub(super) unsafe fn free(&self, block: *mut c_void) {
        // SAFETY: the caller's promise is the same.
        let Block { address, end } = unsafe { self.block(block) };
        let header = address.wrapping_sub(HEADER);
        // SAFETY: `block` has read the header. The block was ours to free, so nobody else writes there.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(header).write(0) };
        self.never_again(header, end);
    }

    /// Makes a block smaller where it is; returns `false` and does nothing if it is too small for `size` bytes.
    ///
    /// # Safety
    /// It is a live block of this region, and what lies beyond `size` is not used from now on.
    #[expect(unsafe_code, reason = "the header lies before the block")]
    pub(super) unsafe fn shrink(&self, block: *mut c_void, size: usize) -> bool {
        // SAFETY: the caller's promise is the same.
        let Block { address, end } = unsafe { self.block(block) };
        let header = address.wrapping_sub(HEADER);
        let Some(new_size) = size_with_header(size) else { return false };
        let new_end = header.wrapping_add(new_size);
        if new_end > end {
            return false;
        }
        // SAFETY: `block` has read the header. The block is the caller's, so nobody else writes there.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(header).write(new_size | LIVE) };
        self.never_again(new_end, end);
        true
    }

    /// Continues at so many bytes from the start, if it has not come as far. The addresses in between are never used.
    pub(super) fn skip_to(&self, bytes: usize) {
        if self.is_reserved() {
            let top = self.start.load(Ordering::Relaxed).saturating_add(bytes & !(UNIT - 1));
            self.top.fetch_max(top.saturating_add(UNIT - HEADER), Ordering::Relaxed);
        }
    }

    /// Returns whether an allocation was refused since this was last asked.
    pub(super) fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::Relaxed)
    }

    /// Reads where a block lies. Ends the process if it is not a live one, as every allocator does when it notices.
    ///
    /// # Safety
    /// As [`Self::free`].
    #[expect(unsafe_code, reason = "the header lies before the block")]
    unsafe fn block(&self, block: *mut c_void) -> Block {
        let address = block.addr();
        // SAFETY: each block of the region has a header before it, which was written when it was allocated.
        let header = unsafe { ptr::with_exposed_provenance::<usize>(address.wrapping_sub(HEADER)).read() };
        if header % UNIT != LIVE {
            let _ =
                rustix::io::write(rustix::stdio::stderr(), b"free of what was not allocated, or is free\n");
            std::process::abort();
        }
        Block { address, end: address.wrapping_sub(HEADER).wrapping_add(header - LIVE) }
    }

    /// Takes the next addresses, and writes the header.
    #[expect(unsafe_code, reason = "the header lies before the block")]
    fn place(&self, size: usize, align: usize) -> Option<Block> {
        let size = size_with_header(size)?;
        let end_of_all = self.end.load(Ordering::Relaxed);
        let mut top = self.top.load(Ordering::Relaxed);
        let (address, end) = loop {
            let address = top.checked_add(HEADER)?.checked_next_multiple_of(align.max(UNIT))?;
            let end = address.checked_sub(HEADER)?.checked_add(size)?;
            if end > end_of_all || !self.make_writable(end) {
                return None;
            }
            match self.top.compare_exchange_weak(top, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break (address, end),
                Err(now) => top = now,
            }
        };
        let header = address.wrapping_sub(HEADER);
        // SAFETY: the addresses from `top` to `end` are this thread's alone since the exchange, and writable. The header is
        // aligned, for the block is aligned to more than its size.
        unsafe { ptr::with_exposed_provenance_mut::<usize>(header).write(size | LIVE) };
        // What alignment skipped.
        self.never_again(top, header);
        Some(Block { address, end })
    }

    /// Counts the bytes from `from` to `to` as ones that will never be used again, and gives cells of nothing else back.
    fn never_again(&self, from: usize, to: usize) {
        if from >= to {
            return;
        }
        let (first, last) = (from & !(CELL - 1), (to - 1) & !(CELL - 1));
        if first == last {
            if self.count(first, to - from) {
                give_back(first, CELL);
            }
            return;
        }
        // Cells in the middle were this block's alone.
        let begin = if self.count(first, first + CELL - from) { first } else { first + CELL };
        let end = if self.count(last, to - last) { last + CELL } else { last };
        if begin < end {
            give_back(begin, end - begin);
        }
    }

    /// Adds to the count of a cell; returns whether there is nothing else in it.
    #[expect(unsafe_code, reason = "counts lie in the region")]
    fn count(&self, cell: usize, bytes: usize) -> bool {
        let index = (cell - self.start.load(Ordering::Relaxed)) / CELL;
        let count = self.end.load(Ordering::Relaxed) + index * size_of::<AtomicU32>();
        // SAFETY: the cell holds bytes that were allocated, so it lies below `writable`, and its count is writable too. It is
        // aligned, zero at first, and only used as an atomic.
        let count = unsafe { &*ptr::with_exposed_provenance::<AtomicU32>(count) };
        // What other threads wrote into the cell was written before it goes.
        count.fetch_add(bytes as u32, Ordering::AcqRel) as usize + bytes == CELL
    }

    /// Makes cells writable up to `to` at least, with their counts; returns whether they are.
    #[expect(unsafe_code, reason = "memory is asked for")]
    fn make_writable(&self, to: usize) -> bool {
        let writable = self.writable.load(Ordering::Acquire);
        if to <= writable {
            return true;
        }
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        let new = start + (to - start).next_multiple_of(STEP);
        let new = new.min(end);
        let counts = |cells: usize| end + (cells - start).div_ceil(STEP) * 4096;
        // Several threads may do this at once: it is the same to the kernel.
        for (from, to) in [(writable, new), (counts(writable), counts(new))] {
            let access = MprotectFlags::READ | MprotectFlags::WRITE;
            let pointer = ptr::with_exposed_provenance_mut(from);
            // SAFETY: the range lies in the region, which is ours, and nothing in it gets fewer rights than it had.
            if from < to && unsafe { rustix::mm::mprotect(pointer, to - from, access) }.is_err() {
                return false;
            }
        }
        self.writable.fetch_max(new, Ordering::Release);
        true
    }

    fn is_reserved(&self) -> bool {
        let start = self.start.load(Ordering::Acquire);
        start > NONE || start == UNRESERVED && self.reserve()
    }

    /// Reserves address space: as much as there is, if it is limited (`ulimit -v`).
    #[cold]
    #[expect(unsafe_code, reason = "address space is asked for")]
    fn reserve(&self) -> bool {
        if self.start.compare_exchange(UNRESERVED, NONE, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            // The first allocation of a process comes before its second thread. Should it not, the other thread's blocks are
            // refused until this is done, which is noticed.
            return self.start.load(Ordering::Acquire) > NONE;
        }
        let mut bytes = self.max_bytes;
        while bytes >= MIN_BYTES {
            let usual = ptr::without_provenance_mut(USUAL_START);
            for (place, fixed) in [(usual, MapFlags::FIXED_NOREPLACE), (ptr::null_mut(), MapFlags::empty())] {
                let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | fixed;
                // SAFETY: a new mapping, which replaces no other.
                let mapped = unsafe { rustix::mm::mmap_anonymous(place, bytes, ProtFlags::empty(), flags) };
                if let Ok(start) = mapped {
                    self.begin(start.expose_provenance(), bytes);
                    return true;
                }
            }
            bytes /= 2;
        }
        false
    }

    /// Begins with the first cell. The counts come after the last one.
    fn begin(&self, mapped: usize, bytes: usize) {
        let start = mapped.next_multiple_of(CELL);
        let counts = (bytes / CELL * size_of::<AtomicU32>()).next_multiple_of(CELL);
        self.end.store((mapped + bytes - counts) & !(CELL - 1), Ordering::Relaxed);
        self.writable.store(start, Ordering::Relaxed);
        self.top.store(start + (UNIT - HEADER), Ordering::Relaxed);
        self.start.store(start, Ordering::Release);
    }
}

/// Returns what a block takes from its header on.
fn size_with_header(size: usize) -> Option<usize> {
    // An object larger than this can't be addressed; neither can most smaller ones, which the region's end decides.
    let size = size.checked_add(HEADER).filter(|&size| size <= isize::MAX as usize)?;
    size.checked_next_multiple_of(UNIT)
}

/// Lets the kernel have the memory of cells.
#[expect(unsafe_code, reason = "memory is given back")]
fn give_back(from: usize, bytes: usize) {
    // SAFETY: every byte of these cells was allocated once, is free, and will not be used again. Where the kernel refuses
    // (locked memory), it stays in use, and nothing else happens.
    let _ =
        unsafe { rustix::mm::madvise(ptr::with_exposed_provenance_mut(from), bytes, Advice::LinuxDontNeed) };
}

#[cfg(test)]
#[path = "region_tests.rs"]
mod tests;
