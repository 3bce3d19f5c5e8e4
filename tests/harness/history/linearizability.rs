//! Whether operations that overlapped can have been carried out one after the other, each at one
//! moment between its question and its answer.
//!
//! The search is that of Wing and Gong with the memory of Lowe: it takes the questions in the order
//! of time and tries to carry out each that no answer yet forbids to wait; where it gets stuck it
//! goes back. A set of operations carried out that led to the same state before is not tried again.

use std::collections::HashSet;
use std::hash::Hash;

/// The most attempts before the search is given up.
const ATTEMPTS_MAX: u64 = 20_000_000;

/// What operations do, one after the other.
pub trait Model {
    /// What an operation is.
    type Operation;
    /// What it acts on.
    type State: Clone + Eq + Hash;

    /// The state before all operations.
    fn initial(&self) -> Self::State;

    /// The state after an operation; none if it cannot have had its outcome in this state.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// An operation and when it was on its way.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    /// When it was asked.
    pub start_ns: u64,
    /// When it was answered; none if it never was: then it may have been done at any time, or not.
    pub end_ns: Option<u64>,
    /// What it was.
    pub operation: O,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none. The number is that of the operation whose answer no order explains, among
    /// those that came furthest.
    Impossible(usize),
    /// It takes too long to tell.
    GivenUp,
}

/// Looks for an order.
pub fn check<M: Model>(model: &M, operations: &[Timed<M::Operation>]) -> Verdict {
    Search::new(model, operations).run()
}

/// The moments at which operations begin and end, in the order of time, as a linked list from which
/// those that have been carried out are taken.
struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Timed<M::Operation>],
    /// Two moments per operation: at `2 * n` its question, at `2 * n + 1` its answer.
    next: Vec<usize>,
    previous: Vec<usize>,
    head: usize,
    done: Vec<u64>,
    done_count: usize,
    seen: HashSet<(Vec<u64>, M::State)>,
    stack: Vec<(usize, M::State)>,
    furthest: (usize, usize),
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [Timed<M::Operation>]) -> Self {
        let count = operations.len();
        let (head, tail) = (2 * count, 2 * count + 1);
        let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * count);
        for (number, operation) in operations.iter().enumerate() {
            // At the same time, questions come before answers: whoever might overlap does.
            moments.push((operation.start_ns, false, 2 * number));
            let end_ns = operation.end_ns.unwrap_or(u64::MAX);
            moments.push((end_ns, true, 2 * number + 1));
        }
        moments.sort_unstable();
        let mut next = vec![tail; 2 * count + 2];
        let mut previous = vec![head; 2 * count + 2];
        let mut last = head;
        for (_, _, moment) in moments {
            next[last] = moment;
            previous[moment] = last;
            last = moment;
        }
        next[last] = tail;
        previous[tail] = last;
        let done = vec![0; count.div_ceil(64)];
        let (seen, stack) = (HashSet::new(), Vec::new());
        Self {
            model,
            operations,
            next,
            previous,
            head,
            done,
            done_count: 0,
            seen,
            stack,
            furthest: (0, 0),
        }
    }

    fn run(mut self) -> Verdict {
        let answered = self.operations.iter().filter(|operation| operation.end_ns.is_some());
        let answered = answered.count();
        let mut answered_done = 0;
        let mut state = self.model.initial();
        let mut moment = self.next[self.head];
        for _ in 0..ATTEMPTS_MAX {
            if answered_done == answered {
                return Verdict::Linearizable;
            }
            let number = moment / 2;
            let is_answer = moment % 2 == 1 || number >= self.operations.len();
            if !is_answer {
                let operation = &self.operations[number];
                if let Some(after) = self.model.step(&state, &operation.operation)
                    && self.is_new(number, &after)
                {
                    self.stack.push((number, std::mem::replace(&mut state, after)));
                    self.take(number);
                    answered_done += usize::from(operation.end_ns.is_some());
                    moment = self.next[self.head];
                    continue;
                }
                moment = self.next[moment];
                continue;
            }
            // An answer whose operation cannot wait any longer: something before went wrong.
            if self.done_count >= self.furthest.0 && number < self.operations.len() {
                self.furthest = (self.done_count, number);
            }
            let Some((number, before)) = self.stack.pop() else {
                return Verdict::Impossible(self.furthest.1);
            };
            state = before;
            self.put_back(number);
            answered_done -= usize::from(self.operations[number].end_ns.is_some());
            moment = self.next[2 * number];
        }
        Verdict::GivenUp
    }

    /// Whether these operations with this one never led to this state before.
    fn is_new(&mut self, number: usize, after: &M::State) -> bool {
        let mut done = self.done.clone();
        done[number / 64] |= 1 << (number % 64);
        self.seen.insert((done, after.clone()))
    }

    fn take(&mut self, number: usize) {
        for moment in [2 * number, 2 * number + 1] {
            let (before, after) = (self.previous[moment], self.next[moment]);
            self.next[before] = after;
            self.previous[after] = before;
        }
        self.done[number / 64] |= 1 << (number % 64);
        self.done_count += 1;
    }

    fn put_back(&mut self, number: usize) {
        for moment in [2 * number + 1, 2 * number] {
            let (before, after) = (self.previous[moment], self.next[moment]);
            self.next[before] = moment;
            self.previous[after] = moment;
        }
        self.done[number / 64] &= !(1 << (number % 64));
        self.done_count -= 1;
    }
}
