//! Work on many tensors with all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `work` for every item, on as many threads as there are cores, and returns one of its errors. After an error
/// no new item is begun.
pub(super) fn for_each<T: Sync, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    let (next, failed, error) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let run = || {
        while !failed.load(Ordering::Relaxed)
            && let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed))
        {
            if let Err(found) = work(item) {
                failed.store(true, Ordering::Relaxed);
                error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(found);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    error.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_are_seen_and_errors_come_back() {
        let seen = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let add = |item: &usize| {
            seen.fetch_add(*item, Ordering::Relaxed);
            if *item == 999 { Err("last") } else { Ok(()) }
        };
        assert_eq!(for_each(&items, add), Err("last"));
        assert_eq!(seen.into_inner(), 999 * 500);
        assert_eq!(for_each(&[] as &[usize], add_nothing), Ok(()));
    }

    fn add_nothing(_: &usize) -> Result<(), &'static str> {
        Err("never called")
    }
}
