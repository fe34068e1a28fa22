#![expect(unsafe_code, reason = "blocks are freed and written")]

use std::os::unix::fs::FileExt as _;

use super::*;

/// A small region, which stays reserved until the process ends.
fn region() -> Region {
    Region::new(MIN_BYTES)
}

fn take(region: &Region, size: usize, align: usize) -> *mut c_void {
    region.allocate(size, align).unwrap()
}

/// Takes a block and writes all of it.
fn fill(region: &Region, size: usize) -> *mut c_void {
    let block = take(region, size, 16);
    // SAFETY: the block is as large.
    unsafe { block.cast::<u8>().write_bytes(1, size) };
    block
}

/// Returns how many bytes from an address on have memory.
fn resident(from: usize, bytes: usize) -> usize {
    let file = fs_err::File::open("/proc/self/pagemap").unwrap();
    let pages = bytes / 4096;
    let mut entries = vec![0; pages * 8];
    file.file().read_exact_at(&mut entries, (from / 4096 * 8) as u64).unwrap();
    entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count() * 4096
}

#[test]
fn every_block_is_above_all_before_it() {
    let region = region();
    let mut blocks: Vec<*mut c_void> = Vec::new();
    for round in 0..20_000_usize {
        let block = take(&region, round * 7919 % 3000, 1 << (round % 13));
        assert!(blocks.last().is_none_or(|last| *last < block));
        blocks.push(block);
        if round % 3 == 0 {
            // SAFETY: a live block, not used any more.
            unsafe { region.free(blocks[round / 2]) };
            blocks[round / 2] = block;
            blocks.truncate(round / 2 + 1);
            blocks.resize(round + 1, block);
        }
    }
}

#[test]
fn blocks_are_aligned_zeroed_and_do_not_overlap() {
    let region = region();
    let mut end = 0;
    for round in 0..5_000_usize {
        let (size, align) = (round * 31 % 70_000, 1 << (round % 18));
        let block = take(&region, size, align);
        assert!(block.addr().is_multiple_of(align.max(16)), "{block:?} for {align}");
        assert!(block.addr() >= end);
        // SAFETY: a live block.
        let usable = unsafe { region.usable_size(block) };
        assert!((size..size + 16).contains(&usable), "{usable} for {size}");
        // SAFETY: the block is so large, and the region's memory begins as zeros.
        let bytes = unsafe { std::slice::from_raw_parts_mut(block.cast::<u8>(), usable) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes.fill(0xff);
        end = block.addr() + usable;
        if round % 2 == 0 {
            // SAFETY: a live block, not used any more.
            unsafe { region.free(block) };
        }
    }
}

#[test]
fn memory_of_freed_blocks_is_given_back() {
    for size in [24, 1000, 5000, CELL - 8, CELL, 3 * CELL + 100, 40 * CELL] {
        let region = region();
        let total = 64 << 20;
        let blocks: Vec<_> = (0..total / size).map(|_| fill(&region, size)).collect();
        let (from, to) = (blocks[0].addr() & !4095, region.top.load(Ordering::Relaxed));
        let before = resident(from, to - from);
        assert!(before > total / 10 * 9, "{before} of {total} in blocks of {size}");
        // Every second first: a cell goes when its last block does.
        for start in [0, 1] {
            for block in blocks.iter().skip(start).step_by(2) {
                // SAFETY: a live block, not used any more.
                unsafe { region.free(*block) };
            }
        }
        let after = resident(from, to - from);
        assert!(after <= 2 * CELL, "{after} of {total} in blocks of {size}");
    }
}

#[test]
fn a_live_block_keeps_its_memory() {
    let region = region();
    for size in [1, 100, CELL / 2, CELL, 2 * CELL] {
        let mut kept = Vec::new();
        for round in 0..200 {
            let block = fill(&region, size);
            if round % 7 == 0 {
                kept.push(block);
            } else {
                // SAFETY: a live block, not used any more.
                unsafe { region.free(block) };
            }
        }
        for block in kept {
            // SAFETY: the block is as large, and was filled.
            let bytes = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), size) };
            assert!(bytes.iter().all(|byte| *byte == 1), "{size}");
        }
    }
}

#[test]
fn a_block_shrinks_where_it_is() {
    let region = region();
    let size = 10 * CELL;
    let block = fill(&region, size);
    let from = (block.addr() + 4095) & !4095;
    // SAFETY: a live block, of which nothing beyond the new size is used.
    unsafe {
        assert!(!region.shrink(block, size + 100));
        assert!(region.shrink(block, CELL));
        assert_eq!(region.usable_size(block), CELL + 8);
    }
    take(&region, CELL, 16);
    assert!(resident(from, size) < 4 * CELL);
    // SAFETY: the block is as large, and was filled.
    assert!(unsafe { std::slice::from_raw_parts(block.cast::<u8>(), CELL) }.iter().all(|byte| *byte == 1));
    // SAFETY: a live block, not used any more.
    unsafe { region.free(block) };
}

#[test]
fn each_threads_blocks_rise_and_belong_to_nobody_else() {
    let region = region();
    // Reserved here: while one thread does that, others get nothing.
    take(&region, 16, 16);
    std::thread::scope(|scope| {
        for number in 1..=8_u8 {
            let region = &region;
            scope.spawn(move || {
                let mut live: Vec<(usize, usize)> = Vec::new();
                let mut last = 0;
                for round in 0..20_000_usize {
                    let size = 1 + round * 7919 % 2500;
                    let block = take(region, size, 16);
                    assert!(block.addr() > last);
                    last = block.addr();
                    // SAFETY: the block is as large.
                    unsafe { block.cast::<u8>().write_bytes(number, size) };
                    live.push((block.expose_provenance(), size));
                    if live.len() > 50 {
                        let (address, size) = live.swap_remove(round % 50);
                        let block = ptr::with_exposed_provenance_mut::<c_void>(address);
                        // SAFETY: the block is as large, and this thread filled it.
                        let bytes = unsafe { std::slice::from_raw_parts(block.cast::<u8>(), size) };
                        assert!(bytes.iter().all(|byte| *byte == number));
                        // SAFETY: a live block, not used any more.
                        unsafe { region.free(block) };
                    }
                }
            });
        }
    });
    assert!(!region.take_refused());
}

#[test]
fn blocks_of_one_thread_are_freed_by_another() {
    let region = region();
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut last = 0;
    std::thread::scope(|scope| {
        let shared = &region;
        scope.spawn(move || {
            for address in receiver {
                // SAFETY: a live block, not used any more.
                unsafe { shared.free(ptr::with_exposed_provenance_mut(address)) };
            }
        });
        for _ in 0..100_000 {
            last = fill(&region, 300).expose_provenance();
            sender.send(last).unwrap();
        }
        drop(sender);
    });
    let from = last - (20 << 20);
    assert!(resident(from & !4095, 20 << 20) <= 2 * CELL);
}

#[test]
fn what_does_not_fit_is_refused_and_all_else_goes_on() {
    let region = region();
    assert!(!region.take_refused());
    let first = take(&region, 10, 16);
    for (size, align) in
        [(usize::MAX, 16), (isize::MAX as usize, 16), (MIN_BYTES, 16), (10, 1 << 40), (10, 1 << 63)]
    {
        assert!(region.allocate(size, align).is_none(), "{size} {align}");
        assert!(region.take_refused());
    }
    assert!(take(&region, 10, 16).addr() - first.addr() < 100);
    while region.allocate(100 << 20, 16).is_some() {}
    while region.allocate(100, 16).is_some() {}
    assert!(region.take_refused() && !region.take_refused());
    // SAFETY: a live block, not used any more.
    unsafe { region.free(first) };
}

#[test]
fn blocks_of_others_are_none_of_its_own() {
    let region = region();
    let mut number = 0;
    assert!(!region.contains(ptr::null_mut()));
    let block = take(&region, 1, 16);
    assert!(region.contains(block));
    assert!(!region.contains((&raw mut number).cast()));
}

#[test]
fn addresses_are_skipped_up_to_a_given_one() {
    let region = region();
    take(&region, 1000, 16);
    region.skip_to(100 << 20);
    let block = fill(&region, 3 * CELL);
    assert_eq!(block.addr() - region.start.load(Ordering::Relaxed), (100 << 20) + 16);
    region.skip_to(1 << 20);
    assert!(take(&region, 1, 16) > block);
    // SAFETY: a live block, not used any more.
    unsafe { region.free(block) };
}
