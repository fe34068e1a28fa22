use std::hint::black_box;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use std::sync::atomic::AtomicBool;

unsafe extern "C" {
    fn reallocarray(block: *mut c_void, count: usize, size: usize) -> *mut c_void;
    fn strdup(text: *const c_char) -> *mut c_char;
    fn __errno_location() -> *mut c_int;
}

/// Where blocks come from is one choice for the process, and tests may be threads of one.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    set_whose(EVERYBODYS);
    guard
}

#[test]
fn the_whole_process_allocates_in_the_region() {
    let _alone = alone();
    assert!(is_bound());
    assert!(REGION.contains(Box::into_raw(Box::new([1_u8; 100])).cast()));
    // SAFETY: a C string, and its copy, which is freed once.
    unsafe {
        let text = strdup(c"from the C library".as_ptr());
        assert!(REGION.contains(text.cast()));
        free(text.cast());
    }
}

#[test]
fn blocks_of_both_kinds_are_freed_at_any_time() {
    let _alone = alone();
    // SAFETY: each block is freed once, and used before.
    unsafe {
        let first = black_box(malloc(100));
        set_whose(NOBODYS);
        let second = black_box(malloc(100));
        assert!(REGION.contains(first) && !REGION.contains(second));
        assert!(malloc_usable_size(second) >= 100 && malloc_usable_size(first) == 104);
        let first = realloc(first, 1000);
        assert!(!REGION.contains(first));
        set_whose(EVERYBODYS);
        let second = realloc(second, 1_000_000);
        free(first);
        free(second);
        free(ptr::null_mut());
    }
    assert_eq!(take_refused() as u8, 0);
}

#[test]
fn reallocation_keeps_what_was_there() {
    let _alone = alone();
    // SAFETY: blocks are used within their sizes, and not after they are freed.
    unsafe {
        let mut block = realloc(ptr::null_mut(), 10).cast::<u8>();
        block.write_bytes(7, 10);
        for size in [11, 100, 5000, 1 << 20, 5000, 10] {
            block = realloc(block.cast(), size).cast();
            assert!(std::slice::from_raw_parts(block, 10).iter().all(|byte| *byte == 7), "{size}");
            assert!(malloc_usable_size(block.cast()) >= size);
        }
        assert!(reallocarray(block.cast(), usize::MAX, 2).is_null());
        assert!(realloc(block.cast(), isize::MAX as usize).is_null());
        assert_eq!(*__errno_location(), ENOMEM);
        assert_eq!(*block, 7);
        assert!(realloc(block.cast(), 0).is_null());
    }
    take_refused();
}

#[test]
fn sizes_that_are_nothing_or_too_much() {
    let _alone = alone();
    // SAFETY: nothing is used, and freed once.
    unsafe {
        let (first, second) = black_box((malloc(0), calloc(0, 10)));
        assert!(!first.is_null() && !second.is_null() && first != second);
        free(first);
        free(second);
        for block in [
            calloc(usize::MAX / 2, 3),
            malloc(usize::MAX),
            malloc(isize::MAX as usize),
            memalign(4096, usize::MAX - 10),
            pvalloc(usize::MAX - 10),
        ] {
            // The compiler knows these functions, and leaves out calls whose block is not used.
            assert!(black_box(block).is_null());
            assert_eq!(*__errno_location(), ENOMEM);
        }
    }
    take_refused();
}

#[test]
fn zeroed_memory_is_zero() {
    let _alone = alone();
    for round in 0..2000 {
        let size = round * 37;
        // SAFETY: the block is as large, and freed once.
        unsafe {
            let block = calloc(size, 3).cast::<u8>();
            let bytes = std::slice::from_raw_parts_mut(block, size * 3);
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(1);
            free(block.cast());
        }
    }
}

#[test]
fn alignment_is_that_asked_for() {
    let _alone = alone();
    // SAFETY: blocks are freed once.
    unsafe {
        for shift in 3..27 {
            let align = 1 << shift;
            let mut block = ptr::null_mut();
            assert_eq!(posix_memalign(&raw mut block, align, 100), 0);
            for block in [block, memalign(align, 10), aligned_alloc(align, align)] {
                assert!(REGION.contains(block) && block.addr().is_multiple_of(align));
                free(block);
            }
        }
        for align in [0, 4, 24, 100] {
            let mut block = ptr::null_mut();
            assert_eq!(posix_memalign(&raw mut block, align, 100), EINVAL);
            assert!(block.is_null());
        }
        let mut block = ptr::null_mut();
        assert_eq!(posix_memalign(&raw mut block, 64, usize::MAX - 100), ENOMEM);
        let (one, two) = (valloc(10), pvalloc(10));
        assert!(one.addr().is_multiple_of(PAGE) && two.addr().is_multiple_of(PAGE));
        assert!(malloc_usable_size(two) >= PAGE);
        free(one);
        free(two);
    }
    take_refused();
}

#[test]
fn freeing_keeps_errno() {
    let _alone = alone();
    // SAFETY: `errno` is this thread's; the block is freed once.
    unsafe {
        let block = malloc(10 << 20);
        block.cast::<u8>().write_bytes(1, 10 << 20);
        *__errno_location() = 77;
        free(block);
        assert_eq!(*__errno_location(), 77);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a child is what is tested")]
fn other_processes_start_while_threads_allocate() {
    let _alone = alone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    drop(black_box(vec![1_u8; 3000]));
                }
            });
        }
        for _ in 0..20 {
            assert!(Command::new("true").status().unwrap().success());
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn only_blocks_of_threads_that_build_are_in_the_region() {
    let _alone = alone();
    let is_in_region = || {
        // SAFETY: the block is freed once.
        unsafe {
            let block = black_box(malloc(100));
            free(block);
            REGION.contains(block)
        }
    };
    assert!(is_in_region());
    set_whose(BUILDERS);
    assert!(!is_in_region());
    assert!(!set_builds(true));
    assert!(is_in_region());
    assert!(!std::thread::scope(|scope| scope.spawn(is_in_region).join().unwrap()));
    assert!(set_builds(false));
    set_whose(EVERYBODYS);
}

#[test]
fn rusts_blocks_can_be_apart() {
    let _alone = alone();
    for align in [1, 16, 64, 4096] {
        let layout = Layout::from_size_align(100, align).unwrap();
        // SAFETY: blocks are used within their sizes, and freed once.
        unsafe {
            let block = Apart.alloc_zeroed(layout);
            assert!(!REGION.contains(block.cast()) && block.addr().is_multiple_of(align));
            assert!(std::slice::from_raw_parts(block, 100).iter().all(|byte| *byte == 0));
            block.write_bytes(7, 100);
            let block = Apart.realloc(block, layout, 10_000);
            assert!(!REGION.contains(block.cast()) && block.addr().is_multiple_of(align));
            assert!(std::slice::from_raw_parts(block, 100).iter().all(|byte| *byte == 7));
            Apart.dealloc(block, Layout::from_size_align(10_000, align).unwrap());
        }
    }
}
