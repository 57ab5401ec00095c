//! Persistent threads for short parallel loops.
//!
//! A decode step runs some two hundred small matrix products, so handing one out must cost about a microsecond: workers
//! spin for a moment before they sleep, tasks are claimed from one counter, and the caller takes part. A worker that the
//! operating system has not scheduled is not waited for: once all tasks are claimed the caller closes the loop, and only
//! those who had entered it are awaited.
#![expect(
    unsafe_code,
    reason = "borrowed closures and disjoint output ranges are lent to threads that outlive the call"
)]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// How often a worker looks for the next loop before it sleeps: some tens of microseconds.
const SPINS: u32 = 2_000;

/// The loop is open: workers may enter.
const OPEN: u64 = 1 << 16;
/// The lowest bits count the workers inside.
const INSIDE: u64 = OPEN - 1;
/// The upper half numbers the loops, so that a worker enters each at most once.
const EPOCH: u64 = 1 << 32;

/// A fixed number of threads (the caller's included) that share parallel loops.
///
/// Results never depend on the number of threads, because kernels give every task its own outputs and no task adds into
/// another's. One loop runs at a time; a loop started from inside a task, or from a second thread meanwhile, runs on its
/// caller's thread alone.
pub struct Pool {
    shared: Arc<Shared>,
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

/// The borrowed body of the open loop, with its lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    n_tasks: usize,
}

struct Shared {
    /// Epoch, open flag and number of workers inside, in one word.
    state: AtomicU64,
    next: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
}

// SAFETY: `job` is written only by the thread that holds `busy`, while the loop is closed and nobody is inside; it is read
// only by workers that entered an open loop, and the closure behind it is Sync and outlives every worker's stay.
unsafe impl Sync for Shared {}
// SAFETY: as above; the raw pointer in `job` is dereferenced only while its closure is alive.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller of each loop being one of them. Zero means one per hardware thread.
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            n => n.min(1_024),
        };
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panic: Mutex::new(None),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let workers = (1..threads)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                let named = std::thread::Builder::new().name(format!("kernel-{i}"));
                // Fewer threads than asked for give the same results, only later.
                named.spawn(move || shared.work()).ok()
            })
            .collect();
        Self { shared, busy: Mutex::new(()), workers }
    }

    /// The number of threads that share a loop.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i)` once for every `i < n_tasks`, in no particular order, and returns when all have returned.
    ///
    /// # Panics
    /// With the panic of a task, after the others have ended.
    pub fn run(&self, n_tasks: usize, task: impl Fn(usize) + Sync) {
        if n_tasks <= 1 || self.workers.is_empty() {
            return (0..n_tasks).for_each(task);
        }
        let _busy = match self.busy.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..n_tasks).for_each(task),
        };
        self.shared.open(&task, n_tasks);
        self.shared.take_part(&task, n_tasks);
        self.shared.close();
        let panic = lock(&self.shared.panic).take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `data` into runs of `chunk` elements (the last may be shorter) and calls `task(i, run)` for each, in parallel.
    ///
    /// # Panics
    /// When `chunk` is zero, or with the panic of a task.
    pub fn chunks_mut<T: Send>(
        &self,
        data: &mut [T],
        chunk: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let (len, base) = (data.len(), SharedMut::new(data));
        self.run(len.div_ceil(chunk), |i| {
            let start = i * chunk;
            // SAFETY: task i alone touches [i * chunk, (i + 1) * chunk) of `data`, which is borrowed for the whole call.
            let part = unsafe { base.slice(start, chunk.min(len - start)) };
            task(i, part);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.sleep);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Lends the loop body to the workers. Only the holder of `busy` calls this, so the loop is closed and empty.
    fn open(&self, task: &(dyn Fn(usize) + Sync), n_tasks: usize) {
        // SAFETY: only the lifetime changes; `close` waits for every worker inside before the borrow ends, and nothing
        // between the two can unwind.
        let task = unsafe {
            std::mem::transmute::<
                *const (dyn Fn(usize) + Sync + '_),
                *const (dyn Fn(usize) + Sync + 'static),
            >(std::ptr::from_ref(task))
        };
        // SAFETY: the loop is closed and nobody is inside, so nobody reads `job`.
        unsafe { *self.job.get() = Some(Job { task, n_tasks }) };
        self.next.store(0, Ordering::Relaxed);
        let epoch = self.state.load(Ordering::Relaxed) & !(EPOCH - 1);
        self.state.store(epoch.wrapping_add(EPOCH) | OPEN, Ordering::SeqCst);
        // SeqCst on both sides: either we see the sleeper, or it sees the open loop before it sleeps.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&self.sleep);
            self.wake.notify_all();
        }
    }

    /// Runs tasks until none is left to claim. A panic is kept for the caller and ends this thread's part.
    fn take_part(&self, task: &(dyn Fn(usize) + Sync), n_tasks: usize) {
        let part = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= n_tasks {
                    break;
                }
                task(i);
            }
        }));
        if let Err(payload) = part {
            self.next.store(n_tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Closes the loop and waits until the workers inside have left.
    fn close(&self) {
        let mut state = self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while state & INSIDE != 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
            state = self.state.load(Ordering::Acquire);
        }
    }

    /// A worker's life: wait for an open loop it has not been in, enter, take part, leave.
    fn work(&self) {
        let mut seen = 0;
        while let Some(state) = self.wait(seen) {
            let entered = state + 1;
            if self
                .state
                .compare_exchange(state, entered, Ordering::AcqRel, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            seen = state / EPOCH;
            // SAFETY: we are inside an open loop, so `job` is set, is not written, and its closure is alive until we leave.
            let (task, n_tasks) = unsafe {
                let job = (*self.job.get()).expect("an open loop has a job");
                (&*job.task, job.n_tasks)
            };
            self.take_part(task, n_tasks);
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// The state of an open loop other than the `seen` one, or nothing when the pool ends.
    fn wait(&self, seen: u64) -> Option<u64> {
        for _ in 0..SPINS {
            if let Some(state) = self.enterable(seen) {
                return Some(state);
            }
            std::hint::spin_loop();
        }
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if self.stop.load(Ordering::SeqCst) {
                break None;
            }
            if let Some(state) = self.enterable(seen) {
                break Some(state);
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        found
    }

    fn enterable(&self, seen: u64) -> Option<u64> {
        let state = self.state.load(Ordering::SeqCst);
        (state & OPEN != 0 && state / EPOCH != seen).then_some(state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mutable slice whose disjoint parts are written by different tasks of one loop.
pub(crate) struct SharedMut<'a, T> {
    base: *mut T,
    len: usize,
    borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through `slice`, whose caller promises disjoint ranges; elements move between threads, hence Send.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Lends `data` to the tasks of a loop.
    pub(crate) fn new(data: &'a mut [T]) -> Self {
        Self { base: data.as_mut_ptr(), len: data.len(), borrow: std::marker::PhantomData }
    }

    /// The part `[start, start + len)`.
    ///
    /// # Safety
    /// No other task may hold a part that overlaps it.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part outside of the slice");
        // SAFETY: the range is inside the borrowed slice, and the caller promises that it is not shared.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) }
    }

    /// The address of element `start`, for kernels that write strided tiles.
    pub(crate) fn at(&self, start: usize) -> *mut T {
        assert!(start <= self.len, "tile outside of the slice");
        // SAFETY: the offset is within the borrowed slice or one past its end.
        unsafe { self.base.add(start) }
    }
}

/// Multiply-adds below which a product is not worth splitting.
const MIN_TASK_MACS: usize = 32 * 1024;

/// Output columns by task, a multiple of `unit`, and the number of tasks. Decides speed only, never results.
pub(crate) fn split(
    out: usize,
    macs_per_column: usize,
    unit: usize,
    threads: usize,
) -> (usize, usize) {
    // Four tasks for each thread even out what the operating system takes away.
    let wanted = if threads == 1 { 1 } else { threads * 4 };
    let least = (MIN_TASK_MACS / macs_per_column.max(1)).max(1);
    let columns = out.div_ceil(wanted).max(least).next_multiple_of(unit);
    (columns, out.div_ceil(columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads);
            for n_tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<_> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(n_tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_loops_in_a_row_leave_nothing_behind() {
        let pool = Pool::new(4);
        let mut data = vec![0u32; 1_000];
        for _ in 0..2_000 {
            pool.chunks_mut(&mut data, 7, |_, part| part.iter_mut().for_each(|v| *v += 1));
        }
        assert!(data.iter().all(|v| *v == 2_000));
    }

    #[test]
    fn a_loop_inside_a_task_and_loops_from_two_threads_run() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    pool.run(10, |_| {
                        pool.run(10, |_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 200);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(50, |i| assert!(i != 20, "task twenty"));
        }));
        assert!(caught.is_err());
        let count = AtomicUsize::new(0);
        pool.run(50, |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 50);
    }
}
