#![expect(unsafe_code, reason = "the functions are C's")]

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::*;

unsafe extern "C" {
    safe fn sched_yield() -> c_int;
    safe fn get_nprocs() -> c_int;
    fn pthread_mutex_lock(mutex: *mut c_void) -> c_int;
    fn pthread_mutex_unlock(mutex: *mut c_void) -> c_int;
    fn pthread_cond_wait(condition: *mut c_void, mutex: *mut c_void) -> c_int;
    fn pthread_cond_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const c_void) -> c_int;
    fn pthread_cond_signal(condition: *mut c_void) -> c_int;
    fn pthread_cond_broadcast(condition: *mut c_void) -> c_int;
}

/// A mutex or condition variable of C's: all zeros is how both begin.
struct Zeros(UnsafeCell<[u64; 8]>);

// SAFETY: only C's functions use it, which are for several threads.
unsafe impl Sync for Zeros {}

impl Zeros {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; 8]))
    }

    fn pointer(&self) -> *mut c_void {
        self.0.get().cast()
    }
}

/// A queue as libraries have it, with a log of what was done.
struct Queue {
    mutex: Zeros,
    filled: Zeros,
    items: Mutex<Vec<u32>>,
    log: Mutex<Vec<(u32, u32)>>,
}

impl Queue {
    fn new() -> Self {
        let (mutex, filled) = (Zeros::new(), Zeros::new());
        Self { mutex, filled, items: Mutex::default(), log: Mutex::default() }
    }

    fn push(&self, item: u32) {
        // SAFETY: the mutex and the condition variable are alive, and locked here.
        unsafe {
            pthread_mutex_lock(self.mutex.pointer());
            self.items.lock().unwrap().insert(0, item);
            pthread_cond_signal(self.filled.pointer());
            pthread_mutex_unlock(self.mutex.pointer());
        }
    }

    fn pop(&self) -> u32 {
        // SAFETY: the mutex and the condition variable are alive, and locked here.
        unsafe {
            pthread_mutex_lock(self.mutex.pointer());
            let item = loop {
                if let Some(item) = self.items.lock().unwrap().pop() {
                    break item;
                }
                pthread_cond_wait(self.filled.pointer(), self.mutex.pointer());
            };
            pthread_mutex_unlock(self.mutex.pointer());
            item
        }
    }

    /// Works on items until it gets a 0.
    fn work(&self, worker: u32) {
        loop {
            let item = self.pop();
            self.log.lock().unwrap().push((worker, item));
            if item == 0 {
                return;
            }
            if item.is_multiple_of(3) {
                sched_yield();
            }
        }
    }
}

/// All threads that take part share one schedule, and tests may be threads of one process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands 200 items to three threads; returns which did what in which order.
fn share_work() -> Vec<(u32, u32)> {
    let queue = Queue::new();
    thread::scope(|scope| {
        let queue = &queue;
        let workers: Vec<_> = (0..3).map(|worker| scope.spawn(move || queue.work(worker))).collect();
        for item in 1..=200 {
            queue.push(item);
            if item % 7 == 0 {
                sched_yield();
            }
        }
        (0..3).for_each(|_| queue.push(0));
        // A scope waits without the C library, and would keep the turn.
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    queue.log.into_inner().unwrap()
}

#[test]
fn work_is_shared_the_same_way_every_time() {
    let _alone = alone();
    let first = during(share_work);
    assert_eq!(first.len(), 203);
    let workers: Vec<u32> = first.iter().map(|(worker, _)| *worker).collect();
    assert!((0..3).all(|worker| workers.contains(&worker)), "{workers:?}");
    for _ in 0..30 {
        assert_eq!(during(share_work), first);
    }
}

#[test]
fn threads_that_take_no_part_work_as_ever() {
    let _alone = alone();
    assert_eq!(share_work().len(), 203);
    // Beside others that do.
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(share_work().len(), 203));
        assert_eq!(during(share_work).len(), 203);
    });
}

#[test]
fn one_thread_runs_at_a_time() {
    let _alone = alone();
    static RUNNING: Mutex<u32> = Mutex::new(0);
    let count = |by: i32| {
        let mut running = RUNNING.lock().unwrap();
        *running = running.checked_add_signed(by).unwrap();
        assert!(*running <= 1, "{running}");
    };
    during(|| {
        thread::scope(|scope| {
            let work = || {
                for _ in 0..50 {
                    count(1);
                    thread::sleep(Duration::from_micros(20));
                    count(-1);
                    sched_yield();
                }
            };
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
    });
}

#[test]
fn a_mutex_of_a_thread_that_takes_no_part_is_waited_for() {
    let _alone = alone();
    let mutex = Zeros::new();
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let mutex = &mutex;
        scope.spawn(move || {
            // SAFETY: the mutex is alive.
            unsafe { pthread_mutex_lock(mutex.pointer()) };
            sender.send(()).unwrap();
            thread::sleep(Duration::from_millis(30));
            // SAFETY: it was locked here.
            unsafe { pthread_mutex_unlock(mutex.pointer()) };
        });
        receiver.recv().unwrap();
        // SAFETY: the mutex is alive, and unlocked where it was locked.
        during(|| unsafe {
            pthread_mutex_lock(mutex.pointer());
            pthread_mutex_unlock(mutex.pointer());
        });
    });
}

#[test]
fn a_signal_of_a_thread_that_takes_no_part_is_heard() {
    let _alone = alone();
    let (mutex, condition) = (Zeros::new(), Zeros::new());
    let told = Mutex::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(30));
            // SAFETY: the mutex and the condition variable are alive.
            unsafe {
                pthread_mutex_lock(mutex.pointer());
                *told.lock().unwrap() = true;
                pthread_cond_broadcast(condition.pointer());
                pthread_mutex_unlock(mutex.pointer());
            }
        });
        // SAFETY: the mutex and the condition variable are alive, and locked here.
        during(|| unsafe {
            pthread_mutex_lock(mutex.pointer());
            while !*told.lock().unwrap() {
                pthread_cond_wait(condition.pointer(), mutex.pointer());
            }
            pthread_mutex_unlock(mutex.pointer());
        });
    });
}

#[test]
fn time_is_up_when_nobody_else_can_go_on() {
    let _alone = alone();
    let (mutex, condition) = (Zeros::new(), Zeros::new());
    let far = [i64::MAX / 2, 0];
    // SAFETY: the mutex and the condition variable are alive, and locked here.
    let error = during(|| unsafe {
        pthread_mutex_lock(mutex.pointer());
        let error = pthread_cond_timedwait(condition.pointer(), mutex.pointer(), far.as_ptr().cast());
        pthread_mutex_unlock(mutex.pointer());
        error
    });
    assert_eq!(error, 110);
}

#[test]
fn a_build_sees_two_processors() {
    let _alone = alone();
    let outside = get_nprocs();
    assert!(outside >= 1);
    assert_eq!(during(|| get_nprocs()), 2);
    assert_eq!(during(|| thread::scope(|scope| scope.spawn(|| get_nprocs()).join().unwrap())), 2);
    assert_eq!(get_nprocs(), outside);
}
